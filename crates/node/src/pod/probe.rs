//! The bookkeeping of one probe: when to ask next, and what the answers so far mean.

use std::time::Duration;

use super::Mono;

/// How soon a readiness or startup probe asks again while nothing listens yet, doubling up to its period: an application that
/// starts in 200 ms is not kept from its users for ten seconds. Such a refusal reaches no application and is not counted.
const EARLY: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A status from 200 to 399.
    Http {
        /// The host to connect to; `None`: the pod's address.
        host: Option<String>,
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
        /// Additional headers.
        headers: Vec<(String, String)>,
    },
    /// A connection.
    Tcp {
        /// The host to connect to; `None`: the pod's address.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// A command that exits with 0.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Wait; only as a hook.
    Sleep {
        /// How long.
        duration: Duration,
    },
    /// Something that cannot be asked; fails with this sentence.
    Unsupported {
        /// Why.
        why: String,
    },
}

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ProbeKind {
    /// The others wait for it.
    Startup,
    /// Failing, the container is restarted.
    Liveness,
    /// Failing, the pod gets no traffic.
    Readiness,
}

impl ProbeKind {
    /// As messages begin.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// One probe of a container, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbePlan {
    /// Which.
    pub(crate) kind: ProbeKind,
    /// What is asked.
    pub(crate) check: Check,
    /// From the start of the container to the first time.
    pub(crate) delay: Duration,
    /// Between two times.
    pub(crate) period: Duration,
    /// What the answer may take.
    pub(crate) timeout: Duration,
    /// Good answers in a row that it takes to pass.
    pub(crate) successes: u32,
    /// Bad answers in a row that it takes to fail.
    pub(crate) failures: u32,
    /// The grace period of the restart that it causes; `None`: the pod's.
    pub(crate) grace: Option<Duration>,
}

/// The answer to one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Good.
    Success,
    /// Nothing listens at the port.
    Refused(String),
    /// Bad, with a sentence.
    Failure(String),
}

/// What the answers so far mean, when that changed or was said again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Enough good answers in a row.
    Passed,
    /// A bad answer that does not decide.
    Unhealthy(String),
    /// Enough bad answers in a row.
    Failed(String),
}

/// The state of one probe in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeState {
    /// When to ask next; no matter while an answer is awaited.
    next_at: Mono,
    /// When it is to be asked by its period.
    regular_at: Mono,
    running: bool,
    /// Whether the running one is before its time.
    early: bool,
    refusals: u32,
    good: u32,
    bad: u32,
    passed: Option<bool>,
}

impl ProbeState {
    /// A probe of a container that has been running for `age`. `passed` is what is known from before a restart of the node.
    pub(crate) fn new(plan: &ProbePlan, now: Mono, age: Duration, passed: Option<bool>) -> Self {
        let first = now + plan.delay.saturating_sub(age);
        Self {
            next_at: first,
            regular_at: first,
            running: false,
            early: false,
            refusals: 0,
            good: 0,
            bad: 0,
            passed,
        }
    }

    /// When to ask next; `None` while an answer is awaited.
    pub(crate) fn due_at(&self) -> Option<Mono> {
        (!self.running).then_some(self.next_at)
    }

    /// Notes that it is being asked.
    pub(crate) fn launch(&mut self, plan: &ProbePlan, now: Mono) {
        self.running = true;
        self.early = now < self.regular_at;
        if !self.early {
            self.regular_at = now + plan.period;
        }
    }

    /// Notes an answer.
    pub(crate) fn record(
        &mut self,
        plan: &ProbePlan,
        outcome: Outcome,
        now: Mono,
    ) -> Option<Verdict> {
        self.running = false;
        self.next_at = self.regular_at.max(now);
        match outcome {
            Outcome::Success => {
                self.bad = 0;
                self.good = self.good.saturating_add(1);
                if self.good < plan.successes || self.passed == Some(true) {
                    return None;
                }
                self.passed = Some(true);
                Some(Verdict::Passed)
            }
            Outcome::Refused(why) => {
                let starts = plan.kind != ProbeKind::Liveness && self.passed != Some(true);
                let counted = !self.early;
                if starts {
                    self.hurry(plan, now);
                }
                let verdict = counted.then(|| self.failed(plan, why));
                // An application that only just starts is no news.
                verdict.filter(|v| !starts || matches!(v, Verdict::Failed(_)))
            }
            Outcome::Failure(why) => Some(self.failed(plan, why)),
        }
    }

