//! A Job: pods that run to their end, until enough of them ended well.
//!
//! Finished pods stay until their Job goes, so what has ended is counted from what is there; what the status says already
//! is never taken back, in case somebody deletes a finished pod. Every pod has a name that follows from the Job's uid and a
//! slot, so that a plan which is carried out twice makes nothing twice.
//!
//! Absent on purpose: starting containers again (`restartPolicy: OnFailure`), which is the business of a node.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serin_api::conditions;

use crate::hash;
use crate::workload::{PodView, count};

/// On a pod of an indexed Job: which of the completions it is for, from 0.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The most pods that one plan makes or deletes.
const MAX_CHANGES: usize = 500;
/// A name of 57 bytes, a hyphen and five letters are a host name of 63 bytes.
const MAX_PREFIX: usize = 57;
/// After the first failure; twice as long after each further one.
const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_CAP: SignedDuration = SignedDuration::from_secs(360);
const DEFAULT_BACKOFF_LIMIT: i32 = 6;

/// What a Job wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Whether it is being deleted: its pods are then the business of the garbage collector.
    pub deleting: bool,
    /// Pods at the same time.
    pub parallelism: u32,
    /// Pods that must end well; `None`: one that ends well ends the Job, once all others have ended.
    pub completions: Option<u32>,
    /// Whether each completion has a number of its own.
    pub indexed: bool,
    /// Failures that are borne.
    pub backoff_limit: u32,
    /// Whether containers that fail are started again in their pod.
    pub restarts_in_place: bool,
    /// For how long it may run.
    pub deadline: Option<SignedDuration>,
    /// How long it stays when it is over; `None`: for ever.
    pub keep_for: Option<SignedDuration>,
    /// Whether it waits.
    pub suspended: bool,
    /// What its pods are made from.
    pub template: PodTemplateSpec,
}

/// Reads a Job, with the defaults of what it leaves out.
pub fn lower(job: &Job) -> Desired {
    let spec = job.spec.clone().unwrap_or_default();
    let pod = spec.template.spec.clone().unwrap_or_default();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let seconds = |n: i64| SignedDuration::from_secs(n.max(0));
    Desired {
        name: job.metadata.name.clone().unwrap_or_default(),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        deleting: job.metadata.deletion_timestamp.is_some(),
        parallelism: spec.parallelism.map_or(1, count),
        completions: spec.completions.map(count),
        indexed,
        backoff_limit: count(spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF_LIMIT)),
        restarts_in_place: pod.restart_policy.as_deref() == Some("OnFailure"),
        deadline: spec.active_deadline_seconds.map(seconds),
        keep_for: spec.ttl_seconds_after_finished.map(|n| seconds(n.into())),
        suspended: spec.suspend.unwrap_or(false),
        template: spec.template,
    }
}

/// A pod of the Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPod {
    /// What every workload knows of a pod.
    pub view: PodView,
    /// Which completion it is for; `None` of a Job that is not indexed.
    pub index: Option<u32>,
    /// When its last container ended; `None` while one runs.
    pub finished: Option<Timestamp>,
}

impl JobPod {
    /// Reads a pod.
    pub fn from_pod(pod: &Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        let index = annotations.and_then(|a| a.get(INDEX)?.parse().ok());
        let containers = pod.status.as_ref();
        let containers = containers.and_then(|s| s.container_statuses.as_deref());
        let ended = containers.into_iter().flatten().filter_map(|c| {
            let state = c.state.as_ref()?.terminated.as_ref()?;
            Some(state.finished_at.as_ref()?.0)
        });
        Self {
            view: PodView::from_pod(pod),
            index,
            finished: ended.max(),
        }
    }

    fn ended_well(&self) -> bool {
        self.view.phase == crate::workload::Phase::Succeeded
    }

