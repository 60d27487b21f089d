//! The measurements of our own gateway.

use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serin_api::analysis::{Metric, SerinMetric};
use serin_api::traffic::{Counts, Stats};
use serin_api::units::parse_duration_text;
use serin_engine::analysis::{Measured, MetricValue, Traffic};
use tokio::time::Duration;

use super::http;
use super::provider::{Ask, Provider};
use crate::clock::Clock;

const DEADLINE: Duration = Duration::from_secs(5);
const DEFAULT_WINDOW_SECONDS: f64 = 10.0;

/// Asks our own gateway.
pub(super) struct Gateway {
    /// Its admin socket; `None` without one.
    pub(super) socket: Option<PathBuf>,
    pub(super) clock: Clock,
}

impl Provider for Gateway {
    fn measure<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Measured> {
        async move {
            let (Some(socket), Some(asked)) = (&self.socket, &ask.metric.provider.serin) else {
                return Measured::Unavailable("there is no gateway here to ask".into());
            };
            if asked.compare.is_some() {
                return self.totals(socket, asked, &ask.namespace).await;
            }
            measure(socket, &ask.metric, asked, &ask.namespace).await
        }
        .boxed()
    }
}

impl Gateway {
    /// What was counted of both revisions since the gateway started.
    async fn totals(&self, socket: &Path, asked: &SerinMetric, namespace: &str) -> Measured {
        if asked.revision.is_none() {
            let why = "serin.revision is not given, and the run is of no release that has one";
            return Measured::Unavailable(why.into());
        }
        let stats = match stats(socket, "/totals").await {
            Ok(stats) => stats,
            Err(why) => return Measured::Unavailable(why),
        };
        let baseline = SerinMetric {
            revision: asked.baseline.clone(),
            ..asked.clone()
        };
        let compared = asked.compare.as_deref() == Some("stable");
        if compared && baseline.revision.is_none() {
            return Measured::Unavailable("serin.baseline is not given".into());
        }
        let stable = compared.then(|| selected(&stats, &baseline, namespace));
        let up = SignedDuration::try_from_secs_f64(stats.window_seconds).unwrap_or_default();
        Measured::Traffic(Box::new(Traffic {
            canary: selected(&stats, asked, namespace),
            stable: stable.unwrap_or_default(),
            since: self.clock.now() - up,
        }))
    }
}

async fn measure(socket: &Path, metric: &Metric, asked: &SerinMetric, namespace: &str) -> Measured {
    let window = asked
        .window
        .as_deref()
        .or(metric.interval.as_deref())
        .and_then(parse_duration_text);
    let seconds = window.map_or(DEFAULT_WINDOW_SECONDS, |w| w.as_secs_f64());
    match stats(socket, &format!("/stats?window={seconds}")).await {
        Ok(stats) => value(&stats, asked, namespace),
        Err(why) => Measured::Unavailable(why),
    }
}

async fn stats(socket: &Path, path: &str) -> Result<Stats, String> {
    let answer = http::get_unix(socket, path, DEADLINE).await;
    let (status, body) = answer.map_err(|why| format!("the gateway does not answer: {why}"))?;
    if !status.is_success() {
        return Err(format!("the gateway answers {status}"));
    }
    serde_json::from_slice(&body)
        .map_err(|why| format!("the answer of the gateway cannot be read: {why}"))
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
