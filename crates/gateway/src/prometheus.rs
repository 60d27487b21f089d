//! The measures as Prometheus text.

use std::fmt::Write;

use serin_api::traffic::{Counts, LATENCY_BOUNDS_SECONDS, Series};

/// Numbers about the gateway itself.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) in_flight: usize,
    pub(crate) connections: usize,
    pub(crate) resting: usize,
    pub(crate) held: usize,
    pub(crate) generation: u64,
    pub(crate) no_route: u64,
    pub(crate) bad_requests: u64,
    pub(crate) retries: u64,
    pub(crate) forbidden: usize,
    pub(crate) ejections: u64,
    pub(crate) checks_passed: u64,
    pub(crate) checks_failed: u64,
    pub(crate) unhealthy: usize,
    pub(crate) log_dropped: u64,
    pub(crate) spans_exported: u64,
    pub(crate) spans_dropped: u64,
}

/// The whole page. `status` is the class of the application's answer (`2xx`); requests that got none count under the status that
/// the gateway answered, with the label `failure`.
pub(crate) fn render(series: &[Series], gauges: &Gauges) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut page, series, gauges);
    page
}

fn write(page: &mut String, series: &[Series], gauges: &Gauges) -> std::fmt::Result {
    let help = "Requests by route, Service, revision and status class.";
    write_head(page, "http_requests_total", "counter", help)?;
    for one in series {
        write_requests(page, one)?;
    }
    let help = "From the head of the request to the head of the application's answer.";
    write_head(page, "http_request_duration_seconds", "histogram", help)?;
    for one in series {
        write_histogram(page, "http_request_duration_seconds", one)?;
    }
    // The name that the semantic conventions of OpenTelemetry have in Prometheus, beside the one that public queries read.
    write_head(
        page,
        "http_server_request_duration_seconds",
        "histogram",
        help,
    )?;
    for one in series {
        write_histogram(page, "http_server_request_duration_seconds", one)?;
    }
    write_bytes(page, series)?;
    write_gauges(page, gauges)
}

fn write_head(page: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn write_requests(page: &mut String, one: &Series) -> std::fmt::Result {
    let labels = labels(one);
    for (class, count) in (1..).zip(one.counts.status) {
        // A class without requests is told too: a query for the share of errors needs its 0.
        let status = format!("status=\"{class}xx\"");
        writeln!(page, "http_requests_total{{{labels},{status}}} {count}")?;
    }
    for (status, failure, count) in failures(&one.counts) {
        if count > 0 {
            let status = format!("status=\"{status}\",failure=\"{failure}\"");
            writeln!(page, "http_requests_total{{{labels},{status}}} {count}")?;
        }
    }
    Ok(())
}

#[rustfmt::skip]
fn write_gauges(page: &mut String, gauges: &Gauges) -> std::fmt::Result {
    let own = [
        ("in_flight", "gauge", "Requests in flight to instances.", gauges.in_flight as u64),
        ("connections", "gauge", "Open client connections.", gauges.connections as u64),
        ("resting_connections", "gauge", "Open client connections on which nothing moves and which hold no buffers.", gauges.resting as u64),
        ("held_requests", "gauge", "Requests that wait for a ready instance.", gauges.held as u64),
        ("routes_generation", "gauge", "Swaps of the route table since the start.", gauges.generation),
        ("no_route_total", "counter", "Requests that no route has.", gauges.no_route),
        ("bad_requests_total", "counter", "Requests that were answered 400.", gauges.bad_requests),
        ("retries_total", "counter", "Further tries of requests.", gauges.retries),
        ("ejections_total", "counter", "Instances that were left out for a while because they failed.", gauges.ejections),
        ("health_checks_passed_total", "counter", "Health checks that an instance passed.", gauges.checks_passed),
        ("health_checks_failed_total", "counter", "Health checks that an instance did not pass.", gauges.checks_failed),
        ("unhealthy_instances", "gauge", "Instances that are left out because of their health checks.", gauges.unhealthy as u64),
        ("forbidden_kinds", "gauge", "Kinds of objects that the gateway may not read.", gauges.forbidden as u64),
        ("access_log_dropped_total", "counter", "Lines of the access log that nobody could write in time.", gauges.log_dropped),
        ("spans_exported_total", "counter", "Spans that the collector has taken.", gauges.spans_exported),
        ("spans_dropped_total", "counter", "Spans that did not get to the collector.", gauges.spans_dropped),
    ];
    for (name, kind, help, value) in own {
        let name = format!("serin_gateway_{name}");
        write_head(page, &name, kind, help)?;
        writeln!(page, "{name} {value}")?;
    }
    Ok(())
}

fn failures(counts: &Counts) -> [(u16, &'static str, u64); 7] {
    [
        (502, "connect", counts.connect_failures),
        (502, "broken", counts.broken),
        (504, "timeout", counts.timeouts),
        (503, "no_endpoint", counts.no_endpoint),
        (499, "client_gone", counts.client_gone),
        (429, "rate_limited", counts.rate_limited),
        (503, "overloaded", counts.overloaded),
    ]
}

fn write_bytes(page: &mut String, series: &[Series]) -> std::fmt::Result {
    type Read = fn(&Counts) -> u64;
    let both: [(&str, &str, Read); 2] = [
        (
            "http_request_body_bytes_total",
            "Bytes of the bodies of requests.",
            |c| c.request_bytes,
        ),
        (
            "http_response_body_bytes_total",
            "Bytes of the bodies of the application's answers.",
            |c| c.response_bytes,
        ),
    ];
    for (name, help, read) in both {
        write_head(page, name, "counter", help)?;
        for one in series {
            writeln!(page, "{name}{{{}}} {}", labels(one), read(&one.counts))?;
        }
    }
    Ok(())
}

fn write_histogram(page: &mut String, name: &str, one: &Series) -> std::fmt::Result {
    let labels = labels(one);
    let mut below = 0;
    for (count, bound) in one.counts.latency.iter().zip(LATENCY_BOUNDS_SECONDS) {
        below += count;
        writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}")?;
    }
    let total: u64 = one.counts.latency.iter().sum();
    let sum = one.counts.latency_sum_micros as f64 / 1e6;
    writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}")?;
    writeln!(page, "{name}_sum{{{labels}}} {sum}")?;
    writeln!(page, "{name}_count{{{labels}}} {total}")
}

