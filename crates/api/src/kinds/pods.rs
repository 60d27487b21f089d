//! What a table says of a pod: the words and the order of precedence are those of kubectl.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{count, list, text};
use super::when::{human_age, time};

/// The three cells that depend on one another.
pub(super) struct Row {
    pub(super) ready: String,
    pub(super) status: String,
    pub(super) restarts: String,
}

/// What has been read of the containers so far.
struct Seen {
    status: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub(super) fn row(pod: &Value, now: Timestamp) -> Row {
    let mut seen = Seen {
        status: status_before_containers(pod),
        ready: 0,
        restarts: 0,
        last_restart: None,
    };
    let initializing = init_containers(pod, &mut seen);
    if !initializing {
        containers(pod, &mut seen);
    }
    let restarts = match seen.last_restart {
        Some(last) if seen.restarts > 0 => {
            format!("{} ({} ago)", seen.restarts, human_age(last, now))
        }
        _ => seen.restarts.to_string(),
    };
    let total = list(pod, "/spec/containers").len();
    Row {
        ready: format!("{}/{total}", seen.ready),
        status: leaving(pod).unwrap_or(seen.status),
        restarts,
    }
}

fn status_before_containers(pod: &Value) -> String {
    let scheduled = condition(pod, "PodScheduled");
    if scheduled.is_some_and(|c| text(c, "/reason") == "SchedulingGated") {
        return "SchedulingGated".to_owned();
    }
    let words = [text(pod, "/status/reason"), text(pod, "/status/phase")];
    let word = words.into_iter().find(|word| !word.is_empty());
    word.unwrap_or("Pending").to_owned()
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = list(pod, "/status/conditions");
    conditions.iter().find(|c| text(c, "/type") == kind)
}

/// A pod that is asked to end says so, whatever its containers say.
fn leaving(pod: &Value) -> Option<String> {
    pod.pointer("/metadata/deletionTimestamp")?.as_str()?;
    if text(pod, "/status/reason") == "NodeLost" {
        return Some("Unknown".to_owned());
    }
    let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    (!over).then(|| "Terminating".to_owned())
}

/// Whether the init containers are not done yet.
fn init_containers(pod: &Value, seen: &mut Seen) -> bool {
    let total = list(pod, "/spec/initContainers").len();
    for (index, status) in list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        seen.restarts += count(status, "/restartCount");
        if let Some(ended) = status.pointer("/state/terminated") {
            if count(ended, "/exitCode") == 0 {
                continue;
            }
            seen.status = format!("Init:{}", end_word(ended));
            return true;
        }
        let waiting = text(status, "/state/waiting/reason");
        seen.status = match waiting {
            "" | "PodInitializing" => format!("Init:{index}/{total}"),
            reason => format!("Init:{reason}"),
        };
        return true;
    }
    false
}

fn containers(pod: &Value, seen: &mut Seen) {
    let mut running = false;
    // From the last to the first: of several reasons the one of the first container stays.
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        seen.restarts += count(status, "/restartCount");
        let ended = time(status, "/lastState/terminated/finishedAt");
        seen.last_restart = seen.last_restart.max(ended);
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            seen.status = waiting.to_owned();
        } else if let Some(ended) = status.pointer("/state/terminated") {
            seen.status = end_word(ended);
        } else if status.pointer("/ready") == Some(&Value::Bool(true)) {
            running = true;
            seen.ready += 1;
        }
    }
    // A pod whose helper has ended still serves with the others.
    if running && seen.status == "Completed" {
        let ready = condition(pod, "Ready").is_some_and(|c| text(c, "/status") == "True");
        seen.status = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn end_word(ended: &Value) -> String {
    match (text(ended, "/reason"), count(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", count(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Gates that are open, of all; `<none>` without gates.
pub(super) fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| {
        let condition = condition(pod, text(gate, "/conditionType"));
        condition.is_some_and(|c| text(c, "/status") == "True")
    });
    format!("{}/{}", open.count(), gates.len())
}
