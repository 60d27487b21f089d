//! The decisions of a Rollout: from what is wanted and what is seen to what is done next.
//!
//! [`plan`] is the only way in. It is a straight list of steps over one value, [`Observed`], and it keeps nothing between
//! calls: whoever stops after any action and starts again comes to the same end, because everything needed to decide is in
//! the objects. What is absent: how anything is read or written, and what time it is.

mod abort;
mod analyses;
mod bake;
mod blue_green;
mod by_replicas;
mod by_traffic;
mod cleanup;
mod governed;
mod history;
mod observed;
mod pauses;
mod planner;
mod report;
mod validate;
mod warm;

use std::fmt;

use jiff::Timestamp;
use serin_api::analysis::AnalysisRunSpec;
use serin_api::rollout::{Desired, Lowered, RolloutSpec, RolloutStatus, Route, Strategy, lower};
use serin_api::units::{RevisionHash, Weight};
use serin_api::waiting::WaitingOn;

pub use governed::{Governed, govern};
pub use history::{Event, History, TakenBack};
pub use observed::{Observed, PodAge, Revision, Role, RouteView, RunView, ServiceView};

use planner::Planner;

/// What is done next, and where the Rollout stands.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// In this order. Each may be done twice without harm.
    pub actions: Vec<Action>,
    /// Written once, after all actions have been done.
    pub status: RolloutStatus,
    /// Why nothing more happens now; the same value is in the status.
    pub waiting_on: WaitingOn,
    /// When to look again though nothing has changed; `None` when only a change brings anything new.
    pub wake_at: Option<Timestamp>,
    /// What happened, for people.
    pub notes: Vec<Note>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the ReplicaSet of the revision that is wanted, with no instances yet.
    Create {
        /// Its hash, which makes its name.
        revision: RevisionHash,
        /// Its number.
        number: u64,
    },
    /// Give an old ReplicaSet, which is wanted again, a new number.
    Renumber {
        /// Which.
        revision: RevisionHash,
        /// Its number from now on.
        number: u64,
    },
    /// Set the instances of a revision.
    Scale {
        /// Which.
        revision: RevisionHash,
        /// So many.
        to: u32,
    },
    /// Keep the instances of a revision until then; `None` takes the deadline away.
    KeepUntil {
        /// Which.
        revision: RevisionHash,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// Point a Service at a revision.
    Select {
        /// The Service.
        service: String,
        /// The revision.
        revision: RevisionHash,
    },
    /// Set the share of the canary Service on a route.
    Split {
        /// The route.
        route: Route,
        /// The share; the stable Service gets the rest.
        canary: Weight,
    },
    /// Begin an analysis.
    StartRun {
        /// Its name.
        name: String,
        /// What for.
        role: Role,
        /// The revision that is analysed.
        revision: RevisionHash,
        /// What is measured.
        spec: Box<AnalysisRunSpec>,
    },
    /// End an analysis that nobody waits for any more.
    StopRun {
        /// Its name.
        name: String,
    },
    /// Replace an instance that is older than the restart that was asked for.
    Restart {
        /// The pod.
        pod: String,
        /// Its uid, so that a younger pod of the same name is left alone.
        uid: String,
    },
    /// Keep what became of a revision with it.
    Remember {
        /// Whose.
        revision: RevisionHash,
        /// What became of it.
        event: Event,
    },
    /// Forget an old revision.
    DeleteRevision {
        /// Which.
        revision: RevisionHash,
    },
    /// Forget an old analysis.
    DeleteRun {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { revision, number } => write!(f, "make {revision} as revision {number}"),
            Self::Renumber { revision, number } => write!(f, "make {revision} revision {number}"),
            Self::Scale { revision, to } => write!(f, "scale {revision} to {to}"),
            Self::KeepUntil {
                revision,
                until: Some(until),
            } => write!(f, "keep {revision} until {until:.0}"),
            Self::KeepUntil {
                revision,
                until: None,
            } => write!(f, "keep {revision}"),
            Self::Select { service, revision } => write!(f, "point {service} at {revision}"),
            Self::Split { route, canary } => {
                write!(f, "send {canary} of {} to the canary", route.name())
            }
            Self::StartRun { name, .. } => write!(f, "start analysis {name}"),
            Self::StopRun { name } => write!(f, "stop analysis {name}"),
            Self::Restart { pod, .. } => write!(f, "restart {pod}"),
            Self::Remember { revision, event } => write!(f, "remember of {revision}: {event}"),
            Self::DeleteRevision { revision } => write!(f, "forget {revision}"),
            Self::DeleteRun { name } => write!(f, "forget analysis {name}"),
        }
    }
}

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// In one word, such as `RolloutAborted`.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// Decides what is done next for a Rollout.
pub fn plan(spec: &RolloutSpec, observed: &Observed, now: Timestamp) -> Plan {
    let desired = match checked(spec) {
        Ok(desired) => desired,
        Err(problems) => return report::invalid(observed, &problems, now),
    };
    let problems = validate::references(&desired, observed);
    let mut planner = Planner::new(&desired, observed, now);
    if !problems.is_empty() && !planner.goes_back() {
        return report::invalid(observed, &problems, now);
    }
    planner.problems = problems;
    planner.take_in_changes();
    if planner.make_revision() {
        match &desired.strategy {
            Strategy::Canary(canary) if canary.routes.is_empty() => planner.by_replicas(canary),
            Strategy::Canary(canary) => planner.by_traffic(canary),
            Strategy::BlueGreen(blue_green) => planner.blue_green(blue_green),
        }
        planner.remember_promotion();
        planner.restart_old_pods();
        planner.clean_up();
    }
    planner.finish()
}

/// The checked spec, or one sentence for each problem.
fn checked(spec: &RolloutSpec) -> Result<Desired, Vec<String>> {
    let Lowered { desired, problems } = lower(spec);
    desired.ok_or_else(|| {
        let stopping = problems
            .iter()
            .filter(|p| p.severity != serin_api::Severity::Warning);
        stopping.map(ToString::to_string).collect()
    })
}
