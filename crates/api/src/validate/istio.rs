//! VirtualServices and DestinationRules of Istio.

use jiff::SignedDuration;

use super::field::{Field, unique};
use crate::Problem;
use crate::units::{UNIT_DURATION_EXPECTED, parse_unit_duration};

pub(super) fn virtual_service(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    let hosts = spec.get("hosts");
    if hosts.is_empty() {
        out.push(hosts.required("name the hosts whose requests are routed"));
    }
    unique(hosts.items(), out);
    for list in ["tls", "tcp"] {
        let routes = spec.get(list);
        routes.not_yet("only HTTP routes are served", out);
    }
    if !["http", "tls", "tcp"]
        .iter()
        .any(|list| !spec.get(list).is_empty())
    {
        out.push(spec.get("http").required("at least one route"));
    }
    for route in spec.get("http").items() {
        http_route(&route, out);
    }
}

fn http_route(route: &Field<'_>, out: &mut Vec<Problem>) {
    let instead = ["redirect", "directResponse", "delegate"];
    let answers = instead.iter().filter(|name| route.get(name).is_there());
    let answers = answers.count() + usize::from(!route.get("route").is_empty());
    if answers == 0 {
        out.push(route.get("route").required("name at least one destination"));
    } else if answers > 1 {
        let why = "only one of route, redirect, directResponse and delegate may be set";
        out.push(route.get("route").forbidden(why));
    }
    route.get("delegate").not_yet("write its routes here", out);
    route
        .get("corsPolicy")
        .not_yet("let the application answer", out);
    for one in route.get("match").items() {
        request_match(&one, out);
    }
    let destinations = route.get("route");
    let count = destinations.items().count();
    let mut total = 0;
    for one in destinations.items() {
        one.at("destination.host").require("name the Service", out);
        one.at("destination.port.number").port_number(out);
        let weight = one.get("weight");
        weight.not_negative(out);
        total += weight.integer().unwrap_or_default();
    }
    if count > 1 && total == 0 {
        out.push(destinations.invalid_list("the sum of the weights must be above 0"));
    }
    for name in ["timeout", "retries.perTryTimeout", "fault.delay.fixedDelay"] {
        duration(&route.at(name), out);
    }
    route.at("retries.attempts").not_negative(out);
    fault(&route.get("fault"), out);
    if route.get("mirror").is_there() {
        route.at("mirror.host").require("name the Service", out);
    }
    percentage(&route.at("mirrorPercentage.value"), out);
    for mirror in route.get("mirrors").items() {
        mirror
            .at("destination.host")
            .require("name the Service", out);
        percentage(&mirror.at("percentage.value"), out);
    }
    let code = route.at("redirect.redirectCode");
    if code
        .integer()
        .is_some_and(|n| ![301, 302, 303, 307, 308].contains(&n))
    {
        out.push(code.invalid("must be 301, 302, 303, 307 or 308"));
    }
    status(&route.at("directResponse.status"), out);
}

fn request_match(request: &Field<'_>, out: &mut Vec<Problem>) {
    for name in ["uri", "scheme", "method", "authority"] {
        let one = request.get(name);
        if one.is_there() {
            string_match(&one, false, out);
        }
    }
    for (list, may_be_empty) in [
        ("headers", true),
        ("withoutHeaders", true),
        ("queryParams", false),
    ] {
        for (_, one) in request.get(list).entries() {
            string_match(&one, may_be_empty, out);
        }
    }
    request.get("port").port_number(out);
    for name in ["sourceLabels", "sourceNamespace"] {
        let field = request.get(name);
        field.not_yet("the gateway does not know the pod that asks", out);
    }
}

fn string_match(one: &Field<'_>, may_be_empty: bool, out: &mut Vec<Problem>) {
    let set = ["exact", "prefix", "regex"].map(|name| one.get(name).is_there());
    match set.iter().filter(|is_set| **is_set).count() {
        0 if may_be_empty => {}
        1 => {}
        _ => out.push(Problem::required(
            one.path.clone(),
            "exactly one of exact, prefix and regex",
        )),
    }
}

fn fault(fault: &Field<'_>, out: &mut Vec<Problem>) {
    let delay = fault.get("delay");
    if delay.is_there() {
        delay.get("fixedDelay").require("such as 5s", out);
    }
    let abort = fault.get("abort");
    if abort.is_there() {
        let grpc = abort.get("grpcStatus");
        grpc.not_yet("use httpStatus", out);
        if !grpc.is_there() {
            abort.get("httpStatus").require("", out);
        }
    }
    status(&abort.get("httpStatus"), out);
    percentage(&delay.at("percentage.value"), out);
    percentage(&abort.at("percentage.value"), out);
}

fn status(field: &Field<'_>, out: &mut Vec<Problem>) {
    if field.integer().is_some_and(|n| !(200..=599).contains(&n)) {
        out.push(field.invalid("must be between 200 and 599, inclusive"));
    }
}

