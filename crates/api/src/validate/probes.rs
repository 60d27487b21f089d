//! Probes and hooks of a container: how it is asked and told, and when.

use serde_json::Value;

use super::field::Field;
use super::names;
use crate::Problem;

/// Seconds that a program is left with after its hook, at the least.
const LEAST_FOR_THE_PROGRAM: i64 = 5;

/// The probes and hooks of one container; `grace` is the grace period of its pod in seconds.
pub(super) fn check(container: &Field<'_>, grace: i64, out: &mut Vec<Problem>) {
    for name in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let probe_field = container.get(name);
        if probe_field.is_there() {
            probe(&probe_field, name == "readinessProbe", out);
        }
    }
    let lifecycle = container.get("lifecycle");
    for name in ["postStart", "preStop"] {
        let hook = lifecycle.get(name);
        if hook.is_there() {
            one_handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], out);
            sleep(&hook.at("sleep.seconds"), grace, out);
        }
    }
    grace_budget(&lifecycle.get("preStop"), grace, out);
}

fn probe(probe: &Field<'_>, is_readiness: bool, out: &mut Vec<Problem>) {
    one_handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], out);
    // 0 is an absent number to a cluster, which puts the default in its place.
    for name in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        probe.get(name).not_negative(out);
    }
    let successes = probe.get("successThreshold");
    if !is_readiness && successes.integer().is_some_and(|n| n > 1) {
        out.push(successes.invalid("must be 1"));
    }
    let grace = probe.get("terminationGracePeriodSeconds");
    if is_readiness && grace.is_there() {
        out.push(grace.forbidden("must not be set for readinessProbes"));
    } else if grace.integer().is_some_and(|n| n < 1) {
        out.push(grace.invalid("must be greater than 0"));
    }
}

fn one_handler(holder: &Field<'_>, names: &[&str], out: &mut Vec<Problem>) {
    let mut handlers = names
        .iter()
        .map(|name| holder.get(name))
        .filter(Field::is_there);
    if handlers.next().is_none() {
        let hint = format!("must specify a handler type: one of {}", names.join(", "));
        out.push(holder.required(&hint));
    }
    for extra in handlers {
        out.push(extra.forbidden("may not specify more than 1 handler type"));
    }
    let exec = holder.get("exec");
    if exec.is_there() {
        exec.get("command").require("", out);
    }
    for (name, port_required) in [("httpGet", true), ("tcpSocket", true), ("grpc", false)] {
        let handler = holder.get(name);
        if !handler.is_there() {
            continue;
        }
        let port = handler.get("port");
        if port_required {
            port.require("", out);
        }
        port_number_or_name(&port, out);
        let scheme = handler.get("scheme");
        scheme.one_of(&["HTTP", "HTTPS"], out);
        scheme.words_not_yet(&["HTTPS"], "it always fails; use scheme HTTP or exec", out);
        if name == "grpc" {
            let instead = "it always fails; use httpGet, tcpSocket or exec";
            handler.not_yet(instead, out);
        }
    }
}

/// A port by its number, or by the name of a port of the container.
pub(super) fn port_number_or_name(port: &Field<'_>, out: &mut Vec<Problem>) {
    port.port_number(out);
    if let Some(why) = port.text().filter(|t| !t.is_empty()).and_then(names::port) {
        out.push(port.invalid(why));
    }
}

fn sleep(seconds: &Field<'_>, grace: i64, out: &mut Vec<Problem>) {
    if seconds.integer().is_some_and(|n| !(0..=grace).contains(&n)) {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        out.push(seconds.invalid(&why));
    }
}

/// The hook runs in the grace period of the pod: what it sleeps away, the program does not have.
fn grace_budget(hook: &Field<'_>, grace: i64, out: &mut Vec<Problem>) {
    let Some(slept) = slept_seconds(hook) else {
        return;
    };
    if slept + LEAST_FOR_THE_PROGRAM <= grace {
        return;
    }
    let left = (grace - slept).max(0);
    out.push(hook.warning(format!(
        "grace_budget: the hook sleeps {slept}s of the {grace}s in terminationGracePeriodSeconds, so the program has {left}s to \
         end before it is killed; allow at least {}s, or take the sleep out: Serin drains a pod before its hook runs",
        slept + 30
    )));
}

/// The seconds that a hook only sleeps: `sleep: {seconds: 15}`, `["sleep", "15"]`, `["sh", "-c", "sleep 15; …"]`.
fn slept_seconds(hook: &Field<'_>) -> Option<i64> {
    if let Some(seconds) = hook.at("sleep.seconds").integer() {
        return Some(seconds);
    }
    let command = hook.at("exec.command");
    let words = command.value?.as_array()?.iter().filter_map(Value::as_str);
    let joined = words.collect::<Vec<_>>().join(" ");
    let mut words = joined.split([' ', '\t', '\n', ';', '&', '|']);
    let mut total: Option<i64> = None;
    while let Some(word) = words.next() {
        if word == "sleep" || word.ends_with("/sleep") {
            let number = words.next()?.trim_end_matches('s');
            let seconds: f64 = number.parse().ok().filter(|s| (0.0..1e9).contains(s))?;
            // Half a second more or less decides nothing here.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the range is checked above"
            )]
            let seconds = seconds.ceil() as i64;
            total = Some(total.unwrap_or(0) + seconds);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sleeps_are_found_in_commands() {
        let slept = |hook: Value| slept_seconds(&Field::root(&hook));
        let command = |words: &[&str]| slept(json!({"exec": {"command": words}}));
        assert_eq!(command(&["/bin/sh", "-c", "sleep 15"]), Some(15));
        assert_eq!(command(&["/bin/sleep", "15s"]), Some(15));
        assert_eq!(
            command(&["sh", "-c", "sleep 5; nginx -s quit && sleep 2.5"]),
            Some(8)
        );
        assert_eq!(command(&["sh", "-c", "sleep $DELAY"]), None);
        assert_eq!(command(&["sh", "-c", "sleep infinity"]), None);
        assert_eq!(command(&["nginx", "-s", "quit"]), None);
        assert_eq!(slept(json!({"sleep": {"seconds": 9}})), Some(9));
    }
}
