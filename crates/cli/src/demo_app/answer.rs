//! What the demo application answers: decided from its settings, its age and the request.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::settings::{ErrorRate, Settings};

/// What is looked at in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a str,
    pub(crate) ab_test_group: Option<&'a str>,
    pub(crate) user_id: Option<&'a str>,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// How long to wait before it goes back.
    pub(crate) delay: Duration,
}

impl Answer {
    pub(crate) fn refused(status: StatusCode, why: &str) -> Self {
        Self {
            status,
            body: json!({ "error": why }),
            delay: Duration::ZERO,
        }
    }
}

/// The application: its settings and the little it remembers.
#[derive(Debug)]
pub(crate) struct App {
    settings: Settings,
    started: Instant,
    /// Errors owed so far, in millionths of one.
    owed: AtomicU32,
}

impl App {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            started: Instant::now(),
            owed: AtomicU32::new(0),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The answer to a request that arrives now.
    pub(crate) fn answer(&self, asked: &Asked<'_>) -> Answer {
        match health(&self.settings, asked.path, self.started.elapsed()) {
            Some(answer) => answer,
            None => self.work(asked),
        }
    }

    fn work(&self, asked: &Asked<'_>) -> Answer {
        let settings = &self.settings;
        let present = |pairs: [(&str, Option<&str>); 2]| -> Map<String, Value> {
            pairs
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
                .collect()
        };
        let mut body = json!({
            "version": settings.version,
            "pod": settings.pod,
            "path": asked.path,
            "env": present([
                ("VERSION", Some(&settings.version)),
                ("FEATURE_FLAG", settings.feature_flag.as_deref()),
            ]),
            "headers": present([
                ("ab-test-group", asked.ab_test_group),
                ("user-id", asked.user_id),
            ]),
        });
        let fails = self.owes_an_error();
        if let (true, Some(body)) = (fails, body.as_object_mut()) {
            body.insert("error".to_owned(), Value::from("asked for by ERROR_RATE"));
        }
        Answer {
            status: if fails {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::OK
            },
            body,
            delay: settings.latency,
        }
    }

    /// Whether this request is one of the failing ones. They are spread evenly: a rate of 0.05 fails every 20th.
    fn owes_an_error(&self) -> bool {
        let rate = self.settings.error_rate.millionths();
        let before = self
            .owed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| {
                Some((owed + rate) % ErrorRate::ALL)
            })
            .unwrap_or_default();
        before + rate >= ErrorRate::ALL
    }
}

/// The answer on a path of the health checks at this age; `None` on any other path.
fn health(settings: &Settings, path: &str, age: Duration) -> Option<Answer> {
    let ready = !settings.unready && age >= settings.ready_delay;
    let live = settings.not_live_after.is_none_or(|limit| age < limit);
    let healthy = match path {
        "/health" => ready && live,
        "/health/ready" => ready,
        "/health/live" => live,
        _ => return None,
    };
    Some(Answer {
        status: if healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        body: json!({ "ready": ready, "live": live, "version": settings.version }),
        delay: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    const ROOT: Asked<'static> = Asked {
        path: "/",
        ab_test_group: None,
        user_id: None,
    };

    #[test]
    fn errors_are_spread_evenly() {
        for (rate, failing) in [
            ("0", vec![]),
            ("0.05", vec![20, 40, 60]),
            ("0.5", (1..=30).map(|n| n * 2).collect()),
            ("1", (1..=60).collect()),
        ] {
            let app = App::new(settings(&[("ERROR_RATE", rate)]));
            let failed: Vec<usize> = (1..=60)
                .filter(|_| app.answer(&ROOT).status == StatusCode::INTERNAL_SERVER_ERROR)
                .collect();
            assert_eq!(failed, failing, "{rate}");
        }
    }

    #[test]
    fn health_follows_age_and_switches() {
        let seconds = Duration::from_secs;
        for (variables, age, ready, live) in [
            (&[][..], seconds(0), 200, 200),
            (&[("UNREADY", "1")], seconds(9), 503, 200),
            (&[("READY_DELAY_MS", "2000")], seconds(1), 503, 200),
            (&[("READY_DELAY_MS", "2000")], seconds(2), 200, 200),
            (&[("NOT_LIVE_AFTER_MS", "2000")], seconds(1), 200, 200),
            (&[("NOT_LIVE_AFTER_MS", "2000")], seconds(2), 200, 503),
        ] {
            let settings = settings(variables);
            let status = |path| health(&settings, path, age).unwrap().status.as_u16();
            assert_eq!(
                (status("/health/ready"), status("/health/live")),
                (ready, live),
                "{variables:?}"
            );
            assert_eq!(status("/health"), ready.max(live), "{variables:?}");
            assert_eq!(health(&settings, "/healthy", age), None);
        }
    }

    #[test]
    fn latency_is_for_work_and_not_for_health() {
        let app = App::new(settings(&[("LATENCY_MS", "40")]));
        assert_eq!(app.answer(&ROOT).delay, Duration::from_millis(40));
        let probe = Asked {
            path: "/health",
            ..ROOT
        };
        assert_eq!(app.answer(&probe).delay, Duration::ZERO);
    }
}
