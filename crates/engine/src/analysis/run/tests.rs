use super::*;
use serde_json::json;
use serin_api::analysis::DryRun;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn spec(metrics: serde_json::Value) -> AnalysisRunSpec {
    serde_json::from_value(json!({ "metrics": metrics })).unwrap()
}

/// Runs through the values of one metric, a second apart, and gives the phase after each.
fn course(metric: serde_json::Value, values: &[Measured]) -> Vec<AnalysisPhase> {
    let spec = spec(json!([metric]));
    let mut status = AnalysisRunStatus::default();
    let mut phases = Vec::new();
    for (i, measured) in values.iter().enumerate() {
        let now = at(i as i64 * 20);
        let step = plan(&spec, &status, now);
        let Some(order) = step.measure.first() else {
            break;
        };
        status = record(&spec, &step.status, order, measured, now, now);
        phases.push(status.phase);
    }
    phases
}

fn value(number: f64) -> Measured {
    Measured::Value(MetricValue::Number(number))
}

use AnalysisPhase::{Error, Failed, Inconclusive, Running, Successful};

#[test]
fn a_limit_trips_when_it_is_exceeded() {
    let metric = json!({"name": "m", "interval": "1s", "count": 5, "failureLimit": 1, "successCondition": "result < 1"});
    assert_eq!(
        course(metric, &[value(2.0), value(0.0), value(2.0)]),
        [Running, Running, Failed]
    );
}

#[test]
fn minus_one_never_trips_and_the_count_ends_it() {
    let metric = json!({"name": "m", "interval": "1s", "count": 2, "failureLimit": -1, "successCondition": "result < 1"});
    assert_eq!(
        course(metric, &[value(2.0), value(2.0)]),
        [Running, Successful]
    );
}

#[test]
fn without_interval_and_count_one_measurement_decides() {
    assert_eq!(
        course(
            json!({"name": "m", "successCondition": "result < 1"}),
            &[value(0.0), value(9.0)]
        ),
        [Successful]
    );
}

#[test]
fn an_outage_of_the_source_is_not_a_bad_metric() {
    let down = || Measured::Unavailable("connection refused".into());
    let metric =
        json!({"name": "m", "interval": "1s", "count": 1, "successCondition": "result < 1"});
    assert_eq!(
        course(metric.clone(), &[down(), down(), value(0.0)]),
        [Running, Running, Successful]
    );
    assert_eq!(
        course(metric, &[down(), down(), down(), down(), down()]),
        [Running, Running, Running, Running, Error]
    );
}

#[test]
fn too_little_data_is_inconclusive() {
    let none = Measured::Value(MetricValue::NoData("3 of 50 requests".into()));
    let metric = json!({"name": "m", "interval": "1s", "count": 3, "inconclusiveLimit": 1, "successCondition": "result < 1"});
    assert_eq!(
        course(metric, &[none.clone(), value(0.0), none]),
        [Running, Running, Inconclusive]
    );
}

#[test]
fn intervals_and_delays_are_kept() {
    let spec = spec(
        json!([{"name": "m", "initialDelay": "5s", "interval": "30s", "count": 2, "successCondition": "true"}]),
    );
    let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
    assert_eq!((first.measure.len(), first.wake_at), (0, Some(at(5))));
    let due = plan(&spec, &first.status, at(5));
    let status = record(
        &spec,
        &due.status,
        &due.measure[0],
        &value(1.0),
        at(5),
        at(6),
    );
    assert_eq!(plan(&spec, &status, at(7)).wake_at, Some(at(36)));
}

#[test]
fn an_interval_below_a_second_survives_being_stored() {
    let spec =
        spec(json!([{"name": "m", "interval": "500ms", "count": 2, "successCondition": "true"}]));
    let soon = at(0) + SignedDuration::from_millis(700);
    let due = plan(&spec, &AnalysisRunStatus::default(), soon);
    let status = record(&spec, &due.status, &due.measure[0], &value(1.0), soon, soon);
    let stored: AnalysisRunStatus =
        serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    let next = plan(&spec, &stored, soon);
    assert_eq!(
        (next.measure.len(), next.wake_at),
        (0, Some(soon + SignedDuration::from_millis(500)))
    );
}