    fn failed(&mut self, plan: &ProbePlan, why: String) -> Verdict {
        self.good = 0;
        self.bad = self.bad.saturating_add(1);
        if self.bad < plan.failures {
            return Verdict::Unhealthy(why);
        }
        self.passed = Some(false);
        Verdict::Failed(why)
    }

    fn hurry(&mut self, plan: &ProbePlan, now: Mono) {
        let wait = EARLY * 2_u32.saturating_pow(self.refusals.min(16));
        self.refusals = self.refusals.saturating_add(1);
        self.next_at = self.next_at.min(now + wait.min(plan.period));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn plan(kind: ProbeKind) -> ProbePlan {
        ProbePlan {
            kind,
            check: Check::Tcp {
                host: None,
                port: 1,
            },
            delay: Duration::from_secs(5),
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 3,
            grace: None,
        }
    }

    /// Plays answers (`+` good, `-` bad, `r` refused) that take no time, each as soon as it is due.
    fn check(plan: &ProbePlan, answers: &str, want: Expect) {
        let mut state = ProbeState::new(plan, Duration::ZERO, Duration::ZERO, None);
        let mut shown = String::new();
        for answer in answers.chars() {
            let now = state.due_at().unwrap();
            state.launch(plan, now);
            assert_eq!(state.due_at(), None);
            let outcome = match answer {
                '+' => Outcome::Success,
                'r' => Outcome::Refused("refused".into()),
                _ => Outcome::Failure("bad".into()),
            };
            let verdict = state.record(plan, outcome, now);
            shown += &format!("t={:.1} {answer} {verdict:?}\n", now.as_secs_f64());
        }
        want.assert_eq(&shown);
    }

    #[test]
    fn the_first_comes_after_the_delay_and_the_rest_by_the_period() {
        check(
            &plan(ProbeKind::Readiness),
            "-++---+",
            expect![[r#"
                t=5.0 - Some(Unhealthy("bad"))
                t=10.0 + Some(Passed)
                t=15.0 + None
                t=20.0 - Some(Unhealthy("bad"))
                t=25.0 - Some(Unhealthy("bad"))
                t=30.0 - Some(Failed("bad"))
                t=35.0 + Some(Passed)
            "#]],
        );
    }

    #[test]
    fn while_nothing_listens_it_asks_sooner_and_does_not_count() {
        check(
            &plan(ProbeKind::Startup),
            "rrrrr+",
            expect![[r#"
                t=5.0 r None
                t=5.1 r None
                t=5.3 r None
                t=5.7 r None
                t=6.5 r None
                t=8.1 + Some(Passed)
            "#]],
        );
    }

    #[test]
    fn liveness_keeps_its_period() {
        check(
            &plan(ProbeKind::Liveness),
            "+rrr",
            expect![[r#"
                t=5.0 + Some(Passed)
                t=10.0 r Some(Unhealthy("refused"))
                t=15.0 r Some(Unhealthy("refused"))
                t=20.0 r Some(Failed("refused"))
            "#]],
        );
    }

    #[test]
    fn thresholds_count_in_a_row() {
        let mut plan = plan(ProbeKind::Readiness);
        plan.successes = 2;
        plan.failures = 2;
        check(
            &plan,
            "+-+--++",
            expect![[r#"
                t=5.0 + None
                t=10.0 - Some(Unhealthy("bad"))
                t=15.0 + None
                t=20.0 - Some(Unhealthy("bad"))
                t=25.0 - Some(Failed("bad"))
                t=30.0 + None
                t=35.0 + Some(Passed)
            "#]],
        );
    }

    #[test]
    fn after_a_restart_of_the_node_the_delay_is_not_waited_again() {
        let plan = plan(ProbeKind::Readiness);
        let state = ProbeState::new(&plan, Duration::ZERO, Duration::from_secs(60), Some(true));
        assert_eq!(state.due_at(), Some(Duration::ZERO));
    }
}
