//! The books of a load: every outcome counted once in all and once in its segment, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::latency::Histogram;
use super::outcome::{Answer, Ending, Fault, Outcome};

/// The most segments; marks beyond it are ignored and the last segment goes on.
const MAX_SEGMENTS: usize = 256;
/// The most versions told apart; the answers of further ones are counted under [`OTHER_VERSIONS`].
const MAX_VERSIONS: usize = 64;
/// The most lost requests that are told one by one.
const MAX_FAILURES: usize = 32;
/// Where versions beyond [`MAX_VERSIONS`] are counted.
const OTHER_VERSIONS: &str = "(others)";

/// Counts over a span of the load.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    /// Requests that were due in the span and have ended.
    pub(crate) requests: u64,
    /// Of them, those lost to the delivery.
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// Of them, those the application answered, by the version that did; the name is empty when it told none.
    pub(crate) versions: BTreeMap<String, VersionTally>,
    /// How long those answers took.
    pub(crate) latency: Histogram,
}

/// What one version answered. Times are since the start of the load, of the end of the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionTally {
    pub(crate) answers: u64,
    /// Of them, those with status 5xx: the application's own errors.
    pub(crate) errors: u64,
    #[serde(rename = "firstAnswerSeconds", serialize_with = "seconds")]
    pub(crate) first_answer: Duration,
    #[serde(rename = "lastAnswerSeconds", serialize_with = "seconds")]
    pub(crate) last_answer: Duration,
    /// The first of its errors; `None` without.
    #[serde(rename = "firstErrorSeconds", serialize_with = "maybe_seconds")]
    pub(crate) first_error: Option<Duration>,
}

/// The requests that were due between two marks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Segment {
    /// The name of the mark that it begins with.
    pub(crate) name: String,
    /// Since the start of the load.
    #[serde(rename = "fromSeconds", serialize_with = "seconds")]
    pub(crate) from: Duration,
    /// `None` while it goes on.
    #[serde(rename = "untilSeconds", serialize_with = "maybe_seconds")]
    pub(crate) until: Option<Duration>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
}

/// One request that was lost to the delivery.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// When it was due, since the start of the load.
    #[serde(rename = "atSeconds", serialize_with = "seconds")]
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    /// What was seen, for people.
    pub(crate) detail: String,
}

/// Everything that is known of a load.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Since the start of the load.
    #[serde(rename = "elapsedSeconds", serialize_with = "seconds")]
    pub(crate) elapsed: Duration,
    /// The whole load.
    pub(crate) total: Tally,
    /// One for each mark, in their order. Requests before the first mark are in `total` only.
    pub(crate) segments: Vec<Segment>,
    /// The first 32 requests that were lost to the delivery.
    pub(crate) failures: Vec<Failure>,
}

/// Takes outcomes and marks, gives reports.
#[derive(Debug)]
pub(crate) struct Ledger {
    expect_version: bool,
    total: Tally,
    segments: Vec<Segment>,
    failures: Vec<Failure>,
}