#[test]
fn the_first_bad_metric_ends_the_run_and_dry_runs_do_not() {
    let mut spec = spec(json!([
        {"name": "dry", "interval": "1s", "failureCondition": "true"},
        {"name": "good", "interval": "1s", "successCondition": "true"},
        {"name": "bad", "interval": "1s", "failureCondition": "true"},
    ]));
    spec.dry_run = vec![DryRun {
        metric_name: "dry".into(),
    }];
    let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
    let mut status = first.status;
    for order in &first.measure {
        status = record(&spec, &status, order, &value(0.0), at(0), at(0));
        let expected = if order.metric.name == "bad" {
            Failed
        } else {
            Running
        };
        assert_eq!(status.phase, expected, "{}", order.metric.name);
    }
    assert!(status.message.unwrap().contains("\"bad\""));
    assert_eq!(status.run_summary.unwrap().successful, 1);
}

#[test]
fn a_run_that_is_told_to_end_is_good_unless_it_was_bad() {
    let mut spec = spec(json!([{"name": "m", "interval": "1s", "successCondition": "true"}]));
    spec.terminate = Some(true);
    assert_eq!(
        plan(&spec, &AnalysisRunStatus::default(), at(0))
            .status
            .phase,
        Successful
    );
}

#[test]
fn a_finished_run_expires() {
    let mut spec = spec(json!([]));
    spec.ttl_strategy =
        Some(serde_json::from_value(json!({"secondsAfterCompletion": 60})).unwrap());
    let done = plan(&spec, &AnalysisRunStatus::default(), at(0));
    assert_eq!(
        (done.status.phase, done.wake_at, done.expired),
        (Successful, Some(at(60)), false)
    );
    assert!(plan(&spec, &done.status, at(60)).expired);
}

#[test]
fn rules_name_metrics_by_pattern_and_one_that_matches_none_is_an_error() {
    let mut spec = spec(json!([
        {"name": "p95-web", "interval": "1s", "failureCondition": "true"},
        {"name": "errors", "interval": "1s", "successCondition": "true"},
    ]));
    let pattern = |text: &str| DryRun {
        metric_name: text.into(),
    };
    spec.dry_run = vec![pattern("^p9[59]")];
    spec.measurement_retention =
        vec![serde_json::from_value(json!({"metricName": "err.*", "limit": 2})).unwrap()];
    let mut status = AnalysisRunStatus::default();
    for i in 0..4 {
        let step = plan(&spec, &status, at(i * 20));
        status = step.status;
        for order in &step.measure {
            status = record(&spec, &status, order, &value(1.0), at(i * 20), at(i * 20));
        }
    }
    assert_eq!(
        (status.phase, status.metric_results[0].phase),
        (Running, Failed)
    );
    assert_eq!(status.metric_results[1].measurements.len(), 2);
    for wrong in ["gone", "("] {
        spec.dry_run = vec![pattern(wrong)];
        let ended = plan(&spec, &AnalysisRunStatus::default(), at(0)).status;
        assert_eq!(ended.phase, Error);
        assert!(ended.message.unwrap().contains("dryRun[0]"), "{wrong}");
    }
}

#[test]
fn a_measurement_that_goes_on_is_one_measurement() {
    let spec = spec(json!([{"name": "job", "interval": "1s", "count": 1}]));
    let kept: BTreeMap<_, _> = [("job-name".to_owned(), "j-1".to_owned())].into();
    let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
    assert_eq!(
        (first.measure[0].number, &first.measure[0].begun),
        (1, &None)
    );
    let begun = Measured::Begun(kept.clone());
    let status = record(
        &spec,
        &first.status,
        &first.measure[0],
        &begun,
        at(0),
        at(1),
    );
    let again = plan(&spec, &status, at(30));
    assert_eq!(
        (again.measure[0].number, &again.measure[0].begun),
        (1, &Some(kept))
    );
    let done = Measured::Verdict(Judgement::because(Successful, "it completed"));
    let status = record(
        &spec,
        &again.status,
        &again.measure[0],
        &done,
        at(30),
        at(31),
    );
    let [measurement] = status.metric_results[0].measurements.as_slice() else {
        panic!("{status:#?}")
    };
    assert_eq!(
        (status.phase, measurement.started_at.as_ref().unwrap().0),
        (Successful, at(0))
    );
}

