//! What the demo measured, which promises it held, and the table that says so.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::Report;
use crate::load::ledger::Segment;

/// How far a measured share may be from the asked one, in points of percent, besides what chance allows for few requests.
const SHARE_TOLERANCE: f64 = 1.0;
/// From the first bad answer to the last answer of the bad version.
const TAKEN_BACK_SECONDS: f64 = 5.0;
/// The undo of a blue-green switch, whose old instances still run.
const UNDO_SECONDS: f64 = 2.0;

/// Everything that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    pub(super) releases: Vec<Release>,
    /// The shares that the canary was to have, in percent.
    pub(super) asked: Vec<u8>,
    pub(super) taken_back: TakenBack,
    /// Requests of both loads.
    pub(super) requests: u64,
    /// Of them, lost to the delivery.
    pub(super) lost: u64,
    /// The first of them, in words.
    pub(super) losses: Vec<String>,
    /// Control plane and gateway before the load, in MiB.
    pub(super) idle_mib: (f64, f64),
    /// The same at the end.
    pub(super) loaded_mib: (f64, f64),
    /// Until the API answered.
    pub(super) start_seconds: f64,
    pub(super) total_seconds: f64,
}

/// One release.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) steps: Vec<StepFacts>,
    pub(super) aborted: bool,
    pub(super) seconds: f64,
}

/// One step of a release.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepFacts {
    pub(super) asked_percent: i32,
    /// `None` without answers.
    pub(super) measured_percent: Option<f64>,
    pub(super) requests: u64,
    pub(super) lost: u64,
    /// Errors of the application itself.
    pub(super) own_errors: u64,
}

/// How the bad version went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TakenBack {
    pub(super) aborted: bool,
    /// From its first error to its last answer; `None` without an error.
    pub(super) seconds: Option<f64>,
    pub(super) errors: u64,
}

impl StepFacts {
    pub(super) fn from(segment: &Segment, version: &str, asked_percent: i32) -> Self {
        Self {
            asked_percent,
            measured_percent: segment.tally.share(version).map(|share| share * 100.0),
            requests: segment.tally.requests,
            lost: segment.tally.lost(),
            own_errors: segment.tally.versions.values().map(|v| v.errors).sum(),
        }
    }

    /// Whether the share is what was asked for. A split is exact over many requests; over few, one request more or less shows.
    fn holds(&self) -> bool {
        if self.asked_percent > 0 && self.requests == 0 {
            return false;
        }
        let slack = SHARE_TOLERANCE
            + if self.requests > 0 {
                300.0 / self.requests as f64
            } else {
                100.0
            };
        self.measured_percent
            .is_none_or(|measured| (measured - f64::from(self.asked_percent)).abs() <= slack)
    }
}

impl TakenBack {
    pub(super) fn from(report: &Report, version: &str, aborted: bool) -> Self {
        let tally = report.total.versions.get(version);
        let seconds = tally.and_then(|t| {
            t.first_error
                .map(|first| t.last_answer.saturating_sub(first).as_secs_f64())
        });
        Self {
            aborted,
            seconds,
            errors: tally.map_or(0, |t| t.errors),
        }
    }
}

impl Facts {
    pub(super) fn new(
        releases: Vec<Release>,
        taken_back: TakenBack,
        shop: &Report,
        cart: &Report,
        idle_mib: (f64, f64),
        loaded_mib: (f64, f64),
    ) -> Self {
        let failures = shop.failures.iter().chain(&cart.failures);
        Self {
            releases,
            asked: Vec::new(),
            taken_back,
            requests: shop.total.requests + cart.total.requests,
            lost: shop.total.lost() + cart.total.lost(),
            losses: failures
                .map(|f| format!("at {:.2} s: {}", f.at.as_secs_f64(), f.detail))
                .take(8)
                .collect(),
            idle_mib,
            loaded_mib,
            start_seconds: 0.0,
            total_seconds: 0.0,
        }
    }