    fn ended_badly(&self) -> bool {
        self.view.phase == crate::workload::Phase::Failed
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The pods that it controls.
    pub pods: Vec<JobPod>,
    /// The names of all pods of the namespace that begin with its own name.
    pub taken: BTreeSet<String>,
    /// Its status.
    pub status: JobStatus,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// To be carried out in this order.
    pub actions: Vec<Action>,
    /// The status once all is carried out.
    pub status: JobStatus,
    /// What happened, as reason and message, if a Job has come to its end.
    pub note: Option<(&'static str, String)>,
    /// When to look again, if nothing changes before.
    pub wake_at: Option<Timestamp>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a pod. A pod of this name that is already there is the one that was wanted.
    Create(Box<Pod>),
    /// Delete a pod, if it is still this one.
    Delete {
        /// Its name.
        name: String,
        /// Which one of that name.
        uid: String,
    },
    /// Delete the Job itself: its time after the end is over.
    Forget,
}

/// Why a Job is over, as the reason of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Completed,
    TooManyFailures,
    TooLate,
}

/// Decides what a Job does next.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft {
        plan: Plan {
            actions: Vec::new(),
            status: observed.status.clone(),
            note: None,
            wake_at: None,
        },
        count: Count::of(desired, observed),
    };
    if desired.deleting {
        return draft.plan;
    }
    if is_over(&observed.status) {
        draft.forget_in_time(desired, now);
        return draft.plan;
    }
    draft.begin(desired, now);
    match draft.end(desired, now) {
        Some(end) => draft.finish(desired, observed, end, now),
        None if desired.suspended => draft.suspend(observed, now),
        None => draft.go_on(desired, observed, now),
    }
    draft.tell(desired, observed);
    draft.plan
}

fn is_over(status: &JobStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    ["Complete", "Failed"]
        .iter()
        .any(|kind| conditions::is_true(conditions, kind))
}

/// Pods by what has become of them.
#[derive(Clone, Debug, Default)]
struct Count {
    live: u32,
    ready: u32,
    succeeded: u32,
    failed: u32,
    /// Containers that were started again in their pods.
    restarts: u32,
    /// The completions that are done, of an indexed Job.
    done: BTreeSet<u32>,
    last_failure: Option<Timestamp>,
}

impl Count {
    fn of(desired: &Desired, observed: &Observed) -> Self {
        let mut count = Self::default();
        let at_least = |n: Option<i32>| n.map_or(0, crate::workload::count);
        for pod in &observed.pods {
            count.live += u32::from(pod.view.is_live());
            count.ready += u32::from(pod.view.is_live() && pod.view.ready);
            count.restarts += pod.view.restarts;
            if pod.ended_well() {
                count.succeeded += 1;
                count.done.extend(pod.index);
            }
            if pod.ended_badly() {
                count.failed += 1;
                count.last_failure = count.last_failure.max(pod.finished);
            }
        }
        if desired.indexed {
            count.succeeded = u32::try_from(count.done.len()).unwrap_or(u32::MAX);
        }
        count.succeeded = count.succeeded.max(at_least(observed.status.succeeded));
        count.failed = count.failed.max(at_least(observed.status.failed));
        count
    }
}

struct Draft {
    plan: Plan,
    count: Count,
}

impl Draft {
    fn begin(&mut self, desired: &Desired, now: Timestamp) {
        if desired.suspended {
            self.plan.status.start_time = None;
        } else if self.plan.status.start_time.is_none() {
            self.plan.status.start_time = Some(conditions::time(now));
        }
    }

    fn end(&mut self, desired: &Desired, now: Timestamp) -> Option<End> {
        let done = match desired.completions {
            Some(wanted) => self.count.succeeded >= wanted,
            None => self.count.succeeded > 0 && self.count.live == 0,
        };
        if done {
            return Some(End::Completed);
        }
        let failures = if desired.restarts_in_place {
            self.count.failed.max(self.count.restarts)
        } else {
            self.count.failed
        };
        if failures > desired.backoff_limit {
            return Some(End::TooManyFailures);
        }
        let began = self.plan.status.start_time.as_ref().map(|t| t.0);
        let until = began.zip(desired.deadline).and_then(|(began, deadline)| {
            let at = began.checked_add(deadline);
            at.ok()
        });
        if let Some(until) = until {
            if until <= now {
                return Some(End::TooLate);
            }
            self.wake(until);
        }
        None
    }