#[test]
fn a_run_that_ends_leaves_nothing_going_on() {
    let mut spec = spec(json!([{"name": "job"}]));
    let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
    let begun = Measured::Begun(BTreeMap::new());
    let status = record(
        &spec,
        &first.status,
        &first.measure[0],
        &begun,
        at(0),
        at(1),
    );
    spec.terminate = Some(true);
    let ended = plan(&spec, &status, at(2)).status;
    assert_eq!(ended.phase, Successful);
    assert_eq!(ended.metric_results[0].measurements[0].phase, Inconclusive);
}

#[test]
fn a_run_of_nothing_but_errors_is_not_good_because_it_was_ended() {
    let mut spec = spec(json!([{"name": "m", "interval": "1s", "successCondition": "true"}]));
    let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
    let down = Measured::Unavailable("connection refused".into());
    let status = record(&spec, &first.status, &first.measure[0], &down, at(0), at(0));
    spec.terminate = Some(true);
    assert_eq!(plan(&spec, &status, at(1)).status.phase, Error);
}

#[test]
fn good_ones_in_a_row_end_it_early_and_their_absence_leaves_it_open() {
    let metric = json!({"name": "m", "interval": "1s", "count": 4, "failureLimit": -1,
        "consecutiveSuccessLimit": 2, "successCondition": "result < 1"});
    let (good, bad) = (|| value(0.0), || value(2.0));
    assert_eq!(
        course(metric.clone(), &[good(), bad(), good(), good()]),
        [Running, Running, Running, Successful]
    );
    assert_eq!(
        course(metric, &[good(), bad(), good(), bad()]),
        [Running, Running, Running, Inconclusive]
    );
}

#[test]
fn what_cannot_be_read_is_told_and_never_taken_for_a_default() {
    let mut spec = spec(json!([{"name": "m", "count": "{{args.n}}", "interval": "{{args.n}}"}]));
    spec.args = vec![serde_json::from_value(json!({"name": "n", "value": "many"})).unwrap()];
    let ended = plan(&spec, &AnalysisRunStatus::default(), at(0)).status;
    assert_eq!(ended.phase, Error);
    let message = ended.message.unwrap();
    assert!(message.contains("count must be") && message.contains("interval \"many\""));
}

#[test]
fn a_template_that_changes_does_not_change_a_run() {
    // The run holds everything: a second plan from the stored object is the same plan.
    let spec = spec(
        json!([{"name": "m", "interval": "1s", "count": 3, "successCondition": "result < 1"}]),
    );
    let first = plan(&spec, &AnalysisRunStatus::default(), at(0));
    let stored: AnalysisRunSpec =
        serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
    assert_eq!(plan(&stored, &AnalysisRunStatus::default(), at(0)), first);
}

/// The totals of the gateway after each look: requests and errors of the canary and of stable.
fn judged(serin: serde_json::Value, totals: &[[u64; 4]]) -> AnalysisRunStatus {
    use serin_api::traffic::Counts;
    let count = totals.len() + 1;
    let spec = spec(
        json!([{"name": "m", "interval": "10s", "count": count, "provider": {"serin": serin}}]),
    );
    let mut status = AnalysisRunStatus::default();
    let counts = |requests: u64, errors: u64| Counts {
        status: [0, requests - errors, 0, 0, errors],
        ..Counts::default()
    };
    for (i, [canary, bad, stable, stable_bad]) in totals.iter().enumerate() {
        let now = at(i as i64 * 10);
        let step = plan(&spec, &status, now);
        let Some(order) = step.measure.first() else {
            break;
        };
        let traffic = Traffic {
            canary: counts(*canary, *bad),
            stable: counts(*stable, *stable_bad),
            since: at(-1000),
        };
        let measured = Measured::Traffic(Box::new(traffic));
        status = record(&spec, &step.status, order, &measured, now, now);
        // What is kept must survive being stored.
        status = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    }
    status
}

