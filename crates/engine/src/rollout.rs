//! The decisions of a Rollout: from what is wanted and what is seen to what is done next.
//!
//! [`plan`] is the only way in. It is a straight list of steps over one value, [`Observed`], and it keeps nothing between
//! calls: whoever stops after any action and starts again comes to the same end, because everything needed to decide is in
//! the objects. What is absent: how anything is read or written, and what time it is.

mod abort;
mod analyses;
mod bake;
pub(crate) mod batches;
mod blue_green;
mod by_replicas;
mod by_traffic;
mod cleanup;
pub mod configuration;
mod experiments;
mod forecast;
mod governed;
pub mod group;
mod history;
mod holds;
mod observed;
mod pauses;
mod planner;
mod pointers;
mod report;
mod routes;
mod settings;
mod steps;
mod validate;
mod warm;
mod workload_ref;

use std::fmt;

use jiff::Timestamp;
use serin_api::analysis::AnalysisRunSpec;
use serin_api::experiment::ExperimentSpec;
use serin_api::rollout::{
    Desired, Lowered, ManagedRule, PodMetadata, RolloutSpec, RolloutStatus, Route, Strategy, lower,
};
use serin_api::units::{RevisionHash, Weight};
use serin_api::waiting::WaitingOn;

pub use forecast::{Forecast, InGroup, Outset, Stage, Wait, forecast, in_step};
pub use governed::{Governed, govern};
pub use history::{Event, History, TakenBack};
pub use holds::Question;
pub use observed::{
    ExperimentView, Observed, PodAge, Revision, Role, RouteView, RunView, ServiceView,
    WorkloadView, digest,
};