impl Ledger {
    pub(crate) fn new(expect_version: bool) -> Self {
        Self {
            expect_version,
            total: Tally::default(),
            segments: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Begins a segment: requests due from `at` on belong to it, those in flight to the one before.
    pub(crate) fn mark(&mut self, name: &str, at: Duration) {
        if self.segments.len() >= MAX_SEGMENTS {
            return;
        }
        if let Some(last) = self.segments.last_mut() {
            last.until = Some(at);
        }
        self.segments.push(Segment {
            name: name.to_owned(),
            from: at,
            until: None,
            tally: Tally::default(),
        });
    }

    pub(crate) fn record(&mut self, outcome: &Outcome) {
        let fault = outcome.ending.fault(self.expect_version);
        self.total.record(outcome, fault);
        let segment = self
            .segments
            .iter_mut()
            .rev()
            .find(|segment| segment.from <= outcome.at);
        if let Some(segment) = segment {
            segment.tally.record(outcome, fault);
        }
        if let Some(fault) = fault
            && self.failures.len() < MAX_FAILURES
        {
            self.failures.push(Failure {
                at: outcome.at,
                fault,
                detail: outcome.ending.detail(),
            });
        }
    }

    pub(crate) fn report(&self, elapsed: Duration) -> Report {
        Report {
            elapsed,
            total: self.total.clone(),
            segments: self.segments.clone(),
            failures: self.failures.clone(),
        }
    }
}

impl Tally {
    /// Requests lost to the delivery.
    pub(crate) fn lost(&self) -> u64 {
        self.faults.values().sum()
    }

    /// The share of the application's answers that this version gave, 0 to 1; `None` without answers.
    pub(crate) fn share(&self, version: &str) -> Option<f64> {
        let all: u64 = self.versions.values().map(|version| version.answers).sum();
        let mine = self.versions.get(version).map_or(0, |tally| tally.answers);
        (all > 0).then(|| mine as f64 / all as f64)
    }

    fn record(&mut self, outcome: &Outcome, fault: Option<Fault>) {
        self.requests += 1;
        match (&outcome.ending, fault) {
            (_, Some(fault)) => *self.faults.entry(fault).or_default() += 1,
            (Ending::Answer(answer), None) => {
                self.latency.record(outcome.latency);
                let answered = outcome.at + outcome.latency;
                self.version_of(answer).record(answer, answered);
            }
            // Without an answer there is always a fault.
            (Ending::ConnectError { .. } | Ending::Broken { .. } | Ending::Timeout, None) => {}
        }
    }

    fn version_of(&mut self, answer: &Answer) -> &mut VersionTally {
        let told = answer.version.as_deref().unwrap_or_default();
        let fits = self.versions.len() < MAX_VERSIONS || self.versions.contains_key(told);
        let name = if fits { told } else { OTHER_VERSIONS };
        self.versions.entry(name.to_owned()).or_default()
    }
}

impl VersionTally {
    fn record(&mut self, answer: &Answer, answered: Duration) {
        self.first_answer = if self.answers == 0 {
            answered
        } else {
            self.first_answer.min(answered)
        };
        self.last_answer = self.last_answer.max(answered);
        self.answers += 1;
        if answer.status >= 500 {
            self.errors += 1;
            self.first_error = Some(self.first_error.map_or(answered, |e| e.min(answered)));
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn maybe_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration
        .map(|duration| duration.as_secs_f64())
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn answered(at: u64, latency: u64, status: u16, version: &str) -> Outcome {
        Outcome {
            at: millis(at),
            latency: millis(latency),
            ending: Ending::Answer(Answer {
                status,
                version: Some(version.to_owned()),
                gateway_reason: None,
            }),
        }
    }

    fn failed(at: u64, ending: Ending) -> Outcome {
        Outcome {
            at: millis(at),
            latency: millis(1),
            ending,
        }
    }

    fn broken() -> Ending {
        Ending::Broken {
            why: "connection reset".to_owned(),
        }
    }

    #[test]
    fn a_request_is_an_answer_of_a_version_or_a_fault() {
        let mut ledger = Ledger::new(true);
        for outcome in [
            answered(0, 5, 200, "v1"),
            answered(10, 5, 404, "v1"),
            answered(20, 9, 500, "v2"),
            answered(30, 2, 500, "v2"),
            failed(40, broken()),
            failed(50, Ending::Timeout),
            failed(
                60,
                Ending::Answer(Answer {
                    status: 502,
                    ..Answer::default()
                }),
            ),
        ] {
            ledger.record(&outcome);
        }
        let total = ledger.report(millis(70)).total;
        assert_eq!((total.requests, total.lost()), (7, 3));
        assert_eq!(
            total.faults,
            BTreeMap::from([
                (Fault::Broken, 1),
                (Fault::Timeout, 1),
                (Fault::ForeignAnswer, 1)
            ])
        );
        assert_eq!(
            total.versions["v2"],
            VersionTally {
                answers: 2,
                errors: 2,
                first_answer: millis(29),
                last_answer: millis(32),
                first_error: Some(millis(29)),
            }
        );
        assert_eq!(total.versions["v1"].errors, 0);
        assert_eq!(total.share("v1"), Some(0.5));
        assert_eq!(total.share("v9"), Some(0.0));
        assert_eq!(Tally::default().share("v1"), None);
    }

    #[test]
    fn a_request_belongs_to_the_segment_it_was_due_in() {
        let mut ledger = Ledger::new(true);
        ledger.record(&answered(5, 1, 200, "v1"));
        ledger.mark("5 %", millis(10));
        ledger.mark("20 %", millis(20));
        // Due before the second mark, ended after it.
        ledger.record(&answered(15, 30, 200, "v2"));
        ledger.record(&answered(20, 1, 200, "v1"));
        // Due before the first mark, ended after it.
        ledger.record(&answered(9, 30, 200, "v1"));
        let report = ledger.report(millis(50));
        let told: Vec<_> = report
            .segments
            .iter()
            .map(|s| {
                (
                    s.name.as_str(),
                    s.until,
                    s.tally.requests,
                    s.tally.share("v2"),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("5 %", Some(millis(20)), 1, Some(1.0)),
                ("20 %", None, 1, Some(0.0))
            ]
        );
        assert_eq!(report.total.requests, 4);
    }

    #[test]
    fn memory_is_bounded_whatever_comes_in() {
        let mut ledger = Ledger::new(true);
        for n in 0..1000 {
            ledger.mark(&format!("step {n}"), millis(n));
            ledger.record(&answered(n, 1, 200, &format!("v{n}")));
            ledger.record(&failed(n, broken()));
        }
        let report = ledger.report(millis(1000));
        assert_eq!(report.segments.len(), MAX_SEGMENTS);
        assert_eq!(report.failures.len(), MAX_FAILURES);
        assert_eq!(report.total.versions.len(), MAX_VERSIONS + 1);
        assert_eq!(report.total.versions[OTHER_VERSIONS].answers, 936);
        assert_eq!(report.total.requests, 2000);
        assert_eq!(report.segments[MAX_SEGMENTS - 1].tally.requests, 2 * 745);
    }

    #[test]
    fn a_report_is_told_in_seconds() {
        let mut ledger = Ledger::new(false);
        ledger.mark("all", millis(0));
        ledger.record(&answered(250, 250, 500, "v3"));
        ledger.record(&failed(500, broken()));
        let report = serde_json::to_value(ledger.report(millis(1500))).unwrap();
        assert_eq!(report["elapsedSeconds"], 1.5);
        assert_eq!(
            report["segments"][0]["untilSeconds"],
            serde_json::Value::Null
        );
        assert_eq!(report["segments"][0]["requests"], 2);
        assert_eq!(report["total"]["faults"]["broken"], 1);
        assert_eq!(report["total"]["versions"]["v3"]["firstErrorSeconds"], 0.5);
        assert_eq!(
            report["failures"][0],
            serde_json::json!({"atSeconds": 0.5, "fault": "broken", "detail": "connection reset"})
        );
    }
}