    fn finish(&mut self, desired: &Desired, observed: &Observed, end: End, now: Timestamp) {
        self.delete(observed.pods.iter().filter(|p| p.view.is_live()));
        let (kind, reason, message) = match end {
            End::Completed => (
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods".to_owned(),
            ),
            End::TooManyFailures => (
                "Failed",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit".to_owned(),
            ),
            End::TooLate => (
                "Failed",
                "DeadlineExceeded",
                "Job was active longer than specified deadline".to_owned(),
            ),
        };
        self.set_condition(kind, true, reason, &message, now);
        if end == End::Completed {
            self.plan.status.completion_time = Some(conditions::time(now));
        }
        self.count.live = 0;
        self.count.ready = 0;
        self.plan.note = Some((
            if end == End::Completed {
                "Completed"
            } else {
                reason
            },
            message,
        ));
        self.forget_in_time(desired, now);
    }

    /// A Job that is over stays for the time that it asks for.
    fn forget_in_time(&mut self, desired: &Desired, now: Timestamp) {
        let Some(keep_for) = desired.keep_for else {
            return;
        };
        let conditions = self.plan.status.conditions.as_deref().unwrap_or_default();
        let ends = conditions
            .iter()
            .filter(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
        let ended = ends.filter_map(|c| c.last_transition_time.as_ref()).max();
        let Some(until) = ended.and_then(|t| t.0.checked_add(keep_for).ok()) else {
            return;
        };
        if until <= now {
            self.plan.actions.push(Action::Forget);
        } else {
            self.wake(until);
        }
    }

    fn suspend(&mut self, observed: &Observed, now: Timestamp) {
        self.delete(observed.pods.iter().filter(|p| p.view.is_live()));
        self.count.live = 0;
        self.count.ready = 0;
        self.set_condition("Suspended", true, "JobSuspended", "Job suspended", now);
    }

    fn go_on(&mut self, desired: &Desired, observed: &Observed, now: Timestamp) {
        let conditions = self.plan.status.conditions.as_deref().unwrap_or_default();
        if conditions::is_true(conditions, "Suspended") {
            self.set_condition("Suspended", false, "JobResumed", "Job resumed", now);
        }
        let wanted = match desired.completions {
            Some(completions) => {
                let left = completions.saturating_sub(self.count.succeeded);
                desired.parallelism.min(left)
            }
            // Once one has ended well no other is begun.
            None if self.count.succeeded > 0 => self.count.live,
            None => desired.parallelism,
        };
        let live: Vec<&JobPod> = observed.pods.iter().filter(|p| p.view.is_live()).collect();
        let surplus = live.len().saturating_sub(wanted as usize);
        if surplus > 0 {
            let mut least = live;
            least.sort_by_key(|p| {
                (
                    p.view.ready,
                    std::cmp::Reverse(p.view.created),
                    p.view.name.clone(),
                )
            });
            self.delete(least.into_iter().take(surplus));
            self.count.live = wanted;
            return;
        }
        let missing = wanted.saturating_sub(self.count.live) as usize;
        if missing == 0 || self.waits_after_failure(now) {
            return;
        }
        let pods = new_pods(desired, observed, &self.count.done);
        let pods: Vec<Pod> = pods.take(missing.min(MAX_CHANGES)).collect();
        self.count.live += u32::try_from(pods.len()).unwrap_or(0);
        let create = pods.into_iter().map(|pod| Action::Create(Box::new(pod)));
        self.plan.actions.extend(create);
    }

    /// After a failure the next pod has to wait, longer each time.
    fn waits_after_failure(&mut self, now: Timestamp) -> bool {
        let Some(last) = self.count.last_failure else {
            return false;
        };
        let doublings = self.count.failed.saturating_sub(1).min(16);
        let delay = BACKOFF_FIRST
            .checked_mul(2_i32.saturating_pow(doublings))
            .map_or(BACKOFF_CAP, |delay| delay.min(BACKOFF_CAP));
        let until = last.checked_add(delay).unwrap_or(now);
        if until > now {
            self.wake(until);
        }
        until > now
    }

    fn tell(&mut self, desired: &Desired, observed: &Observed) {
        let number = |n: u32| Some(i32::try_from(n).unwrap_or(i32::MAX)).filter(|n| *n > 0);
        let leaving = observed.pods.iter();
        let leaving = leaving.filter(|p| p.view.terminating && !p.view.is_finished());
        let status = &mut self.plan.status;
        status.active = number(self.count.live);
        status.ready = Some(i32::try_from(self.count.ready).unwrap_or(i32::MAX));
        status.succeeded = number(self.count.succeeded);
        status.failed = number(self.count.failed);
        status.terminating = Some(i32::try_from(leaving.count()).unwrap_or(i32::MAX));
        if desired.indexed {
            status.completed_indexes = Some(ranges(&self.count.done)).filter(|t| !t.is_empty());
        }
    }

    fn set_condition(
        &mut self,
        kind: &str,
        holds: bool,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) {
        let all = self.plan.status.conditions.get_or_insert_default();
        let condition = JobCondition {
            type_: kind.into(),
            status: conditions::word(holds),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(conditions::time(now)),
            last_probe_time: Some(conditions::time(now)),
        };
        // The time at which it was last looked at says nothing here, and would count as a change.
        if conditions::get(all, kind).is_none_or(|c| c.status != condition.status) {
            conditions::set(all, condition);
        }
    }

    fn delete<'a>(&mut self, pods: impl IntoIterator<Item = &'a JobPod>) {
        let delete = pods
            .into_iter()
            .take(MAX_CHANGES)
            .map(|pod| Action::Delete {
                name: pod.view.name.clone(),
                uid: pod.view.uid.clone(),
            });
        self.plan.actions.extend(delete);
    }