    /// The promises that were not held, one sentence each.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.lost > 0 {
            broken.push(format!(
                "{} requests were lost to the delivery: {}",
                self.lost,
                self.losses.join("; ")
            ));
        }
        for release in &self.releases {
            for step in release.steps.iter().filter(|step| !step.holds()) {
                let measured = step.measured_percent.unwrap_or(0.0);
                broken.push(format!(
                    "{}: {} % were asked for and {measured:.2} % measured",
                    release.name, step.asked_percent
                ));
            }
            if release.aborted != (release.version == "v3") {
                let what = if release.aborted {
                    "was taken back though it is good"
                } else {
                    "was not taken back"
                };
                broken.push(format!("{} {what}", release.name));
            }
        }
        let seen: Vec<_> = self
            .releases
            .first()
            .into_iter()
            .flat_map(|r| &r.steps)
            .map(|step| step.asked_percent)
            .collect();
        for percent in self
            .asked
            .iter()
            .filter(|percent| !seen.contains(&i32::from(**percent)))
        {
            broken.push(format!("v2 was never seen at {percent} %"));
        }
        match self.taken_back.seconds {
            Some(seconds) if seconds <= TAKEN_BACK_SECONDS => {}
            Some(seconds) => broken.push(format!(
                "v3 answered for {seconds:.1} s after its first error"
            )),
            None => broken.push("v3 gave no error, so nothing was shown".to_owned()),
        }
        if let Some(undo) = self.releases.last().filter(|r| r.seconds > UNDO_SECONDS) {
            broken.push(format!("the undo of the switch took {:.1} s", undo.seconds));
        }
        broken
    }

    pub(super) fn to_json(&self, broken: &[String]) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("brokenPromises".into(), broken.into());
        }
        serde_json::to_string_pretty(&value).unwrap_or_default()
    }

    /// The end of the screen.
    pub(super) fn table(&self, broken: &[String]) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n{:<20} {:>7} {:>9} {:>9} {:>6} {:>11}",
            "RELEASE", "ASKED", "MEASURED", "REQUESTS", "LOST", "OWN ERRORS"
        );
        for release in &self.releases {
            for (i, step) in release.steps.iter().enumerate() {
                let name = if i == 0 { release.name.as_str() } else { "" };
                let measured = step
                    .measured_percent
                    .map_or("-".to_owned(), |percent| format!("{percent:.2} %"));
                let _ = writeln!(
                    out,
                    "{name:<20} {:>5} % {measured:>9} {:>9} {:>6} {:>11}",
                    step.asked_percent, step.requests, step.lost, step.own_errors
                );
            }
        }
        let back = self
            .taken_back
            .seconds
            .map_or("no error seen".to_owned(), |s| {
                format!("{s:.2} s, {} errors", self.taken_back.errors)
            });
        let undo = self.releases.last().map_or(0.0, |r| r.seconds);
        let (control, gateway) = self.loaded_mib;
        let (control_idle, gateway_idle) = self.idle_mib;
        let _ = writeln!(
            out,
            "\nrequests                              {}",
            self.requests
        );
        let _ = writeln!(out, "lost to the delivery                  {}", self.lost);
        let _ = writeln!(out, "v3: first bad answer to its last      {back}");
        let _ = writeln!(out, "undo of the switch                    {undo:.2} s");
        let _ = writeln!(
            out,
            "API answered after                    {:.2} s",
            self.start_seconds
        );
        let _ = writeln!(
            out,
            "memory: control plane, gateway        {control:.1} MiB, {gateway:.1} MiB (before the load: {control_idle:.1}, {gateway_idle:.1})"
        );
        let _ = writeln!(
            out,
            "the whole demo                        {:.1} s",
            self.total_seconds
        );
        if broken.is_empty() {
            let _ = write!(out, "\nevery promise was held");
        } else {
            let _ = write!(out, "\nnot held:\n  {}", broken.join("\n  "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(asked: i32, measured: f64, requests: u64) -> StepFacts {
        StepFacts {
            asked_percent: asked,
            measured_percent: Some(measured),
            requests,
            lost: 0,
            own_errors: 0,
        }
    }

    fn facts() -> Facts {
        let release = |name: &str, version: &str, aborted, steps| Release {
            name: name.into(),
            version: version.into(),
            steps,
            aborted,
            seconds: 1.5,
        };
        Facts {
            releases: vec![
                release(
                    "shop v2 canary",
                    "v2",
                    false,
                    vec![step(5, 5.02, 2000), step(100, 100.0, 1500)],
                ),
                release("shop v3 canary", "v3", true, vec![step(5, 4.9, 800)]),
                release("cart v1 switch", "v1", false, vec![step(100, 100.0, 500)]),
            ],
            asked: vec![5, 100],
            taken_back: TakenBack {
                aborted: true,
                seconds: Some(2.1),
                errors: 4,
            },
            requests: 4800,
            lost: 0,
            losses: vec![],
            idle_mib: (20.0, 9.0),
            loaded_mib: (24.0, 11.0),
            start_seconds: 0.4,
            total_seconds: 50.0,
        }
    }

    #[test]
    fn a_demo_that_holds_everything() {
        assert_eq!(facts().broken_promises(), Vec::<String>::new());
        assert!(facts().table(&[]).contains("every promise was held"));
    }

    #[test]
    fn each_promise_is_checked() {
        let broken = |change: fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            facts.broken_promises().join("; ")
        };
        assert!(broken(|f| f.asked.push(50)).contains("never seen at 50 %"));
        assert!(broken(|f| f.lost = 1).contains("1 requests were lost"));
        assert!(
            broken(|f| f.releases[0].steps[0].measured_percent = Some(8.0))
                .contains("5 % were asked for and 8.00 % measured")
        );
        assert!(broken(|f| f.releases[1].aborted = false).contains("was not taken back"));
        assert!(broken(|f| f.releases[0].aborted = true).contains("though it is good"));
        assert!(
            broken(|f| f.taken_back.seconds = Some(6.0)).contains("6.0 s after its first error")
        );
        assert!(broken(|f| f.taken_back.seconds = None).contains("nothing was shown"));
        assert!(broken(|f| f.releases[2].seconds = 3.0).contains("undo of the switch took 3.0 s"));
    }
}
