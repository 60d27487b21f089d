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
    retry(&rule.get("retry"), out);
    session(&rule.get("sessionPersistence"), out);
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

fn retry(retry: &Field<'_>, out: &mut Vec<Problem>) {
    retry.get("attempts").not_negative(out);
    duration(&retry.get("backoff"), out);
    for code in retry.get("codes").items() {
        if code.integer().is_some_and(|n| !(400..=599).contains(&n)) {
            out.push(code.invalid("must be between 400 and 599, inclusive"));
        }
    }
}

fn session(session: &Field<'_>, out: &mut Vec<Problem>) {
    session.get("type").one_of(&["Cookie", "Header"], out);
    duration(&session.get("absoluteTimeout"), out);
    duration(&session.get("idleTimeout"), out);
    let idle = session.get("idleTimeout");
    idle.not_yet("a session lasts as long as its cookie", out);
    let name = session.get("sessionName");
    if !name.text().is_none_or(is_token) {
        out.push(name.invalid("must be the name of a cookie or of an HTTP header"));
    }
    let lifetime = session.at("cookieConfig.lifetimeType");
    lifetime.one_of(&["Session", "Permanent"], out);
    let absolute = session.get("absoluteTimeout");
    if lifetime.text() == Some("Permanent") && !absolute.is_there() {
        out.push(absolute.required("a permanent cookie needs its time"));
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
    if kind.text() == Some("ExtensionRef") {
        out.push(Problem::unbuilt(kind.path, "take the filter out"));
    }
    for key in ["requestHeaderModifier", "responseHeaderModifier"] {
        header_names(&filter.get(key), out);
    }
    mirror(&filter.get("requestMirror"), out);
    redirect(&filter.get("requestRedirect"), out);
    path_modifier(&filter.at("urlRewrite.path"), out);
}

fn header_names(modifier: &Field<'_>, out: &mut Vec<Problem>) {
    let listed = ["set", "add"].into_iter().flat_map(|list| {
        let items = modifier.get(list).items();
        items.map(|header| header.get("name")).collect::<Vec<_>>()
    });
    for name in listed.chain(modifier.get("remove").items()) {
        if !name.text().is_none_or(is_token) {
            out.push(name.invalid("must be the name of an HTTP header"));
        }
    }
}

fn mirror(mirror: &Field<'_>, out: &mut Vec<Problem>) {
    if !mirror.is_there() {
        return;
    }
    mirror
        .at("backendRef.name")
        .require("name the Service", out);
    mirror.at("backendRef.port").port_number(out);
    let (percent, fraction) = (mirror.get("percent"), mirror.get("fraction"));
    if percent.is_there() && fraction.is_there() {
        out.push(fraction.forbidden("only one of percent and fraction may be set"));
    }
    if percent.integer().is_some_and(|n| !(0..=100).contains(&n)) {
        out.push(percent.invalid("must be between 0 and 100, inclusive"));
    }
    let denominator = fraction.get("denominator").integer().unwrap_or(100);
    let numerator = fraction.get("numerator");
    if fraction.is_there() && denominator < 1 {
        let at = fraction.get("denominator");
        out.push(at.invalid("must be greater than or equal to 1"));
    } else if numerator
        .integer()
        .is_some_and(|n| !(0..=denominator).contains(&n))
    {
        out.push(numerator.invalid("must be between 0 and the denominator"));
    }
}

fn redirect(redirect: &Field<'_>, out: &mut Vec<Problem>) {
    redirect.get("scheme").one_of(&["http", "https"], out);
    redirect.get("port").port_number(out);
    let code = redirect.get("statusCode");
    if code
        .integer()
        .is_some_and(|n| ![301, 302, 303, 307, 308].contains(&n))
    {
        out.push(code.invalid("must be 301, 302, 303, 307 or 308"));
    }
    path_modifier(&redirect.get("path"), out);
}

fn path_modifier(modifier: &Field<'_>, out: &mut Vec<Problem>) {
    if !modifier.is_there() {
        return;
    }
    let kind = modifier.get("type");
    kind.require("", out);
    kind.one_of(&["ReplaceFullPath", "ReplacePrefixMatch"], out);
    let fields = [
        ("ReplaceFullPath", "replaceFullPath"),
        ("ReplacePrefixMatch", "replacePrefixMatch"),
    ];
    for (name, key) in fields {
        let is_it = kind.text() == Some(name);
        match (is_it, modifier.get(key).is_there()) {
            (true, false) => out.push(modifier.get(key).required(&format!("the type is {name}"))),
            (false, true) => {
                let why = format!("may only be set when `type` is '{name}'");
                out.push(modifier.get(key).forbidden(&why));
            }
            _ => {}
        }
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