    fn wake(&mut self, at: Timestamp) {
        let earlier = self.plan.wake_at.map_or(at, |earlier| earlier.min(at));
        self.plan.wake_at = Some(earlier);
    }
}

/// Numbers as a cluster writes them: `1,3-5,7`.
fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = ranges.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

/// The next pods, in the order in which they are made.
fn new_pods<'a>(
    desired: &'a Desired,
    observed: &'a Observed,
    done: &'a BTreeSet<u32>,
) -> Box<dyn Iterator<Item = Pod> + 'a> {
    let mut names = free_names(desired, observed);
    let Some(completions) = desired.completions.filter(|_| desired.indexed) else {
        return Box::new(names.map(move |name| pod(desired, name, None)));
    };
    let live = observed.pods.iter().filter(|p| p.view.is_live());
    let running: BTreeSet<u32> = live.filter_map(|p| p.index).collect();
    let free = (0..completions).filter(move |i| !running.contains(i) && !done.contains(i));
    Box::new(free.filter_map(move |index| Some(pod(desired, names.next()?, Some(index)))))
}

/// The names of the lowest free slots.
fn free_names<'a>(desired: &'a Desired, observed: &Observed) -> impl Iterator<Item = String> + 'a {
    let mut used: BTreeSet<String> = observed.taken.clone();
    used.extend(observed.pods.iter().map(|p| p.view.name.clone()));
    let prefix: String = desired.name.chars().take(MAX_PREFIX).collect();
    (0_u64..).filter_map(move |slot| {
        let suffix = hash::short(&[&desired.uid, &slot.to_string()]);
        let name = format!("{prefix}-{suffix}");
        used.insert(name.clone()).then_some(name)
    })
}

fn pod(desired: &Desired, name: String, index: Option<u32>) -> Pod {
    let meta = desired.template.metadata.clone().unwrap_or_default();
    let mut spec = desired.template.spec.clone().unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = meta.annotations.unwrap_or_default();
    let mut labels = meta.labels.unwrap_or_default();
    if let Some(index) = index {
        annotations.insert(INDEX.into(), index.to_string());
        labels.insert(INDEX.into(), index.to_string());
        let containers = spec.containers.iter_mut();
        for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
            container.env.get_or_insert_default().push(index_variable());
        }
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels).filter(|l| !l.is_empty()),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn index_variable() -> EnvVar {
    EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.annotations['{INDEX}']"),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

/// The reference that makes this Job the controller of a pod.
fn owner(desired: &Desired) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: desired.name.clone(),
        uid: desired.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests;
