//! A CronJob: a Job each time that its schedule is due.
//!
//! The name of a Job follows from the time at which it was due, so that a plan which is carried out twice makes one Job.
//! Absent on purpose: where zones of time are read from; the shell brings the zone.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serin_api::conditions;
use serin_api::cron::Schedule;

use crate::workload::count;

/// On a Job: when it was due.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More times than these in the past are not counted.
const MOST_MISSED: usize = 100;

/// What a CronJob wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The object.
    pub object: CronJob,
    /// When it is due.
    pub schedule: Schedule,
    /// In which zone of time.
    pub zone: TimeZone,
}

/// A Job that it made.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// What names it.
    pub reference: ObjectReference,
    /// When it was made.
    pub created: Timestamp,
    /// When it ended well; `None` when it did not, or not yet.
    pub completed: Option<Timestamp>,
    /// Whether it failed.
    pub failed: bool,
}

impl JobView {
    /// Reads a Job.
    pub fn from_job(job: &Job) -> Self {
        let meta = &job.metadata;
        let status = job.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let created = meta.creation_timestamp.as_ref().map(|t| t.0);
        let created = created.unwrap_or(Timestamp::UNIX_EPOCH);
        let complete = conditions::is_true(&conditions, "Complete");
        let completed = status.completion_time.map_or(created, |t| t.0);
        Self {
            reference: ObjectReference {
                api_version: Some("batch/v1".into()),
                kind: Some("Job".into()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: None,
            },
            created,
            completed: complete.then_some(completed),
            failed: conditions::is_true(&conditions, "Failed"),
        }
    }

    fn is_active(&self) -> bool {
        self.completed.is_none() && !self.failed
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Plan {
    /// To be carried out in this order.
    pub actions: Vec<Action>,
    /// The status once all is carried out.
    pub status: CronJobStatus,
    /// A warning, as reason and message.
    pub warning: Option<(&'static str, String)>,
    /// When to look again, if nothing changes before.
    pub wake_at: Option<Timestamp>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a Job. A Job of this name that is already there is the one that was wanted.
    Create(Box<Job>),
    /// Delete a Job, if it is still this one.
    Delete {
        /// Its name.
        name: String,
        /// Which one of that name.
        uid: String,
    },
}

/// Decides what a CronJob does next.
pub fn plan(desired: &Desired, jobs: &[JobView], now: Timestamp) -> Plan {
    let object = &desired.object;
    let spec = object.spec.clone().unwrap_or_default();
    let mut plan = Plan {
        actions: Vec::new(),
        status: object.status.clone().unwrap_or_default(),
        warning: None,
        wake_at: None,
    };
    if object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    forget_finished(
        &mut plan,
        jobs,
        spec.successful_jobs_history_limit.unwrap_or(3),
        |job| job.completed.is_some(),
    );
    forget_finished(
        &mut plan,
        jobs,
        spec.failed_jobs_history_limit.unwrap_or(1),
        |job| job.failed,
    );
    let mut active: Vec<&JobView> = jobs.iter().filter(|job| job.is_active()).collect();
    if !spec.suspend.unwrap_or(false) {
        start(&mut plan, desired, &mut active, now);
        plan.wake_at = desired.schedule.next(now, &desired.zone);
    }
    let references: Vec<_> = active.iter().map(|job| job.reference.clone()).collect();
    plan.status.active = Some(references).filter(|list| !list.is_empty());
    let completed = jobs.iter().filter_map(|job| job.completed).max();
    let before = plan.status.last_successful_time.as_ref().map(|t| t.0);
    plan.status.last_successful_time = completed.max(before).map(conditions::time);
    plan
}

/// Starts the Job of the last time that was due, unless it is too late or another one is still running.
fn start(plan: &mut Plan, desired: &Desired, active: &mut Vec<&JobView>, now: Timestamp) {
    let object = &desired.object;
    let spec = object.spec.clone().unwrap_or_default();
    let Some((due, missed)) = last_due(desired, &plan.status, now) else {
        return;
    };
    if missed >= MOST_MISSED {
        let why = "too many missed start times; set or decrease startingDeadlineSeconds, or check the clock";
        plan.warning = Some(("TooManyMissedTimes", why.into()));
    }
    let within = spec
        .starting_deadline_seconds
        .map(|s| SignedDuration::from_secs(s.max(0)));
    if within.is_some_and(|within| now.duration_since(due) > within) {
        let why = format!("missed scheduled time to start a job: {due}");
        plan.warning = Some(("MissSchedule", why));
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let why = "not starting job because prior execution is running and concurrency policy is Forbid";
            plan.warning = Some(("JobAlreadyActive", why.into()));
            return;
        }
        Some("Replace") => {
            plan.actions.extend(active.drain(..).map(delete));
        }
        _ => {}
    }
    plan.actions
        .push(Action::Create(Box::new(job(object, due))));
    plan.status.last_schedule_time = Some(conditions::time(due));
}

/// The last time that was due and has not been served, with how many there were.
fn last_due(
    desired: &Desired,
    status: &CronJobStatus,
    now: Timestamp,
) -> Option<(Timestamp, usize)> {
    let created = desired.object.metadata.creation_timestamp.as_ref();
    let since = status.last_schedule_time.as_ref().or(created)?.0;
    let spec = desired.object.spec.as_ref();
    let within = spec.and_then(|s| s.starting_deadline_seconds);
    let earliest = within.and_then(|s| now.checked_sub(SignedDuration::from_secs(s.max(0))).ok());
    let mut at = earliest.map_or(since, |earliest| earliest.max(since));
    let mut found = None;
    let mut missed = 0;
    while let Some(next) = desired
        .schedule
        .next(at, &desired.zone)
        .filter(|next| *next <= now)
    {
        found = Some(next);
        missed += 1;
        // Of very many only the last one counts: it is looked for near the present.
        at = if missed == MOST_MISSED {
            now.checked_sub(near(desired, now)).ok()?.max(next)
        } else {
            next
        };
    }
    found.map(|found| (found, missed))
}

/// A time in which the schedule is due at least once, if it is due at all.
fn near(desired: &Desired, now: Timestamp) -> SignedDuration {
    let next = desired.schedule.next(now, &desired.zone);
    let after = next.and_then(|next| desired.schedule.next(next, &desired.zone));
    let gap = next
        .zip(after)
        .map(|(next, after)| after.duration_since(next));
    gap.and_then(|gap| gap.checked_mul(2))
        .unwrap_or(SignedDuration::from_hours(24))
}

/// Finished Jobs beyond the limit go, the oldest first.
fn forget_finished(
    plan: &mut Plan,
    jobs: &[JobView],
    keep: i32,
    is_such: impl Fn(&JobView) -> bool,
) {
    let mut finished: Vec<&JobView> = jobs.iter().filter(|job| is_such(job)).collect();
    finished.sort_by_key(|job| (std::cmp::Reverse(job.created), job.reference.name.clone()));
    let surplus = finished.into_iter().skip(count(keep) as usize);
    plan.actions.extend(surplus.map(delete));
}

fn delete(job: &JobView) -> Action {
    Action::Delete {
        name: job.reference.name.clone().unwrap_or_default(),
        uid: job.reference.uid.clone().unwrap_or_default(),
    }
}

fn job(object: &CronJob, due: Timestamp) -> Job {
    let template = object.spec.clone().unwrap_or_default().job_template;
    let meta = template.metadata.unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.into(), due.to_string());
    let owner = OwnerReference {
        api_version: "batch/v1".into(),
        kind: "CronJob".into(),
        name: name.clone(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", due.as_second() / 60)),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn desired(spec: Value, status: Value) -> Desired {
        let mut object = json!({"metadata": {"name": "tidy", "uid": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"spec": {"template": {}}}}, "status": status});
        for (name, value) in spec.as_object().unwrap() {
            object["spec"][name] = value.clone();
        }
        let object: CronJob = serde_json::from_value(object).unwrap();
        let schedule = Schedule::parse(&object.spec.as_ref().unwrap().schedule).unwrap();
        Desired {
            object,
            schedule,
            zone: TimeZone::UTC,
        }
    }

    fn view(name: &str, created: &str, end: Option<bool>) -> JobView {
        let reference = ObjectReference {
            name: Some(name.into()),
            uid: Some(name.into()),
            ..ObjectReference::default()
        };
        JobView {
            reference,
            created: at(created),
            completed: end.filter(|well| *well).map(|_| at(created)),
            failed: end == Some(false),
        }
    }

    fn check(desired: &Desired, jobs: &[JobView], now: &str, want: Expect) {
        let plan = plan(desired, jobs, at(now));
        let actions = plan.actions.iter().map(|action| match action {
            Action::Create(job) => format!("+{}", job.metadata.name.as_deref().unwrap()),
            Action::Delete { name, .. } => format!("-{name}"),
        });
        let actions: Vec<_> = actions.collect();
        want.assert_eq(&format!(
            "{} active {} last {:?} warning {:?} wake {:?}",
            actions.join(" "),
            plan.status.active.map_or(0, |list| list.len()),
            plan.status.last_schedule_time.map(|t| t.0.to_string()),
            plan.warning.map(|(reason, _)| reason),
            plan.wake_at.map(|t| t.to_string()),
        ));
    }

    #[test]
    fn it_starts_when_it_is_due() {
        let fresh = desired(json!({}), json!({}));
        check(
            &fresh,
            &[],
            "00:05:00",
            expect![[r#" active 0 last None warning None wake Some("2026-01-01T00:10:00Z")"#]],
        );
        check(
            &fresh,
            &[],
            "00:10:00",
            expect![[
                r#"+tidy-29453770 active 0 last Some("2026-01-01T00:10:00Z") warning None wake Some("2026-01-01T00:20:00Z")"#
            ]],
        );
        check(
            &fresh,
            &[],
            "00:35:00",
            expect![[
                r#"+tidy-29453790 active 0 last Some("2026-01-01T00:30:00Z") warning None wake Some("2026-01-01T00:40:00Z")"#
            ]],
        );
        let served = desired(
            json!({}),
            json!({"lastScheduleTime": "2026-01-01T00:10:00Z"}),
        );
        check(
            &served,
            &[view("a", "00:10:00", None)],
            "00:19:59",
            expect![[
                r#" active 1 last Some("2026-01-01T00:10:00Z") warning None wake Some("2026-01-01T00:20:00Z")"#
            ]],
        );
        check(
            &served,
            &[],
            "23:59:59",
            expect![[
                r#"+tidy-29455190 active 0 last Some("2026-01-01T23:50:00Z") warning Some("TooManyMissedTimes") wake Some("2026-01-02T00:00:00Z")"#
            ]],
        );
    }

    #[test]
    fn what_still_runs_may_stand_in_the_way() {
        let running = [view("a", "00:10:00", None)];
        let last = json!({"lastScheduleTime": "2026-01-01T00:10:00Z"});
        for policy in ["Allow", "Forbid", "Replace"] {
            let object = desired(json!({"concurrencyPolicy": policy}), last.clone());
            let plan = plan(&object, &running, at("00:20:00"));
            let want = match policy {
                "Allow" => (1, 1),
                "Forbid" => (0, 1),
                _ => (2, 0),
            };
            let active = plan.status.active.map_or(0, |list| list.len());
            assert_eq!((plan.actions.len(), active), want, "{policy}");
        }
    }

    #[test]
    fn suspended_late_and_old() {
        let suspended = desired(json!({"suspend": true}), json!({}));
        check(
            &suspended,
            &[],
            "00:10:00",
            expect![" active 0 last None warning None wake None"],
        );
        let late = desired(json!({"startingDeadlineSeconds": 60}), json!({}));
        check(
            &late,
            &[],
            "00:15:00",
            expect![[r#" active 0 last None warning None wake Some("2026-01-01T00:20:00Z")"#]],
        );
        let jobs = [
            view("a", "00:01:00", Some(true)),
            view("b", "00:02:00", Some(true)),
            view("c", "00:03:00", Some(false)),
            view("d", "00:04:00", Some(false)),
        ];
        let few = desired(
            json!({"successfulJobsHistoryLimit": 1, "suspend": true}),
            json!({}),
        );
        check(
            &few,
            &jobs,
            "00:09:00",
            expect!["-a -c active 0 last None warning None wake None"],
        );
    }
}
