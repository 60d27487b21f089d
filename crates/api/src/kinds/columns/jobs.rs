//! Jobs, and what scales and guards workloads.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, CONTAINERS, IMAGES, NAME, number, text};
use crate::kinds::cells::{self, count, list};
use crate::kinds::when::{human_age, since, time};
use crate::kinds::{Cell, Column};

const SELECTOR: Column = super::SELECTOR;

pub(in crate::kinds) static JOB: &[Column] = &[
    NAME,
    text(
        "Status",
        "Where it stands, in one word.",
        Cell::Computed(|job, _| json!(job_status(job))),
    ),
    text(
        "Completions",
        "Pods that ended well, of those wanted.",
        Cell::Computed(|job, _| json!(completions(job))),
    ),
    text(
        "Duration",
        "How long it ran.",
        Cell::Computed(|job, now| json!(duration(job, now))),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in crate::kinds) static CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", "When it is due.", Cell::Path(".spec.schedule")),
    text(
        "Timezone",
        "The zone of the schedule.",
        Cell::Computed(|object, _| json!(cells::or_none(object, "/spec/timeZone"))),
    ),
    text(
        "Suspend",
        "Whether it waits.",
        Cell::Computed(|object, _| {
            let suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
            json!(if suspended { "True" } else { "False" })
        }),
    ),
    number(
        "Active",
        "Jobs that run.",
        Cell::Computed(|object, _| json!(list(object, "/status/active").len())),
    ),
    text(
        "Last Schedule",
        "The time since it was last due.",
        Cell::Computed(
            |object, now| match time(object, "/status/lastScheduleTime") {
                Some(last) => json!(human_age(last, now)),
                None => json!("<none>"),
            },
        ),
    ),
    AGE,
    text(
        "Containers",
        "The names of the containers.",
        Cell::Computed(|object, _| json!(of_job_template(object, "name"))),
    )
    .wide(),
    text(
        "Images",
        "The images of the containers.",
        Cell::Computed(|object, _| json!(of_job_template(object, "image"))),
    )
    .wide(),
];

pub(in crate::kinds) static HORIZONTAL_POD_AUTOSCALER: &[Column] = &[
    NAME,
    text(
        "Reference",
        "What it scales.",
        Cell::Computed(|object, _| {
            let at = |field: &str| cells::text(object, &format!("/spec/scaleTargetRef/{field}"));
            json!(format!("{}/{}", at("kind"), at("name")))
        }),
    ),
    number("MinPods", "Pods at least.", Cell::Path(".spec.minReplicas")),
    number("MaxPods", "Pods at most.", Cell::Path(".spec.maxReplicas")),
    number(
        "Replicas",
        "Pods that are there.",
        Cell::Computed(|object, _| json!(count(object, "/status/currentReplicas"))),
    ),
    AGE,
];

pub(in crate::kinds) static POD_DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    text(
        "Min Available",
        "Pods that must stay.",
        Cell::Computed(|object, _| json!(bound(object, "/spec/minAvailable"))),
    ),
    text(
        "Max Unavailable",
        "Pods that may be missing.",
        Cell::Computed(|object, _| json!(bound(object, "/spec/maxUnavailable"))),
    ),
    number(
        "Allowed Disruptions",
        "Pods that may be evicted now.",
        Cell::Computed(|object, _| json!(count(object, "/status/disruptionsAllowed"))),
    ),
    AGE,
];

fn bound(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        None | Some(Value::Null) => "N/A".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn job_status(job: &Value) -> &'static str {
    let holds = |kind: &str| {
        let conditions = list(job, "/status/conditions").iter();
        let mut such = conditions.filter(|c| cells::text(c, "/type") == kind);
        such.any(|c| cells::text(c, "/status") == "True")
    };
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if job.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let done = count(job, "/status/succeeded");
    let wanted = job.pointer("/spec/completions").and_then(Value::as_i64);
    let at_once = count(job, "/spec/parallelism");
    match wanted {
        Some(wanted) => format!("{done}/{wanted}"),
        None if at_once > 1 => format!("{done}/1 of {at_once}"),
        None => format!("{done}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    if time(job, "/status/startTime").is_none() {
        return String::new();
    }
    let end = time(job, "/status/completionTime").unwrap_or(now);
    since(job, "/status/startTime", end)
}

fn of_job_template(object: &Value, field: &str) -> String {
    let template = object.pointer("/spec/jobTemplate");
    template.map_or_else(String::new, |job| cells::containers(job, field))
}
