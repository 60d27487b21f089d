//! Metrics that are judged by evidence: from what the gateway counted since it started to the next measurement.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serin_api::analysis::{AnalysisPhase, SerinMetric};
use serin_api::traffic::Counts;

use super::condition::Judgement;
use crate::judge::{Evidence, Question, Rules, Verdict};

/// Where the state of the judge is kept with the result of its metric.
const KEPT: &str = "serin.dev/judge";
const DEFAULT_ALPHA: f64 = 0.01;
const DEFAULT_MARGIN: f64 = 0.25;
const DEFAULT_QUANTILE: f64 = 0.95;
const DEFAULT_MIN_REQUESTS: u64 = 100;
/// Two readings of when the same gateway started differ by less than this.
const SAME_START: SignedDuration = SignedDuration::from_secs(2);

/// What the gateway counted of both revisions since it started.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// The revision on trial.
    pub canary: Counts,
    /// The revision that it is compared with; nothing when it is held against a number.
    pub stable: Counts,
    /// When the gateway started to count.
    pub since: Timestamp,
}

/// A measurement by the judge.
pub(super) struct Weighed {
    pub(super) judgement: Judgement,
    pub(super) value: Option<String>,
    /// Whether there is a verdict, which ends the metric.
    pub(super) ends: bool,
}

