use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A cluster with one experiment in it.
struct World {
    spec: ExperimentSpec,
    observed: Observed,
    now: Timestamp,
    beginning: Timestamp,
    story: Vec<String>,
    /// What every analysis comes to, three seconds after its start.
    outcome: AnalysisPhase,
    /// Versions with this name never become available.
    broken: &'static str,
    started: BTreeMap<String, Timestamp>,
}

impl World {
    fn new(spec: Value) -> Self {
        let beginning = Timestamp::constant(1_800_000_000, 0);
        let template =
            serde_json::from_value(json!({"args": [{"name": "hash"}], "metrics": [{"name": "m"}]}));
        let templates = BTreeMap::from([((false, "t".to_owned()), template.unwrap())]);
        Self {
            spec: serde_json::from_value(spec).unwrap(),
            observed: Observed {
                name: "x".into(),
                templates,
                ..Observed::default()
            },
            now: beginning,
            beginning,
            story: Vec::new(),
            outcome: AnalysisPhase::Successful,
            broken: "",
            started: BTreeMap::new(),
        }
    }

    fn tell(&mut self, what: &str) {
        let second = self.now.duration_since(self.beginning).as_secs();
        self.story.push(format!("{second}s {what}"));
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::CreateSet(set) => {
                let name = set.metadata.name.clone().unwrap();
                let desired = set.spec.as_ref().unwrap().replicas.unwrap();
                let view = SetView {
                    desired: u32::try_from(desired).unwrap(),
                    ..SetView::default()
                };
                self.tell(&format!("make {name}"));
                self.observed.sets.entry(name).or_insert(Seen::Ours(view));
            }
            Action::Scale { set, to } => {
                self.tell(&format!("scale {set} to {to}"));
                self.on(set, |view| view.desired = *to);
            }
            Action::KeepUntil { set, until } => {
                self.on(set, |view| view.keep_until = Some(*until));
            }
            Action::CreateService(service) => {
                let name = service.metadata.name.clone().unwrap();
                self.tell(&format!("make Service {name}"));
                self.observed.services.insert(name, Seen::Ours(()));
            }
            Action::DeleteService { name } => {
                self.tell(&format!("delete Service {name}"));
                self.observed.services.remove(name);
            }
            Action::StartRun { name, spec } => {
                let args = spec.args.iter().filter_map(|a| a.value.as_deref());
                let args = args.collect::<Vec<_>>().join(" ");
                self.tell(&format!("start {name} with {args}"));
                self.started.entry(name.clone()).or_insert(self.now);
                let runs = &mut self.observed.runs;
                runs.entry(name.clone())
                    .or_insert(Seen::Ours(RunView::default()));
            }
            Action::StopRun { name } => {
                self.tell(&format!("stop {name}"));
                if let Some(Seen::Ours(run)) = self.observed.runs.get_mut(name) {
                    run.terminating = true;
                }
            }
        }
    }

    fn on(&mut self, set: &str, change: impl FnOnce(&mut SetView)) {
        if let Some(Seen::Ours(view)) = self.observed.sets.get_mut(set) {
            change(view);
        }
    }

    /// A second passes: instances come and go, analyses end.
    fn move_on(&mut self) {
        self.now += SignedDuration::from_secs(1);
        for (name, set) in &mut self.observed.sets {
            if let Seen::Ours(view) = set {
                view.replicas = view.desired;
                let comes = if name.ends_with(self.broken) && !self.broken.is_empty() {
                    0
                } else {
                    1
                };
                view.available = (view.available + comes).min(view.desired);
                view.ready = view.available;
            }
        }
        for (name, run) in &mut self.observed.runs {
            if let (Seen::Ours(run), Some(started)) = (run, self.started.get(name)) {
                if run.terminating {
                    run.phase = AnalysisPhase::Successful;
                } else if self.now.duration_since(*started).as_secs() >= 3 {
                    run.phase = self.outcome;
                    run.message =
                        (self.outcome != AnalysisPhase::Successful).then(|| "because".to_owned());
                }
            }
        }
    }

    /// One pass, of which only the first `done` actions are carried out, and the status only after all of them.
    fn pass(&mut self, done: usize) {
        let plan = plan(&self.spec, &self.observed, self.now);
        for action in plan.actions.iter().take(done) {
            self.apply(action);
        }
        if done < plan.actions.len() {
            return;
        }
        if plan.status.phase != self.observed.status.phase {
            let why = plan.status.message.clone().unwrap_or_default();
            self.tell(&format!(
                "{:?} {why}",
                plan.status.phase.unwrap_or_default()
            ));
        }
        self.observed.status = plan.status;
    }

    fn run(&mut self, seconds: usize) -> String {
        for _ in 0..seconds {
            self.pass(usize::MAX);
            self.move_on();
        }
        self.story.join("\n") + "\n"
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let plan = plan(&self.spec, &self.observed, self.now);
        prop_assert_eq!(broken_rules(&self.observed, &plan), Vec::<String>::new());
        Ok(())
    }
}