#[test]
fn evidence_adds_up_over_measurements_until_there_is_a_verdict() {
    let at_most = json!({"metric": "error-ratio", "compare": "threshold", "threshold": "0.01"});
    // What was before the first look counts for nothing; 1.5 % are then found in two spans of 3,000 requests.
    let bad = judged(
        at_most.clone(),
        &[[1000, 1000, 0, 0], [4000, 1045, 0, 0], [7000, 1090, 0, 0]],
    );
    assert_eq!(bad.phase, Failed);
    let why = bad.message.unwrap();
    assert!(
        why.contains("1.50 % of 6000 requests failed, more than 1.00 %"),
        "{why}"
    );
    // 0.9 % go on.
    let fine = judged(
        at_most.clone(),
        &[[0, 0, 0, 0], [3000, 27, 0, 0], [6000, 54, 0, 0]],
    );
    assert_eq!(
        (fine.phase, fine.metric_results[0].successful),
        (Running, 2)
    );
    // Far below, it is over early.
    let safe = judged(at_most.clone(), &[[0, 0, 0, 0], [3000, 3, 0, 0]]);
    assert_eq!(safe.phase, Successful);
    // Too few are no verdict, and do not end the run before its time.
    let few = judged(at_most, &[[0, 0, 0, 0], [40, 40, 0, 0], [80, 80, 0, 0]]);
    assert_eq!(
        (few.phase, few.metric_results[0].inconclusive),
        (Running, 3)
    );
}

#[test]
fn a_bad_verdict_may_be_left_to_a_person() {
    let serin = json!({"metric": "error-ratio", "compare": "stable", "onBad": "decide"});
    let status = judged(serin, &[[0, 0, 0, 0], [1000, 500, 9000, 9]]);
    assert_eq!(status.phase, Inconclusive);
    assert!(status.message.unwrap().contains("a person decides"));
}

#[test]
fn a_gateway_that_starts_anew_is_counted_from_there() {
    let serin = json!({"metric": "error-ratio", "compare": "threshold", "threshold": "0.01"});
    let status = judged(serin, &[[5000, 0, 0, 0], [100, 90, 0, 0]]);
    assert_eq!(
        (status.phase, status.metric_results[0].inconclusive),
        (Running, 2)
    );
}

/// What one span of 10 s brings: so many of 1,000 answers are errors, and the answers are slower by so many buckets.
fn span(errors: u64, slower: usize) -> serin_api::traffic::Counts {
    use serin_api::traffic::{Counts, LATENCY_BUCKETS};
    let mut latency = vec![0; LATENCY_BUCKETS];
    // Most take about 60 ms, a tenth about 120 ms.
    for (bucket, answers) in [(10, 900), (12, 100)] {
        latency[bucket + slower] += answers;
    }
    Counts {
        status: [0, 1000 - errors, 0, 0, errors],
        latency,
        ..Counts::default()
    }
}

