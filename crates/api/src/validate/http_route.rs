//! HTTPRoutes of Gateway API.

use jiff::SignedDuration;

use super::field::{Field, unique};
use super::names;
use crate::Problem;

/// The greatest weight of a backend.
const MOST_WEIGHT: i64 = 1_000_000;
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
/// The one filter that the gateway carries out.
const SERVED: &str = "RequestHeaderModifier";
const FILTERS: [(&str, &str); 6] = [
    ("ExtensionRef", "extensionRef"),
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("URLRewrite", "urlRewrite"),
];

pub(super) fn check(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    for parent in spec.get("parentRefs").items() {
        parent.get("name").require("", out);
        parent.get("port").port_number(out);
        let section = parent.get("sectionName");
        section.not_yet("every listener serves the route", out);
    }
    for host in spec.get("hostnames").items() {
        if let Some(why) = host.text().and_then(names::host) {
            out.push(host.invalid(why));
        }
    }
    unique(spec.get("hostnames").items(), out);
    for one in spec.get("rules").items() {
        rule(&one, out);
    }
    unique(spec.get("rules").items().map(|r| r.get("name")), out);
}

fn rule(rule: &Field<'_>, out: &mut Vec<Problem>) {
    for one in rule.get("matches").items() {
        request_match(&one, out);
    }
    for one in rule.get("filters").items() {
        filter(&one, out);
    }
    for one in rule.get("backendRefs").items() {
        backend(&one, out);
    }
    let timeouts = rule.get("timeouts");
    let whole = duration(&timeouts.get("request"), out);
    let one_try = timeouts.get("backendRequest");
    if let (Some(whole), Some(each)) = (whole, duration(&one_try, out))
        && !whole.is_zero()
        && each > whole
    {
        out.push(one_try.invalid("must not be longer than timeouts.request"));
    }
}

fn request_match(request: &Field<'_>, out: &mut Vec<Problem>) {
    request.get("method").one_of(&METHODS, out);
    let path = request.get("path");
    path.get("type")
        .one_of(&["Exact", "PathPrefix", "RegularExpression"], out);
    let value = path.get("value");
    let is_pattern = path.get("type").text() == Some("RegularExpression");
    if let Some(text) = value.text().filter(|_| !is_pattern) {
        if !text.starts_with('/') {
            out.push(value.invalid("must be an absolute path and start with '/'"));
        }
        for bad in ["//", "/./", "/../", "%2f", "%2F", "#"] {
            if text.contains(bad) {
                out.push(value.invalid(&format!("must not contain '{bad}'")));
            }
        }
        if text.ends_with("/..") || text.ends_with("/.") {
            out.push(value.invalid("must not end with '/..' or '/.'"));
        }
    }
    for list in ["headers", "queryParams"] {
        let values = request.get(list);
        for one in values.items() {
            one.get("type").one_of(&["Exact", "RegularExpression"], out);
            one.get("value").require("", out);
            let name = one.get("name");
            if name.require("", out) && list == "headers" && !name.text().is_none_or(is_token) {
                out.push(name.invalid("must be the name of an HTTP header"));
            }
        }
        unique(values.items().map(|v| v.get("name")), out);
    }
}

/// Whether text can be the name of a header (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(known)
}

fn filter(filter: &Field<'_>, out: &mut Vec<Problem>) {
    let kind = filter.get("type");
    kind.require("", out);
    if !kind.is_empty() {
        kind.one_of(&FILTERS.map(|(name, _)| name), out);
    }
    for (name, key) in FILTERS {
        let settings = filter.get(key);
        match (kind.text() == Some(name), settings.is_there()) {
            (true, false) => out.push(settings.required(&format!("the type is {name}"))),
            (false, true) => {
                let why = format!("may only be set when `type` is '{name}'");
                out.push(settings.forbidden(&why));
            }
            _ => {}
        }
    }
    let is_known = |text| FILTERS.iter().any(|(name, _)| *name == text);
    if kind
        .text()
        .is_some_and(|text| text != SERVED && is_known(text))
    {
        let instead = format!("use {SERVED}, or take the filter out");
        out.push(Problem::unbuilt(kind.path, &instead));
    }
}

fn backend(backend: &Field<'_>, out: &mut Vec<Problem>) {
    let name = backend.get("name");
    name.require("name the Service", out);
    let (group, kind) = (backend.get("group"), backend.get("kind"));
    let is_service = matches!(group.text(), None | Some("" | "core"))
        && matches!(kind.text(), None | Some("Service"));
    if is_service {
        backend
            .get("port")
            .require("must have a port for a Service", out);
    } else {
        let at = if kind.is_there() { kind } else { group };
        out.push(Problem::unbuilt(at.path, "name a Service"));
    }
    backend.get("port").port_number(out);
    let weight = backend.get("weight");
    if weight
        .integer()
        .is_some_and(|n| !(0..=MOST_WEIGHT).contains(&n))
    {
        out.push(weight.invalid(&format!("must be between 0 and {MOST_WEIGHT}, inclusive")));
    }
    for one in backend.get("filters").items() {
        filter(&one, out);
    }
}

/// A duration of Gateway API: up to four numbers, each with one of the units h, m, s and ms.
fn duration(field: &Field<'_>, out: &mut Vec<Problem>) -> Option<SignedDuration> {
    let text = field.text()?;
    let numbers = text.split(|c: char| c.is_ascii_alphabetic());
    let plain = text
        .chars()
        .all(|c| c.is_ascii_digit() || "hms".contains(c))
        && text.starts_with(|c: char| c.is_ascii_digit())
        && numbers.filter(|n| !n.is_empty()).count() <= 4;
    let parsed = text.parse::<SignedDuration>().ok().filter(|_| plain);
    if parsed.is_none() {
        out.push(field.invalid("must be a duration such as \"10s\", \"500ms\" or \"1h30m\""));
    }
    parsed
}
