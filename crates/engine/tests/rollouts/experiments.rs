//! Versions of an experiment that get a share of the requests while it runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::RolloutSpec;
use serin_api::units::Weight;
use serin_engine::invariants;
use serin_engine::rollout::{Action, ExperimentView, Observed, Plan, plan};

use crate::views::{hash, now, revision, routed, shown, spec, view};

fn strategy(port: bool) -> (Value, Vec<Value>) {
    let templates = json!([
        {"name": "base", "specRef": "stable", "weight": 10, "service": {"name": "baseline"}},
        {"name": "trial", "specRef": "canary", "weight": 5},
        {"name": "aside", "specRef": "canary"},
    ]);
    let steps = json!([{"setWeight": 25}, {"experiment": {"templates": templates}}, {"pause": {}}]);
    let ports = port.then(|| json!({"containerPort": 8080}));
    (routed(steps), ports.into_iter().collect())
}

fn version(version: &str, (strategy, ports): &(Value, Vec<Value>)) -> RolloutSpec {
    let mut made = spec(version, 4, strategy.clone());
    let ports = serde_json::from_value(json!(ports)).unwrap();
    let pod = made.template.as_mut().unwrap().spec.as_mut().unwrap();
    pod.containers[0].ports = Some(ports);
    made
}

/// At the step of the experiment, which is not there yet.
fn at_the_step(port: bool) -> (RolloutSpec, Observed) {
    let strategy = strategy(port);
    let (v1, v2) = (version("1", &strategy), version("2", &strategy));
    let sets = vec![revision(&v1, 1, 4, 4), revision(&v2, 2, 1, 1)];
    let mut observed = view(sets, &v1, &[("stable", &v1), ("canary", &v2)], 25);
    observed.status = plan(&v2, &observed, now()).status;
    observed.status.current_step_index = Some(1);
    (v2, observed)
}

fn sound(spec: &RolloutSpec, observed: &Observed) -> Plan {
    let plan = plan(spec, observed, now());
    assert_eq!(invariants::check(spec, observed, &plan), []);
    plan
}

fn seen(v2: &RolloutSpec, name: &str, phase: AnalysisPhase) -> ExperimentView {
    let services = [("base", "baseline"), ("trial", "web-trial")];
    let services = services.map(|(version, service)| (version.to_owned(), service.to_owned()));
    ExperimentView {
        name: name.into(),
        revision: hash(v2),
        phase,
        message: None,
        created: now(),
        terminating: false,
        services: BTreeMap::from(services),
        in_routes: true,
    }
}

#[test]
fn the_versions_of_an_experiment_have_their_share_while_it_runs() {
    let (v2, mut observed) = at_the_step(true);
    let begun = sound(&v2, &observed);
    let started = begun.actions.iter().find_map(|action| match action {
        Action::StartExperiment {
            name,
            in_routes: true,
            spec,
            ..
        } => Some((name.clone(), spec.clone())),
        _ => None,
    });
    let (name, made) = started.unwrap();
    // A version with a share has a Service, whether it names one or not.
    let services = made.templates.iter().map(|t| t.service.is_some());
    assert_eq!(services.collect::<Vec<_>>(), [true, true, false]);
    observed.status = begun.status;
    observed.experiments = vec![seen(&v2, &name, AnalysisPhase::Pending)];
    assert_eq!(shown(&sound(&v2, &observed)), Vec::<String>::new());
    observed.experiments[0].phase = AnalysisPhase::Running;
    let running = sound(&v2, &observed);
    assert_eq!(
        shown(&running),
        ["send 25 % of web to the canary, 10 % to baseline, 5 % to web-trial"]
    );
    let told = running.status.canary.weights.unwrap();
    assert_eq!((told.canary.weight, told.stable.weight), (25, 60));
    assert_eq!(told.additional.len(), 2);
    // Once they are set and the experiment is over, they go before its versions do.
    let shares = [("baseline", 10), ("web-trial", 5)];
    let shares = shares.map(|(service, share)| (service.to_owned(), Weight::new(share).unwrap()));
    observed.routes.values_mut().next().unwrap().additional = shares.to_vec();
    observed.experiments[0].phase = AnalysisPhase::Successful;
    let over = sound(&v2, &observed);
    assert_eq!(over.status.current_step_index, Some(2));
    observed.status = over.status;
    assert_eq!(
        shown(&sound(&v2, &observed)),
        ["send 25 % of web to the canary"]
    );
    let route = observed.routes.values_mut().next().unwrap();
    (route.additional, route.acknowledged) = (Vec::new(), false);
    assert_eq!(shown(&sound(&v2, &observed)), Vec::<String>::new());
    observed.routes.values_mut().next().unwrap().acknowledged = true;
    let free = format!("no route leads to experiment {name}");
    assert_eq!(shown(&sound(&v2, &observed)), [free]);
}

#[test]
fn an_abort_takes_the_shares_of_an_experiment_back() {
    let (v2, mut observed) = at_the_step(true);
    let name = sound(&v2, &observed)
        .status
        .canary
        .current_experiment
        .unwrap();
    observed.experiments = vec![seen(&v2, &name, AnalysisPhase::Running)];
    let share = ("baseline".to_owned(), Weight::new(10).unwrap());
    observed.routes.values_mut().next().unwrap().additional = vec![share];
    observed.status.canary.current_experiment = Some(name.clone());
    observed.status.abort = true;
    let back = shown(&sound(&v2, &observed));
    assert!(
        back.contains(&"send 0 % of web to the canary".to_owned()),
        "{back:?}"
    );
    assert!(
        back.contains(&format!("stop experiment {name}")),
        "{back:?}"
    );
}

#[test]
fn a_version_that_nobody_could_reach_is_named() {
    let (v2, observed) = at_the_step(false);
    let message = sound(&v2, &observed).waiting_on.to_string();
    let why = "version \"base\" gets a share of the requests, but no container names a port";
    assert!(message.contains(why), "{message}");
}