fn percentage(field: &Field<'_>, out: &mut Vec<Problem>) {
    let number = field.value.and_then(serde_json::Value::as_f64);
    if number.is_some_and(|n| !(0.0..=100.0).contains(&n)) {
        out.push(field.invalid("must be between 0 and 100, inclusive"));
    }
}

fn duration(field: &Field<'_>, out: &mut Vec<Problem>) -> Option<SignedDuration> {
    let parsed = field.text().map(parse_unit_duration)?;
    if parsed.is_none() {
        out.push(field.invalid(UNIT_DURATION_EXPECTED));
    }
    parsed
}

pub(super) fn destination_rule(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    spec.get("host").require("name the Service", out);
    spec.get("workloadSelector")
        .not_yet("the object counts for every pod that asks", out);
    policy(&spec.get("trafficPolicy"), out);
    client_tls(&spec.at("trafficPolicy.tls"), out);
    for subset in spec.get("subsets").items() {
        subset.get("name").require("", out);
        policy(&subset.get("trafficPolicy"), out);
        let instead = "name it in spec.trafficPolicy, for every subset";
        subset.at("trafficPolicy.tls").not_yet(instead, out);
    }
    unique(spec.get("subsets").items().map(|s| s.get("name")), out);
}

fn client_tls(tls: &Field<'_>, out: &mut Vec<Problem>) {
    let mode = tls.get("mode");
    if mode.text() == Some("ISTIO_MUTUAL") {
        return mode.not_yet("there is no mesh; SIMPLE and MUTUAL name files", out);
    }
    mode.one_of(&["DISABLE", "SIMPLE", "MUTUAL"], out);
    if mode.text() == Some("MUTUAL") {
        for name in ["clientCertificate", "privateKey"] {
            tls.get(name).require("a file of the gateway", out);
        }
    }
    let instead = "name files by clientCertificate, privateKey and caCertificates";
    tls.get("credentialName").not_yet(instead, out);
    tls.get("caCrl").not_yet("leave it out", out);
}

fn policy(policy: &Field<'_>, out: &mut Vec<Problem>) {
    for name in ["portLevelSettings", "tunnel", "proxyProtocol"] {
        policy.get(name).not_yet("leave it out", out);
    }
    let balancer = policy.get("loadBalancer");
    let simple = [
        "UNSPECIFIED",
        "LEAST_CONN",
        "LEAST_REQUEST",
        "RANDOM",
        "ROUND_ROBIN",
        "PASSTHROUGH",
    ];
    balancer.get("simple").one_of(&simple, out);
    let hash = balancer.get("consistentHash");
    let keys = [
        "httpHeaderName",
        "httpCookie",
        "useSourceIp",
        "httpQueryParameterName",
    ];
    let set = keys.iter().filter(|key| hash.get(key).is_there()).count();
    if hash.is_there() && set != 1 {
        let hint =
            "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName";
        out.push(Problem::required(hash.path.clone(), hint));
    }
    let cookie = hash.get("httpCookie");
    if cookie.is_there() {
        cookie.get("name").require("", out);
    }
    duration(&cookie.get("ttl"), out);
    let outliers = policy.get("outlierDetection");
    for name in ["interval", "baseEjectionTime"] {
        duration(&outliers.get(name), out);
    }
    for name in ["maxEjectionPercent", "minHealthPercent"] {
        percentage(&outliers.get(name), out);
    }
    pool(&policy.get("connectionPool"), out);
    for name in [
        "consecutiveLocalOriginFailures",
        "splitExternalLocalOriginErrors",
    ] {
        let field = outliers.get(name);
        field.not_yet("every failure counts for consecutive5xxErrors", out);
    }
    for name in ["warmup", "warmupDurationSecs", "localityLbSetting"] {
        let field = balancer.get(name);
        field.not_yet("instances take part in full once they are ready", out);
    }
}

fn pool(pool: &Field<'_>, out: &mut Vec<Problem>) {
    for name in [
        "tcp.maxConnections",
        "http.http1MaxPendingRequests",
        "http.http2MaxRequests",
        "http.maxRetries",
    ] {
        pool.at(name).not_negative(out);
    }
    duration(&pool.at("tcp.connectTimeout"), out);
    for name in [
        "tcp.tcpKeepalive",
        "tcp.maxConnectionDuration",
        "tcp.idleTimeout",
        "http.idleTimeout",
        "http.maxRequestsPerConnection",
        "http.maxConcurrentStreams",
        "http.useClientProtocol",
    ] {
        let field = pool.at(name);
        field.not_yet("the gateway keeps connections by its own bounds", out);
    }
    let upgrade = pool.at("http.h2UpgradePolicy");
    let instead = "set appProtocol: kubernetes.io/h2c on the port of the Service";
    upgrade.words_not_yet(&["UPGRADE"], instead, out);
}
