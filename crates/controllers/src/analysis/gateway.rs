//! The measurements of our own gateway.

use std::path::Path;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::analysis::{Metric, SerinMetric};
use serin_api::traffic::{Counts, Stats};
use serin_api::units::parse_duration_text;
use serin_engine::analysis::{Measured, MetricValue};
use tokio::time::Duration;

use super::http::{self, Server};

const DEADLINE: Duration = Duration::from_secs(5);
const DEFAULT_WINDOW_SECONDS: f64 = 10.0;

pub(super) async fn measure(
    socket: &Path,
    metric: &Metric,
    asked: &SerinMetric,
    namespace: &str,
) -> Measured {
    let window = asked
        .window
        .as_deref()
        .or(metric.interval.as_deref())
        .and_then(parse_duration_text);
    let seconds = window.map_or(DEFAULT_WINDOW_SECONDS, |w| w.as_secs_f64());
    match http::get(
        Server::Unix(socket),
        &format!("/stats?window={seconds}"),
        DEADLINE,
    )
    .await
    {
        Err(why) => Measured::Unavailable(format!("the gateway does not answer: {why}")),
        Ok((status, _)) if !status.is_success() => {
            Measured::Unavailable(format!("the gateway answers {status}"))
        }
        Ok((_, body)) => match serde_json::from_slice::<Stats>(&body) {
            Ok(stats) => value(&stats, asked, namespace),
            Err(why) => {
                Measured::Unavailable(format!("the answer of the gateway cannot be read: {why}"))
            }
        },
    }
}

fn value(stats: &Stats, asked: &SerinMetric, namespace: &str) -> Measured {
    let counts = selected(stats, asked, namespace);
    let least = match &asked.min_requests {
        Some(IntOrString::Int(count)) => u64::try_from(*count).unwrap_or(0),
        Some(IntOrString::String(text)) => text.parse().unwrap_or(1),
        None => 1,
    };
    let requests = counts.requests();
    if requests < least {
        return Measured::Value(MetricValue::NoData(format!(
            "{requests} requests in {:.1} s, fewer than the {least} that are needed",
            stats.window_seconds
        )));
    }
    let number = match asked.metric.as_str() {
        "error-ratio" => counts.error_ratio(),
        "requests" => Some(requests as f64),
        "latency" => {
            let quantile = asked
                .quantile
                .as_deref()
                .map_or(Some(0.95), |q| q.parse().ok());
            quantile.and_then(|q| counts.latency_quantile_seconds(q))
        }
        other => {
            return Measured::Unavailable(format!(
                "there is no metric {other:?}: use error-ratio, latency or requests"
            ));
        }
    };
    Measured::Value(number.map_or_else(
        || MetricValue::NoData("no request was answered".into()),
        MetricValue::Number,
    ))
}

/// The counts of all series that were asked for.
fn selected(stats: &Stats, asked: &SerinMetric, namespace: &str) -> Counts {
    // `httproute/web` of the spec is `httproute/shop/web` in the series.
    let route = asked
        .route
        .as_deref()
        .map(|route| match route.split_once('/') {
            Some((kind, name)) => format!("{kind}/{namespace}/{name}"),
            None => format!("httproute/{namespace}/{route}"),
        });
    let service = asked
        .service
        .as_deref()
        .map(|name| format!("{namespace}/{name}"));
    let mut sum = Counts::default();
    for series in &stats.series {
        let key = &series.key;
        let matches = route.as_ref().is_none_or(|r| *r == key.route)
            && service.as_ref().is_none_or(|s| *s == key.service)
            && asked.revision.as_ref().is_none_or(|r| *r == key.revision);
        if matches {
            sum.add(&series.counts);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_api::traffic::{Series, SeriesKey};

    fn series(service: &str, revision: &str, ok: u64, bad: u64) -> Series {
        let key = SeriesKey {
            route: "httproute/shop/web".into(),
            service: service.into(),
            revision: revision.into(),
        };
        Series {
            key,
            counts: Counts {
                status: [0, ok, 0, 0, bad],
                ..Counts::default()
            },
        }
    }

    fn asked(metric: &str) -> SerinMetric {
        SerinMetric {
            metric: metric.into(),
            ..SerinMetric::default()
        }
    }

    #[test]
    fn only_what_was_asked_for_counts() {
        let stats = Stats {
            window_seconds: 1.0,
            series: vec![
                series("shop/web", "a", 90, 10),
                series("shop/web", "b", 100, 0),
            ],
        };
        let ratio = |revision: Option<&str>, namespace: &str| {
            let asked = SerinMetric {
                revision: revision.map(str::to_owned),
                service: Some("web".into()),
                ..asked("error-ratio")
            };
            value(&stats, &asked, namespace)
        };
        assert_eq!(
            ratio(Some("a"), "shop"),
            Measured::Value(MetricValue::Number(0.1))
        );
        assert_eq!(
            ratio(None, "shop"),
            Measured::Value(MetricValue::Number(0.05))
        );
        assert!(matches!(
            ratio(None, "other"),
            Measured::Value(MetricValue::NoData(_))
        ));
        let route = SerinMetric {
            route: Some("httproute/web".into()),
            ..asked("requests")
        };
        assert_eq!(
            value(&stats, &route, "shop"),
            Measured::Value(MetricValue::Number(200.0))
        );
    }

    #[test]
    fn too_few_requests_are_no_answer() {
        let stats = Stats {
            window_seconds: 1.0,
            series: vec![series("shop/web", "a", 3, 0)],
        };
        let asked = SerinMetric {
            min_requests: Some(IntOrString::Int(50)),
            ..asked("error-ratio")
        };
        let Measured::Value(MetricValue::NoData(why)) = value(&stats, &asked, "shop") else {
            panic!()
        };
        assert_eq!(
            why,
            "3 requests in 1.0 s, fewer than the 50 that are needed"
        );
    }
}