use crate::hash::{template_digest, template_text};
use configuration::{CopyOf, Reference};
use planner::Planner;
pub use report::refused;

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
        /// The revision from whose machines its instances keep away, when the strategy asks for it.
        apart_from: Option<RevisionHash>,
    },
    /// Keep the content that a ConfigMap or a Secret has now under a name of its own.
    CopyConfiguration(CopyOf),
    /// Forget such a copy.
    DeleteConfiguration(Reference),
    /// Give an old ReplicaSet, which is wanted again, a new number.
    Renumber {
        /// Which.
        revision: RevisionHash,
        /// Its number from now on.
        number: u64,
    },
    /// Set the labels and annotations that the pods of a revision have for a time, on its template and on its pods.
    SetMetadata {
        /// Which.
        revision: RevisionHash,
        /// All of them: others that were set before go.
        metadata: PodMetadata,
    },
    /// Set for how long an instance of a revision must be ready to be available.
    SetMinReady {
        /// Which.
        revision: RevisionHash,
        /// So long.
        seconds: u32,
    },
    /// Set the instances of the workload whose template is used.
    ScaleWorkload {
        /// So many.
        to: u32,
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
    /// Point a subset of a DestinationRule at a revision.
    SelectSubset {
        /// The DestinationRule.
        rule: String,
        /// The subset.
        subset: String,
        /// The revision.
        revision: RevisionHash,
    },
    /// Set where the requests of a route go.
    Split {
        /// The route.
        route: Route,
        /// The share of the canary; the stable revision gets the rest.
        canary: Weight,
        /// The shares of versions of an experiment, by their Services; Services that are not named go.
        additional: Vec<(String, Weight)>,
        /// The managed rules before the others, the first first; those that are not named go.
        managed: Vec<ManagedRule>,
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
    /// Begin an experiment.
    StartExperiment {
        /// Its name.
        name: String,
        /// The revision on trial.
        revision: RevisionHash,
        /// Whether its versions stay until [`Action::ReleaseExperiment`], as routes will lead to them.
        in_routes: bool,
        /// What runs side by side.
        spec: Box<ExperimentSpec>,
    },
    /// End an experiment that nobody waits for any more.
    StopExperiment {
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
    /// Ask the service of a gate, unless it is being asked.
    Ask(Question),
    /// Take the word away by which a revision got the users without steps: it has been carried out, or is about another one.
    EndEmergency,
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
    /// Let the versions of an experiment go: no route leads to them any more.
    ReleaseExperiment {
        /// Its name.
        name: String,
    },
    /// Forget an old experiment.
    DeleteExperiment {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create {
                revision, number, ..
            } => write!(f, "make {revision} as revision {number}"),
            Self::CopyConfiguration(CopyOf { source, name, .. }) => {
                write!(f, "copy {source} as {name:?}")
            }
            Self::DeleteConfiguration(copy) => write!(f, "forget {copy}"),
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
            Self::SelectSubset {
                rule,
                subset,
                revision,
            } => write!(f, "point subset {subset} of {rule} at {revision}"),
            Self::Split {
                route,
                canary,
                additional,
                managed,
            } => {
                write!(f, "send {canary} of {} to the canary", route.name())?;
                additional
                    .iter()
                    .try_for_each(|(service, share)| write!(f, ", {share} to {service}"))?;
                managed
                    .iter()
                    .try_for_each(|rule| write!(f, ", with {}", rule.name))
            }
            Self::SetMetadata { revision, .. } => write!(f, "label the pods of {revision}"),
            Self::SetMinReady { revision, seconds } => {
                write!(f, "instances of {revision} are available after {seconds} s")
            }
            Self::ScaleWorkload { to } => write!(f, "scale the referenced workload to {to}"),
            Self::StartExperiment { name, .. } => write!(f, "start experiment {name}"),
            Self::StopExperiment { name } => write!(f, "stop experiment {name}"),
            Self::ReleaseExperiment { name } => write!(f, "no route leads to experiment {name}"),
            Self::DeleteExperiment { name } => write!(f, "forget experiment {name}"),
            Self::StartRun { name, .. } => write!(f, "start analysis {name}"),
            Self::StopRun { name } => write!(f, "stop analysis {name}"),
            Self::Restart { pod, .. } => write!(f, "restart {pod}"),
            Self::Remember { revision, event } => write!(f, "remember of {revision}: {event}"),
            Self::Ask(Question { gate, revision, .. }) => {
                write!(f, "ask whether {revision} may pass {gate}")
            }
            Self::EndEmergency => f.write_str("the emergency is over"),
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
    match desired(spec, &observed.status) {
        Ok(desired) => plan_for(&desired, observed, now),
        Err(problems) => report::invalid(observed, &problems, now),
    }
}

/// The same for a spec that was checked before ([`desired`]).
pub fn plan_for(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let desired = &*batches::batched(desired, observed.governed.policy.batches.as_ref());
    let problems = validate::references(desired, observed);
    let mut planner = Planner::new(desired, observed, now);
    if !problems.is_empty() && !planner.goes_back() {
        return report::invalid(observed, &problems, now);
    }
    planner.problems = problems;
    planner.tell_batches();
    planner.take_in_changes();
    planner.take_in_holds();
    planner.copy_configuration();
    if planner.make_revision() {
        planner.carry_settings();
        planner.scale_workload();
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

/// What a spec wants, its Services on the sides that the status gives them; or one sentence for each problem.
///
/// # Errors
/// Every problem that stops the spec.
pub fn desired(spec: &RolloutSpec, status: &RolloutStatus) -> Result<Desired, Vec<String>> {
    let Lowered { desired, problems } = lower(spec);
    if let Some(mut desired) = desired {
        desired.take_turns(status.canary.stable_ping_pong.as_deref());
        desired.template_text = template_text(&desired.template);
        desired.template_digest = template_digest(&desired.template);
        return Ok(desired);
    }
    if let Some(reference) = spec.workload_ref.as_ref().filter(|_| problems.is_empty()) {
        let kind = reference.kind.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        return Err(vec![format!("spec.workloadRef: {kind} {name:?} not found")]);
    }
    let stopping = problems
        .iter()
        .filter(|p| p.severity != serin_api::Severity::Warning);
    Err(stopping.map(ToString::to_string).collect())
}