fn versions() -> Value {
    let version = |name: &str| {
        json!({
            "name": name, "replicas": 2, "service": {}, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": name, "ports": [{"containerPort": 80}]}]},
            },
        })
    };
    json!([version("a"), version("b")])
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"templates": versions(), "scaleDownDelaySeconds": 5});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    spec
}

fn analysis(required: bool) -> Value {
    json!([{
        "name": "compare", "templateName": "t", "requiredForCompletion": required,
        "args": [{"name": "hash", "value": "{{templates.a.replicaset.name}}"}],
    }])
}

#[test]
fn a_time_that_passes_is_a_success() {
    let mut world = World::new(spec(json!({"duration": "4s"})));
    expect![[r#"
        0s make x-a
        0s make x-b
        0s Pending 
        1s make Service x-a
        1s make Service x-b
        2s Running 
        6s Successful its time is over
        11s scale x-a to 0
        11s scale x-b to 0
        12s delete Service x-a
        12s delete Service x-b
    "#]]
    .assert_eq(&world.run(20));
    assert_eq!(plan(&world.spec, &world.observed, world.now).actions, []);
}

#[test]
fn the_time_counts_from_when_all_are_available_and_a_required_analysis_is_waited_for() {
    let required = json!({"duration": "1s", "analyses": analysis(true)});
    let mut world = World::new(spec(required));
    expect![[r#"
        0s make x-a
        0s make x-b
        0s Pending 
        1s make Service x-a
        1s make Service x-b
        2s start x-compare with x-a
        2s Running 
        5s Successful the required analyses are good
        10s scale x-a to 0
        10s scale x-b to 0
        11s delete Service x-a
        11s delete Service x-b
    "#]]
    .assert_eq(&world.run(20));
}

#[test]
fn an_analysis_that_is_not_required_is_ended_with_the_experiment() {
    let mut world = World::new(spec(json!({"duration": "2s", "analyses": analysis(false)})));
    let story = world.run(20);
    assert!(
        story.contains("4s Successful its time is over\n4s stop x-compare")
            || story.contains("4s stop x-compare\n4s Successful"),
        "{story}"
    );
}

#[test]
fn the_first_bad_analysis_ends_it() {
    for outcome in [
        AnalysisPhase::Failed,
        AnalysisPhase::Error,
        AnalysisPhase::Inconclusive,
    ] {
        let mut world = World::new(spec(json!({"duration": "1h", "analyses": analysis(false)})));
        world.outcome = outcome;
        world.run(20);
        let status = &world.observed.status;
        assert_eq!(status.phase, Some(outcome));
        assert_eq!(
            status.message.as_deref(),
            Some("analysis \"compare\": because")
        );
        assert!(world.observed.services.is_empty());
    }
}

#[test]
fn a_version_that_does_not_come_fails_it_in_time() {
    let mut world = World::new(spec(json!({"progressDeadlineSeconds": 10})));
    world.broken = "b";
    world.run(30);
    let status = &world.observed.status;
    assert_eq!(status.phase, Some(AnalysisPhase::Failed));
    let phases: Vec<_> = status.template_statuses.iter().map(|s| s.status).collect();
    assert_eq!(
        phases,
        [Some(TemplatePhase::Successful), Some(TemplatePhase::Failed)]
    );
    let why = status.message.as_deref().unwrap();
    assert!(
        why.contains("\"b\" has 0 of 2 instances available") && why.contains("10 s"),
        "{why}"
    );
}

#[test]
fn without_a_duration_it_lasts_until_somebody_ends_it() {
    let mut world = World::new(spec(json!({})));
    world.run(500);
    assert_eq!(world.observed.status.phase, Some(AnalysisPhase::Running));
    world.spec.terminate = Some(true);
    world.run(20);
    assert_eq!(world.observed.status.phase, Some(AnalysisPhase::Successful));
    let scaled = world
        .observed
        .sets
        .values()
        .all(|s| s.ours().is_some_and(|s| s.desired == 0));
    assert!(scaled);
}

#[test]
fn what_cannot_begin_is_told_at_once() {
    let missing = json!([{"name": "compare", "templateName": "nowhere"}]);
    let mut world = World::new(spec(json!({"analyses": missing})));
    world.run(2);
    let status = &world.observed.status;
    assert_eq!(status.phase, Some(AnalysisPhase::Error));
    assert!(
        status
            .message
            .as_deref()
            .unwrap()
            .contains("\"nowhere\" not found")
    );

    let mut world = World::new(spec(json!({})));
    world.observed.sets.insert("x-a".into(), Seen::Foreign);
    world.run(2);
    let status = &world.observed.status;
    assert_eq!(status.phase, Some(AnalysisPhase::Error));
    assert_eq!(
        status.message.as_deref(),
        Some("ReplicaSet \"x-a\" is somebody else's")
    );
}

#[test]
fn dry_runs_and_retention_of_an_experiment_are_those_of_its_runs() {
    let metric = json!([{"metricName": "m"}]);
    let kept = json!([{"metricName": "m", "limit": 3}]);
    let mut world = World::new(spec(
        json!({"analyses": analysis(true), "dryRun": metric, "measurementRetention": kept}),
    ));
    for _ in 0..10 {
        let plan = plan(&world.spec, &world.observed, world.now);
        let started = plan.actions.iter().find_map(|action| match action {
            Action::StartRun { spec, .. } => Some(spec.clone()),
            _ => None,
        });
        if let Some(run) = started {
            assert_eq!(run.dry_run, world.spec.dry_run);
            assert_eq!(run.measurement_retention, world.spec.measurement_retention);
            return;
        }
        world.run(1);
    }
    unreachable!("no analysis was started");
}

#[test]
fn no_service_of_a_rollout_leads_to_a_version_of_an_experiment() {
    let world = World::new(spec(json!({})));
    let plan = plan(&world.spec, &world.observed, world.now);
    let hash = plan.status.template_statuses[0]
        .pod_template_hash
        .clone()
        .unwrap();
    let of_a_rollout = crate::hash::template_hash(&world.spec.templates[0].template, 0);
    assert_ne!(hash, of_a_rollout.as_str());
}

proptest! {
    /// Killed anywhere, any number of times, an experiment comes to the same end.
    #[test]
    fn a_kill_at_any_action_changes_no_end(kills in prop::collection::vec(0_usize..5, 0..60), required: bool, outcome in 0..4) {
        let outcome = [AnalysisPhase::Successful, AnalysisPhase::Failed, AnalysisPhase::Error, AnalysisPhase::Inconclusive][outcome as usize];
        let make = || {
            let mut world = World::new(spec(json!({"duration": "8s", "analyses": analysis(required)})));
            world.outcome = outcome;
            world
        };
        let mut world = make();
        for done in kills {
            world.check()?;
            world.pass(done);
            world.move_on();
        }
        for _ in 0..60 {
            world.check()?;
            world.pass(usize::MAX);
            world.move_on();
        }
        let mut calm = make();
        calm.run(120);
        prop_assert_eq!(world.observed.status.phase, calm.observed.status.phase);
        prop_assert_eq!(&world.observed.services, &calm.observed.services);
        for set in world.observed.sets.values() {
            prop_assert_eq!(set.ours().map(|s| s.desired), Some(0));
        }
    }
}
