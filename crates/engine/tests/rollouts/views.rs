//! Specs and views, as short as a test needs them.

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::{Value, json};
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{PodMetadata, RolloutSpec, Route};
use serin_api::units::{RevisionHash, Weight};
use serin_engine::hash::template_hash;
use serin_engine::rollout::{
    Action, History, Observed, Plan, Revision, Role, RouteView, RunView, ServiceView, plan,
};

pub(crate) fn spec(version: &str, replicas: u32, strategy: Value) -> RolloutSpec {
    let labels = json!({"app": "web", "version": version});
    serde_json::from_value(json!({
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}},
    }))
    .unwrap()
}

pub(crate) fn routed(steps: Value) -> Value {
    json!({"canary": {
        "stableService": "stable", "canaryService": "canary", "steps": steps,
        "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
    }})
}

pub(crate) fn hash(spec: &RolloutSpec) -> RevisionHash {
    template_hash(spec.template.as_ref().unwrap(), 0)
}

pub(crate) fn revision(spec: &RolloutSpec, number: u64, desired: u32, available: u32) -> Revision {
    Revision {
        hash: hash(spec),
        number,
        desired,
        replicas: desired,
        ready: available,
        available,
        template: Arc::new(spec.template.clone().unwrap()),
        source: None,
        created: now() + SignedDuration::from_secs(i64::try_from(number).unwrap()),
        min_ready_seconds: 0,
        metadata: Some(PodMetadata::default()),
        keep_until: None,
        history: History::default(),
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A view in which everything that is set is served.
pub(crate) fn view(
    revisions: Vec<Revision>,
    stable: &RolloutSpec,
    services: &[(&str, &RolloutSpec)],
    weight: i32,
) -> Observed {
    let mut observed = Observed {
        name: "web".into(),
        generation: 1,
        revisions,
        ..Observed::default()
    };
    observed.status.stable_rs = Some(hash(stable).as_str().into());
    for revision in &mut observed.revisions {
        if revision.hash == hash(stable) {
            revision.history.promoted_at = Some(now());
        }
    }
    for (name, spec) in services {
        let view = ServiceView {
            revision: Some(hash(spec)),
            acknowledged: true,
            taken_by: None,
        };
        observed.services.insert((*name).into(), view);
    }
    let route = RouteView {
        canary: Weight::new(weight),
        exact: true,
        acknowledged: true,
        ..RouteView::default()
    };
    observed
        .routes
        .insert(Route::HttpRoute("web".into()), route);
    observed
}

/// Plans until the status stays, in a world that does not move.
pub(crate) fn settled(spec: &RolloutSpec, observed: &mut Observed, at: Timestamp) -> Plan {
    let mut last = plan(spec, observed, at);
    for _ in 0..5 {
        observed.status = last.status;
        last = plan(spec, observed, at);
    }
    last
}

/// The analysis that a plan begins.
pub(crate) fn begun(plan: &Plan) -> Option<String> {
    plan.actions.iter().find_map(|action| match action {
        Action::StartRun { name, .. } => Some(name.clone()),
        _ => None,
    })
}

/// An analysis of a revision that has come so far.
pub(crate) fn run(name: &str, role: Role, of: &RolloutSpec, phase: AnalysisPhase) -> RunView {
    RunView {
        name: name.to_owned(),
        role,
        revision: hash(of),
        phase,
        message: None,
        created: now(),
        terminating: false,
    }
}

pub(crate) fn shown(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).collect()
}
