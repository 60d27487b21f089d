//! What a workload waits for: one typed value that the command line, the dashboard and the notices all render.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::RevisionHash;

/// Why nothing more happens right now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum WaitingOn {
    /// The workload is what it should be.
    #[default]
    Nothing,
    /// Instances of a revision must become available.
    Ready {
        /// Whose.
        revision: RevisionHash,
        /// Available now.
        have: u32,
        /// Wanted.
        want: u32,
    },
    /// Instances that are to go are still there.
    Gone {
        /// Whose.
        revision: RevisionHash,
        /// Still there.
        have: u32,
        /// Wanted.
        want: u32,
    },
    /// The data plane has not yet said that it serves what was set.
    Acknowledgement {
        /// The kind of the object, `HTTPRoute` or `Service`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An analysis is measuring.
    Analysis {
        /// The AnalysisRun.
        name: String,
    },
    /// An experiment is under way.
    Experiment {
        /// The Experiment.
        name: String,
    },
    /// A pause of known length.
    Pause {
        /// Its end, RFC 3339.
        #[schemars(with = "String")]
        until: Timestamp,
    },
    /// All users are on the new revision; the old one stands by.
    Bake {
        /// Until when, RFC 3339.
        #[schemars(with = "String")]
        until: Timestamp,
    },
    /// A window in which no release goes on.
    Freeze {
        /// Its name.
        window: String,
        /// Its end, RFC 3339.
        #[schemars(with = "String")]
        until: Timestamp,
    },
    /// Another Rollout of the release group must come as far.
    Group {
        /// The group.
        group: String,
        /// The other Rollout.
        member: String,
        /// Where that is.
        why: String,
    },
    /// A person must approve.
    Gate {
        /// What.
        name: String,
    },
    /// A person must promote or abort.
    Decision {
        /// Why a person is asked.
        why: String,
    },
    /// The workload is paused by `spec.paused`.
    Paused,
    /// An object that the workload names is not there.
    Missing {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The old revision is kept for a fast way back.
    ScaleDown {
        /// Which.
        revision: RevisionHash,
        /// Until when, RFC 3339.
        #[schemars(with = "String")]
        until: Timestamp,
    },
    /// The spec cannot be carried out; the last good revision keeps serving.
    ValidSpec {
        /// Every problem, one a line.
        problems: String,
    },
    /// The revision was taken back; a new one, or a retry, must come.
    NewRevision {
        /// Why it was taken back.
        why: String,
    },
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Ready {
                revision,
                have,
                want,
            } => write!(
                f,
                "{have} of {want} instances of {revision} to become available"
            ),
            Self::Gone {
                revision,
                have,
                want,
            } => write!(f, "{have} instances of {revision} to become {want}"),
            Self::Acknowledgement { kind, name } => write!(f, "the gateway to serve {kind} {name}"),
            Self::Analysis { name } => write!(f, "analysis {name}"),
            Self::Experiment { name } => write!(f, "experiment {name}"),
            Self::Pause { until } => write!(f, "the end of a pause at {until:.0}"),
            Self::Bake { until } => write!(f, "the end of the bake at {until:.0}"),
            Self::Freeze { window, until } => {
                write!(f, "the end of the freeze {window} at {until:.0}")
            }
            Self::Group { group, member, why } => {
                write!(f, "{member} of the release group {group}, which {why}")
            }
            Self::Gate { name } => write!(f, "somebody to approve {name}"),
            Self::Decision { why } => write!(f, "a decision: {why}"),
            Self::Paused => f.write_str("resume: it is paused"),
            Self::Missing { kind, name } => write!(f, "{kind} {name}, which does not exist"),
            Self::ScaleDown { revision, until } => {
                write!(f, "{revision} to be reclaimed at {until:.0}")
            }
            Self::ValidSpec { problems } => write!(f, "a valid spec: {problems}"),
            Self::NewRevision { why } => write!(f, "a new revision or a retry: {why}"),
        }
    }
}
