//! What the cells of a table say, for every kind but pods. Every function takes any JSON and never fails.

use jiff::Timestamp;
use serde_json::Value;

use super::when::{human_age, since, time};

/// What a table shows where there is nothing.
const NONE: &str = "<none>";
/// More entries than these are only counted.
const SHOWN: usize = 3;

/// The text at a JSON pointer; empty when there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// The whole number at a JSON pointer; 0 when there is none.
pub(super) fn count(object: &Value, pointer: &str) -> i64 {
    let found = object.pointer(pointer).and_then(Value::as_i64);
    found.unwrap_or_default()
}

/// The elements of the list at a JSON pointer; none when there is no list.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let found = object.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}

/// How many entries the list or the map at a JSON pointer has.
pub(super) fn length(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

/// The text at a JSON pointer, or `<none>`.
pub(super) fn or_none(object: &Value, pointer: &str) -> String {
    shown(text(object, pointer))
}

fn shown(text: &str) -> String {
    if text.is_empty() { NONE } else { text }.to_owned()
}

/// One field of each container of the pod template.
pub(super) fn containers(object: &Value, field: &str) -> String {
    let containers = list(object, "/spec/template/spec/containers").iter();
    let fields: Vec<_> = containers
        .filter_map(|c| c.get(field).and_then(Value::as_str))
        .collect();
    fields.join(",")
}

/// A selector as `app=web,tier in (a,b)`: plain labels, or a `LabelSelector`.
pub(super) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.and_then(Value::as_object) else {
        return NONE.to_owned();
    };
    let structured =
        selector.contains_key("matchLabels") || selector.contains_key("matchExpressions");
    let labels = if structured {
        selector.get("matchLabels").and_then(Value::as_object)
    } else {
        Some(selector)
    };
    let equal = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let parts: Vec<_> = equal
        .chain(expressions.into_iter().flatten().map(expression))
        .collect();
    shown(&parts.join(","))
}

fn expression(expression: &Value) -> String {
    let key = text(expression, "/key");
    let values = list(expression, "/values").iter();
    let values: Vec<_> = values.filter_map(Value::as_str).collect();
    let values = values.join(",");
    match text(expression, "/operator") {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}

/// The replicas that are wanted: 1 when the object does not say.
pub(super) fn wanted(object: &Value) -> i64 {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
    replicas.unwrap_or(1)
}

/// `2/3`.
pub(super) fn ready_of_wanted(object: &Value) -> String {
    format!(
        "{}/{}",
        count(object, "/status/readyReplicas"),
        wanted(object)
    )
}

/// The first entries, and how many more there are.
fn first_few(all: &[String], nothing: &str, separator: &str) -> String {
    match all.get(..SHOWN) {
        _ if all.is_empty() => nothing.to_owned(),
        Some(first) if all.len() > SHOWN => {
            let more = all.len() - SHOWN;
            format!("{} + {more} more...", first.join(separator))
        }
        _ => all.join(separator),
    }
}

pub(super) fn node_status(node: &Value) -> String {
    let conditions = list(node, "/status/conditions");
    let ready = conditions.iter().find(|c| text(c, "/type") == "Ready");
    let status = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let unschedulable = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    if unschedulable {
        format!("{status},SchedulingDisabled")
    } else {
        status.to_owned()
    }
}

pub(super) fn node_roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: Vec<_> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    shown(&roles.join(","))
}

pub(super) fn node_address(node: &Value, kind: &str) -> String {
    let addresses = list(node, "/status/addresses");
    let found = addresses.iter().find(|a| text(a, "/type") == kind);
    shown(found.map(|a| text(a, "/address")).unwrap_or_default())
}

pub(super) fn service_type(service: &Value) -> String {
    match text(service, "/spec/type") {
        "" => "ClusterIP".to_owned(),
        kind => kind.to_owned(),
    }
}

