//! Who is asked for a metric, and with which words.

use super::{duration, is_open, number};
use crate::Problem;
use crate::validate::field::Field;

/// The ones that are carried out.
const KNOWN: &str = "serin, prometheus, web or job";

pub(super) fn check(provider: &Field<'_>, out: &mut Vec<Problem>) {
    let given = provider.map().into_iter().flatten();
    let given: Vec<_> = given
        .filter(|(_, settings)| !settings.is_null())
        .map(|(name, _)| name.as_str())
        .collect();
    match given.as_slice() {
        [] => out.push(provider.required(&format!("say who is asked: {KNOWN}"))),
        ["serin"] => serin(&provider.get("serin"), out),
        ["prometheus"] => prometheus(&provider.get("prometheus"), out),
        ["web"] => web(&provider.get("web"), out),
        ["job"] => {
            let template = provider.at("job.spec.template");
            template.require("say what the Job runs", out);
        }
        [other] => {
            let why = format!("metrics of {other} are not asked for by Serin; use {KNOWN}");
            out.push(provider.get(other).forbidden(&why));
        }
        several => out.push(Problem::invalid(
            provider.path.clone(),
            several.join(" and "),
            "give only one provider",
        )),
    }
}

fn serin(serin: &Field<'_>, out: &mut Vec<Problem>) {
    const METRICS: [&str; 3] = ["error-ratio", "latency", "requests"];
    let metric = serin.get("metric");
    if metric.require("one of error-ratio, latency and requests", out) && !is_open(&metric) {
        metric.one_of(&METRICS, out);
    }
    duration(&serin.get("window"), out);
    number(&serin.get("minRequests"), 0, out);
    let inside = "must be a number above 0 and below 1 in quotes";
    between(&serin.get("quantile"), 0.0, 1.0, inside, out);
    let quantile = serin.get("quantile");
    if quantile.is_there() && matches!(metric.text(), Some("error-ratio" | "requests")) {
        out.push(quantile.warning("only latency has a quantile"));
    }
    let route = serin.get("route");
    let known = |text: &str| {
        let (kind, name) = text.split_once('/').unwrap_or_default();
        matches!(kind, "httproute" | "ingress" | "service") && !name.is_empty()
    };
    if !is_open(&route) && !route.text().is_none_or(known) {
        out.push(route.invalid("must be httproute/NAME, ingress/NAME or service/NAME"));
    }
    compared(serin, out);
}

/// The fields that judge by evidence in the place of conditions.
fn compared(serin: &Field<'_>, out: &mut Vec<Problem>) {
    let compare = serin.get("compare");
    if !compare.is_there() {
        for name in ["baseline", "threshold", "alpha", "margin", "onBad"] {
            let field = serin.get(name);
            if field.is_there() {
                out.push(field.forbidden("has a meaning only with `compare`"));
            }
        }
        return;
    }
    if is_open(&compare) {
        return;
    }
    compare.one_of(&["stable", "threshold"], out);
    if serin.get("metric").text() == Some("requests") {
        out.push(compare.forbidden("a number of requests is not compared; use a condition"));
    }
    let threshold = serin.get("threshold");
    if compare.text() == Some("threshold") {
        if threshold.require("a ratio such as \"0.01\", or seconds such as \"1.0\"", out) {
            let why = "must be a number above 0 in quotes";
            between(&threshold, 0.0, f64::INFINITY, why, out);
        }
    } else if threshold.is_there() {
        out.push(threshold.forbidden("has a meaning only with compare: threshold"));
    }
    let why = "must be a number above 0 and below 0.5 in quotes";
    between(&serin.get("alpha"), 0.0, 0.5, why, out);
    let why = "must be a number from 0 to 10 in quotes";
    between(
        &serin.get("margin"),
        -f64::MIN_POSITIVE,
        10.000_001,
        why,
        out,
    );
    serin.get("onBad").one_of(&["abort", "decide"], out);
}

/// Refuses a text that is no number between two others, both excluded.
fn between(field: &Field<'_>, above: f64, below: f64, why: &str, out: &mut Vec<Problem>) {
    let inside = |text: &str| text.parse().is_ok_and(|n: f64| n > above && n < below);
    if field.is_there() && !is_open(field) && !field.text().is_some_and(inside) {
        out.push(field.invalid(why));
    }
}

fn prometheus(prometheus: &Field<'_>, out: &mut Vec<Problem>) {
    prometheus
        .get("query")
        .require("write the query in PromQL", out);
    let address = prometheus.get("address");
    if address.require("http://HOST:PORT of the server", out) {
        web_address(&address, out);
    }
    let range = prometheus.get("rangeQuery");
    if range.is_there() {
        for name in ["start", "end"] {
            range
                .get(name)
                .require("write now() or now() - duration(\"5m\")", out);
        }
        if range.get("step").require("write a time such as 1m", out) {
            duration(&range.get("step"), out);
        }
    }
    requested(prometheus, out);
}

fn web(web: &Field<'_>, out: &mut Vec<Problem>) {
    let url = web.get("url");
    if url.require("http://HOST or https://HOST", out) {
        web_address(&url, out);
    }
    let method = web.get("method");
    if !is_open(&method) {
        method.one_of(&["GET", "POST", "PUT"], out);
    }
    let (body, json) = (web.get("body"), web.get("jsonBody"));
    if body.is_there() && json.is_there() {
        out.push(json.forbidden("may not be specified when `body` is given"));
    }
    let has_body = body.is_there() || json.is_there();
    if has_body && matches!(method.text(), None | Some("GET")) {
        let given = if body.is_there() { body } else { json };
        out.push(given.forbidden("a GET has no body: set method to POST or PUT"));
    }
    web.get("timeoutSeconds").not_negative(out);
    requested(web, out);
}

/// What every request of ours may have.
fn requested(request: &Field<'_>, out: &mut Vec<Problem>) {
    for header in request.get("headers").items() {
        header.get("key").require("the name of the header", out);
    }
    let authentication = request.get("authentication");
    let signed = authentication.get("sigv4");
    if !signed.is_empty() {
        out.push(
            signed
                .forbidden("requests are not signed for Amazon; use basicAuth, oauth2 or headers"),
        );
    }
    let (basic, oauth2) = (
        authentication.get("basicAuth"),
        authentication.get("oauth2"),
    );
    if basic.is_there() && oauth2.is_there() {
        out.push(oauth2.forbidden("may not be specified when `basicAuth` is given"));
    }
    if basic.is_there() {
        basic.get("username").require("", out);
    }
    if oauth2.is_there() {
        oauth2.get("clientId").require("", out);
        if oauth2.get("tokenUrl").require("", out) {
            web_address(&oauth2.get("tokenUrl"), out);
        }
    }
}

fn web_address(address: &Field<'_>, out: &mut Vec<Problem>) {
    let known = ["http://", "https://"];
    let text = address.text_or_empty();
    if !is_open(address) && !known.iter().any(|scheme| text.starts_with(scheme)) {
        out.push(address.invalid("must begin with http:// or https://"));
    }
}