fn labels(series: &Series) -> String {
    let key = &series.key;
    let [route, service, revision] = [&key.route, &key.service, &key.revision].map(|v| escape(v));
    format!("route=\"{route}\",service=\"{service}\",revision=\"{revision}\"")
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serin_api::traffic::{LATENCY_BUCKETS, SeriesKey};

    use super::*;

    #[test]
    fn the_page_has_the_names_that_canary_queries_read() {
        let mut counts = Counts {
            status: [0, 90, 0, 5, 4],
            connect_failures: 1,
            latency: vec![0; LATENCY_BUCKETS],
            latency_sum_micros: 1_500_000,
            ..Counts::default()
        };
        counts.latency[0] = 98;
        counts.latency[LATENCY_BUCKETS - 1] = 1;
        let series = Series {
            key: SeriesKey {
                route: "httproute/default/web".into(),
                service: "default/web".into(),
                revision: "a\"b".into(),
            },
            counts,
        };
        let gauges = Gauges {
            in_flight: 2,
            connections: 3,
            resting: 2,
            generation: 7,
            retries: 1,
            ejections: 1,
            checks_passed: 8,
            checks_failed: 3,
            unhealthy: 1,
            spans_exported: 9,
            ..Gauges::default()
        };
        let page = render(&[series], &gauges);
        let lines: Vec<_> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("le=\"0.0"))
            .filter(|line| !line.contains("_bucket") || line.contains("Inf") || line.contains("60"))
            .collect();
        expect![[r#"
            http_requests_total{route="httproute/default/web",service="default/web",revision="a\"b",status="1xx"} 0
            http_requests_total{route="httproute/default/web",service="default/web",revision="a\"b",status="2xx"} 90
            http_requests_total{route="httproute/default/web",service="default/web",revision="a\"b",status="3xx"} 0
            http_requests_total{route="httproute/default/web",service="default/web",revision="a\"b",status="4xx"} 5
            http_requests_total{route="httproute/default/web",service="default/web",revision="a\"b",status="5xx"} 4
            http_requests_total{route="httproute/default/web",service="default/web",revision="a\"b",status="502",failure="connect"} 1
            http_request_duration_seconds_bucket{route="httproute/default/web",service="default/web",revision="a\"b",le="60"} 98
            http_request_duration_seconds_bucket{route="httproute/default/web",service="default/web",revision="a\"b",le="+Inf"} 99
            http_request_duration_seconds_sum{route="httproute/default/web",service="default/web",revision="a\"b"} 1.5
            http_request_duration_seconds_count{route="httproute/default/web",service="default/web",revision="a\"b"} 99
            http_server_request_duration_seconds_bucket{route="httproute/default/web",service="default/web",revision="a\"b",le="60"} 98
            http_server_request_duration_seconds_bucket{route="httproute/default/web",service="default/web",revision="a\"b",le="+Inf"} 99
            http_server_request_duration_seconds_sum{route="httproute/default/web",service="default/web",revision="a\"b"} 1.5
            http_server_request_duration_seconds_count{route="httproute/default/web",service="default/web",revision="a\"b"} 99
            http_request_body_bytes_total{route="httproute/default/web",service="default/web",revision="a\"b"} 0
            http_response_body_bytes_total{route="httproute/default/web",service="default/web",revision="a\"b"} 0
            serin_gateway_in_flight 2
            serin_gateway_connections 3
            serin_gateway_resting_connections 2
            serin_gateway_held_requests 0
            serin_gateway_routes_generation 7
            serin_gateway_no_route_total 0
            serin_gateway_bad_requests_total 0
            serin_gateway_retries_total 1
            serin_gateway_ejections_total 1
            serin_gateway_health_checks_passed_total 8
            serin_gateway_health_checks_failed_total 3
            serin_gateway_unhealthy_instances 1
            serin_gateway_forbidden_kinds 0
            serin_gateway_access_log_dropped_total 0
            serin_gateway_spans_exported_total 9
            serin_gateway_spans_dropped_total 0"#]].assert_eq(&lines.join("\n"));
    }
}