pub(super) fn external_ip(service: &Value) -> String {
    let named: Vec<_> = list(service, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match text(service, "/spec/type") {
        "ExternalName" => or_none(service, "/spec/externalName"),
        "LoadBalancer" => {
            let given = load_balancer(service);
            let all: Vec<_> = [given.as_str()]
                .into_iter()
                .chain(named)
                .filter(|a| !a.is_empty())
                .collect();
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        _ => shown(&named.join(",")),
    }
}

/// The addresses of the load balancer; empty when there are none.
pub(super) fn load_balancer(object: &Value) -> String {
    let entries = list(object, "/status/loadBalancer/ingress").iter();
    let addresses: Vec<_> = entries
        .map(|entry| match text(entry, "/ip") {
            "" => text(entry, "/hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.join(",")
}

pub(super) fn service_ports(service: &Value) -> String {
    let ports = list(service, "/spec/ports").iter();
    let ports: Vec<_> = ports
        .map(|port| {
            let protocol = match text(port, "/protocol") {
                "" => "TCP",
                protocol => protocol,
            };
            match count(port, "/nodePort") {
                0 => format!("{}/{protocol}", count(port, "/port")),
                node_port => format!("{}:{node_port}/{protocol}", count(port, "/port")),
            }
        })
        .collect();
    shown(&ports.join(","))
}

pub(super) fn endpoints(endpoints: &Value) -> String {
    let subsets = list(endpoints, "/subsets").iter();
    let all: Vec<_> = subsets.flat_map(subset_addresses).collect();
    first_few(&all, NONE, ",")
}

fn subset_addresses(subset: &Value) -> Vec<String> {
    let ips = list(subset, "/addresses").iter().map(|a| text(a, "/ip"));
    let ports = list(subset, "/ports");
    if ports.is_empty() {
        return ips.map(str::to_owned).collect();
    }
    ips.flat_map(|ip| {
        let ports = ports.iter().map(|p| count(p, "/port"));
        ports.map(move |port| format!("{ip}:{port}"))
    })
    .collect()
}

pub(super) fn slice_ports(slice: &Value) -> String {
    let ports: Vec<_> = list(slice, "/ports")
        .iter()
        .map(|port| match count(port, "/port") {
            0 => "*".to_owned(),
            number => number.to_string(),
        })
        .collect();
    first_few(&ports, "<unset>", ",")
}

pub(super) fn slice_addresses(slice: &Value) -> String {
    let addresses: Vec<_> = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    first_few(&addresses, "<unset>", ",")
}

pub(super) fn secret_type(secret: &Value) -> String {
    match text(secret, "/type") {
        "" => "Opaque".to_owned(),
        kind => kind.to_owned(),
    }
}

/// The class by field, or by the annotation of before there was a field.
pub(super) fn ingress_class(ingress: &Value) -> String {
    match text(ingress, "/spec/ingressClassName") {
        "" => or_none(
            ingress,
            "/metadata/annotations/kubernetes.io~1ingress.class",
        ),
        class => class.to_owned(),
    }
}

pub(super) fn ingress_hosts(ingress: &Value) -> String {
    let mut hosts: Vec<String> = Vec::new();
    for rule in list(ingress, "/spec/rules") {
        let host = text(rule, "/host").to_owned();
        if !host.is_empty() && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    first_few(&hosts, "*", ",")
}

pub(super) fn ingress_ports(ingress: &Value) -> String {
    let tls = !list(ingress, "/spec/tls").is_empty();
    if tls { "80, 443" } else { "80" }.to_owned()
}

pub(super) fn ingress_class_parameters(class: &Value) -> String {
    let name = text(class, "/spec/parameters/name");
    let kind = text(class, "/spec/parameters/kind");
    let group = text(class, "/spec/parameters/apiGroup");
    match (name, group) {
        ("", _) => NONE.to_owned(),
        (_, "") => format!("{kind}/{name}"),
        _ => format!("{kind}.{group}/{name}"),
    }
}

/// The hosts as a JSON list, as a cluster prints them; empty without hosts.
pub(super) fn route_hostnames(route: &Value) -> String {
    match route.pointer("/spec/hostnames") {
        Some(hostnames @ Value::Array(_)) => hostnames.to_string(),
        _ => String::new(),
    }
}

/// The status of a condition; empty when it is not there.
pub(super) fn condition(object: &Value, kind: &str) -> String {
    let conditions = list(object, "/status/conditions");
    let found = conditions.iter().find(|c| text(c, "/type") == kind);
    found
        .map(|c| text(c, "/status").to_owned())
        .unwrap_or_default()
}

pub(super) fn rollout_strategy(rollout: &Value) -> &'static str {
    if rollout.pointer("/spec/strategy/canary").is_some() {
        "Canary"
    } else if rollout.pointer("/spec/strategy/blueGreen").is_some() {
        "BlueGreen"
    } else {
        ""
    }
}

/// The places where an event may carry the time at which it was last seen, the latest first.
const LAST_SEEN: [&str; 4] = [
    "/series/lastObservedTime",
    "/lastTimestamp",
    "/eventTime",
    "/metadata/creationTimestamp",
];

pub(super) fn event_last_seen(event: &Value, now: Timestamp) -> String {
    let mut times = LAST_SEEN.iter().filter_map(|at| time(event, at));
    times
        .next()
        .map_or_else(|| "<unknown>".to_owned(), |t| human_age(t, now))
}

pub(super) fn event_first_seen(event: &Value, now: Timestamp) -> String {
    match time(event, "/firstTimestamp") {
        Some(first) => human_age(first, now),
        None => since(event, "/eventTime", now),
    }
}

pub(super) fn event_count(event: &Value) -> i64 {
    let series = count(event, "/series/count");
    series.max(count(event, "/count")).max(1)
}

pub(super) fn event_object(event: &Value) -> String {
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    match text(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

pub(super) fn event_source(event: &Value) -> String {
    let component = match text(event, "/source/component") {
        "" => text(event, "/reportingComponent"),
        component => component,
    };
    match text(event, "/source/host") {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}