/// What an analysis of the default set comes to when every span is like this, and after how many spans.
fn by_default(template: &str, canary: &serin_api::traffic::Counts) -> (AnalysisPhase, u64) {
    let text = include_str!("../../../../../examples/analysis/templates.yaml");
    let objects = serin_api::manifest::parse(text, "templates.yaml").objects;
    let templates = objects.iter().map(|object| {
        let name = object.object["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        let spec = serde_json::from_value(object.object["spec"].clone()).unwrap();
        ((true, name), spec)
    });
    let wanted = serin_api::rollout::AnalysisRef {
        templates: vec![serin_api::analysis::TemplateRef {
            template_name: template.to_owned(),
            cluster_scope: Some(true),
        }],
        ..Default::default()
    };
    let origin = crate::analysis::Origin::default();
    let spec = crate::analysis::instantiate(&wanted, &templates.collect(), &origin).unwrap();
    let times = |counts: &serin_api::traffic::Counts, n: u64| serin_api::traffic::Counts {
        status: counts.status.map(|count| count * n),
        latency: counts.latency.iter().map(|count| count * n).collect(),
        ..Default::default()
    };
    let mut status = AnalysisRunStatus::default();
    for look in 0..=180 {
        let now = at(i64::try_from(look).unwrap() * 10);
        let step = plan(&spec, &status, now);
        let Some(order) = step.measure.first() else {
            return (step.status.phase, look);
        };
        let traffic = Traffic {
            canary: times(canary, look),
            stable: times(&span(0, 0), look),
            since: at(-1000),
        };
        let measured = Measured::Traffic(Box::new(traffic));
        status = record(&spec, &step.status, order, &measured, now, now);
    }
    (status.phase, 180)
}

#[test]
fn the_default_set_decides_as_it_says() {
    // More than 1 % errors take a release back within ten looks; 0.9 % never do in half an hour.
    let (phase, spans) = by_default("serin-error-ratio", &span(15, 0));
    assert_eq!((phase, spans <= 10), (Failed, true), "{spans} spans");
    assert_eq!(by_default("serin-error-ratio", &span(9, 0)).0, Successful);
    // A P95 that is more than 50 % above that of stable asks a person; the same latency does not.
    let (phase, spans) = by_default("serin-p95-growth", &span(0, 2));
    assert_eq!((phase, spans <= 10), (Inconclusive, true), "{spans} spans");
    assert_eq!(by_default("serin-p95-growth", &span(0, 0)).0, Successful);
}

#[test]
fn of_several_limits_an_error_comes_first_and_a_failure_last() {
    let metric: Metric = serde_json::from_value(json!({"name": "m", "interval": "1s"})).unwrap();
    let result = |error, inconclusive, failed| MetricResult {
        consecutive_error: error,
        inconclusive,
        failed,
        ..MetricResult::default()
    };
    let phase = |result: MetricResult| limits::verdict(&metric, &result).map(|(phase, _)| phase);
    assert_eq!(phase(result(5, 1, 1)), Some(Error));
    assert_eq!(phase(result(4, 1, 1)), Some(Inconclusive));
    assert_eq!(phase(result(4, 0, 1)), Some(Failed));
    assert_eq!(phase(result(4, 0, 0)), None);
}

#[test]
fn of_several_metrics_a_failure_is_the_worst() {
    let worst = |phases: &[AnalysisPhase]| {
        let names = phases.iter().enumerate();
        let names = names.map(|(i, _)| json!({"name": i.to_string(), "interval": "1s"}));
        let spec = spec(names.collect());
        let results = phases.iter().enumerate().map(|(i, phase)| MetricResult {
            name: i.to_string(),
            phase: *phase,
            ..MetricResult::default()
        });
        let status = AnalysisRunStatus {
            metric_results: results.collect(),
            ..AnalysisRunStatus::default()
        };
        plan(&spec, &status, at(0)).status.phase
    };
    assert_eq!(worst(&[Successful, Inconclusive, Error, Failed]), Failed);
    assert_eq!(worst(&[Inconclusive, Error, Successful]), Error);
    assert_eq!(worst(&[Successful, Inconclusive]), Inconclusive);
    assert_eq!(worst(&[Successful, Successful]), Successful);
}

#[test]
fn ten_measurements_of_a_metric_are_kept() {
    let spec = spec(json!([{"name": "m", "interval": "1s", "successCondition": "true"}]));
    let mut status = AnalysisRunStatus::default();
    for i in 0..12 {
        let step = plan(&spec, &status, at(i * 20));
        status = record(
            &spec,
            &step.status,
            &step.measure[0],
            &value(i as f64),
            at(i * 20),
            at(i * 20),
        );
    }
    let [result] = status.metric_results.as_slice() else {
        panic!("{status:#?}")
    };
    assert_eq!((result.count, result.measurements.len()), (12, 10));
    let newest = result.measurements.last().unwrap();
    assert_eq!(newest.value.as_deref(), Some("11"));
}