impl Weighed {
    /// One that counts like any other.
    pub(super) fn plain(judgement: Judgement, value: Option<String>) -> Self {
        Self {
            judgement,
            value,
            ends: false,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    evidence: Evidence,
    /// The totals of the last look, and since when they are counted.
    canary: Counts,
    stable: Counts,
    since: Option<Timestamp>,
}

/// The rules that a metric asks for.
///
/// # Errors
/// What is wrong with its words, one sentence each.
pub fn judge_rules(asked: &SerinMetric) -> Result<Rules, Vec<String>> {
    let mut problems = Vec::new();
    let mut number =
        |name: &str, text: &Option<String>, default: Option<f64>, valid: fn(f64) -> bool| {
            let read = match text {
                Some(text) => text.trim().parse().ok().filter(|n: &f64| valid(*n)),
                None => default,
            };
            read.unwrap_or_else(|| {
                problems.push(format!("serin.{name} is missing or out of its range"));
                default.unwrap_or(1.0)
            })
        };
    let alpha = number("alpha", &asked.alpha, Some(DEFAULT_ALPHA), |n| {
        n > 0.0 && n < 0.5
    });
    let margin = number("margin", &asked.margin, Some(DEFAULT_MARGIN), |n| {
        (0.0..=10.0).contains(&n)
    });
    let quantile = number("quantile", &asked.quantile, Some(DEFAULT_QUANTILE), |n| {
        n > 0.0 && n < 1.0
    });
    let against_number = asked.compare.as_deref() == Some("threshold");
    let default = (!against_number).then_some(1.0);
    let threshold = number("threshold", &asked.threshold, default, |n| {
        n > 0.0 && n.is_finite()
    });
    let question = match (asked.compare.as_deref(), asked.metric.as_str()) {
        (Some("stable"), "error-ratio") => Question::ErrorsOfStable { margin },
        (Some("stable"), "latency") => Question::LatencyOfStable { margin, quantile },
        (Some("threshold"), "error-ratio") if threshold < 1.0 => Question::Errors { threshold },
        (Some("threshold"), "latency") => Question::Latency {
            threshold,
            quantile,
        },
        (compare, metric) => {
            let compare = compare.unwrap_or_default();
            problems.push(format!(
                "serin: compare {compare:?} of metric {metric:?}: use stable or threshold of error-ratio or latency"
            ));
            Question::Errors { threshold: 0.5 }
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let min_requests = match &asked.min_requests {
        Some(IntOrString::Int(count)) => u64::try_from(*count).unwrap_or(0),
        Some(IntOrString::String(text)) => text.trim().parse().unwrap_or(DEFAULT_MIN_REQUESTS),
        None => DEFAULT_MIN_REQUESTS,
    };
    Ok(Rules {
        question,
        alpha,
        min_requests,
    })
}

/// Takes in what happened since the last look and says what all of it means. The first look, and the first after a new start of
/// the gateway, only says where to count from.
pub(super) fn weigh(
    asked: &SerinMetric,
    metadata: &mut BTreeMap<String, String>,
    traffic: &Traffic,
) -> Weighed {
    let rules = match judge_rules(asked) {
        Ok(rules) => rules,
        Err(problems) => {
            let judgement = Judgement::because(AnalysisPhase::Error, problems.join("; "));
            return Weighed::plain(judgement, None);
        }
    };
    let kept = metadata
        .get(KEPT)
        .and_then(|text| serde_json::from_str(text).ok());
    let mut kept: Kept = kept.unwrap_or_default();
    let same = kept
        .since
        .is_some_and(|since| since.duration_until(traffic.since).abs() < SAME_START);
    let spans = (
        traffic.canary.since(&kept.canary),
        traffic.stable.since(&kept.stable),
    );
    if let (true, (Some(canary), Some(stable))) = (same, spans) {
        kept.evidence.add(&rules, &canary, &stable);
    }
    kept.canary = traffic.canary.clone();
    kept.stable = traffic.stable.clone();
    kept.since = Some(traffic.since);
    let verdict = kept.evidence.verdict(&rules);
    if let Ok(text) = serde_json::to_string(&kept) {
        metadata.insert(KEPT.to_owned(), text);
    }
    Weighed {
        judgement: judgement(asked, &rules, &kept.evidence, verdict),
        value: Some(shown(&rules, &kept.evidence, verdict)),
        ends: matches!(verdict, Verdict::Bad | Verdict::Safe),
    }
}

fn judgement(
    asked: &SerinMetric,
    rules: &Rules,
    evidence: &Evidence,
    verdict: Verdict,
) -> Judgement {
    match verdict {
        Verdict::TooFew { have } => {
            let needed = rules.min_requests.max(1);
            let why = format!("{have} requests so far, fewer than the {needed} that are needed");
            Judgement::because(AnalysisPhase::Inconclusive, why)
        }
        Verdict::Undecided => {
            Judgement::because(AnalysisPhase::Successful, "no sign so far that it is worse")
        }
        Verdict::Safe => {
            Judgement::because(AnalysisPhase::Successful, "it is shown to be no worse")
        }
        Verdict::Bad => {
            let why = format!(
                "{} (p = {:.1e} at any time)",
                told(rules, evidence),
                evidence.p_bad()
            );
            match asked.on_bad.as_deref() {
                Some("decide") => Judgement::because(
                    AnalysisPhase::Inconclusive,
                    format!("{why}; a person decides"),
                ),
                _ => Judgement::because(AnalysisPhase::Failed, why),
            }
        }
    }
}

/// The two sides in words.
fn told(rules: &Rules, evidence: &Evidence) -> String {
    let percent =
        |ratio: Option<f64>| ratio.map_or("?".to_owned(), |r| format!("{:.2} %", r * 100.0));
    let seconds = |s: Option<f64>| s.map_or("?".to_owned(), |s| format!("{s:.3} s"));
    let (mine, theirs) = (evidence.canary.ratio(), evidence.stable.ratio());
    let requests = evidence.canary.requests;
    match rules.question {
        Question::Errors { threshold } => format!(
            "{} of {requests} requests failed, more than {}",
            percent(mine),
            percent(Some(threshold))
        ),
        Question::ErrorsOfStable { .. } => format!(
            "{} of {requests} requests failed, of stable {}",
            percent(mine),
            percent(theirs)
        ),
        Question::Latency {
            threshold,
            quantile,
        } => format!(
            "{} of {requests} requests took longer than {threshold} s, more than {}",
            percent(mine),
            percent(Some(1.0 - quantile))
        ),
        Question::LatencyOfStable { quantile, .. } => {
            let (mine, theirs) = evidence.latency_seconds(quantile);
            format!(
                "the {quantile} quantile of {requests} requests is {}, of stable {}",
                seconds(mine),
                seconds(theirs)
            )
        }
    }
}

/// The value of the measurement: what was seen, what it was held against, and what it says.
fn shown(rules: &Rules, evidence: &Evidence, verdict: Verdict) -> String {
    let (mine, theirs, limit) = match rules.question {
        Question::Errors { threshold } => (evidence.canary.ratio(), None, Some(threshold)),
        Question::Latency { threshold, .. } => (evidence.canary.ratio(), None, Some(threshold)),
        Question::ErrorsOfStable { .. } => (evidence.canary.ratio(), evidence.stable.ratio(), None),
        Question::LatencyOfStable { quantile, .. } => {
            let (mine, theirs) = evidence.latency_seconds(quantile);
            (mine, theirs, None)
        }
    };
    let verdict = match verdict {
        Verdict::TooFew { .. } => "too few",
        Verdict::Undecided => "undecided",
        Verdict::Bad => "bad",
        Verdict::Safe => "safe",
    };
    let mut fields = json!({
        "canary": mine, "stable": theirs, "threshold": limit, "requests": evidence.canary.requests,
        "pBad": evidence.p_bad(), "verdict": verdict,
    });
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    fields.to_string()
}
