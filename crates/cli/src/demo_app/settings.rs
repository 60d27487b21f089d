//! The switches of the demo application, read from its environment with every problem at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

/// The longest time that a variable may ask for.
const MAX_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// The longest name of a version or a pod.
const MAX_NAME: usize = 253;

/// A variable with a value it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} is '{value}', but must be {wanted}")]
pub(crate) struct SettingProblem {
    name: &'static str,
    value: String,
    wanted: &'static str,
}

/// How the application behaves. A variable that is absent or empty changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `POD_IP` and `PORT`: where it listens; 127.0.0.1:8080 by default. Port 0 lets the system choose.
    pub(crate) listen: SocketAddr,
    /// `VERSION`: what it calls itself, else `dev`. The node sets it to the tag of the image.
    pub(crate) version: String,
    /// `POD_NAME`, else `HOSTNAME`, else `local`.
    pub(crate) pod: String,
    /// `FEATURE_FLAG`: told back in every answer.
    pub(crate) feature_flag: Option<String>,
    /// `ERROR_RATE`: the share of requests, health checks left out, that it answers with 500.
    pub(crate) error_rate: ErrorRate,
    /// `LATENCY_MS`: how long it takes for a request, health checks left out.
    pub(crate) latency: Duration,
    /// `READY_DELAY_MS`: how long after its start it is not ready.
    pub(crate) ready_delay: Duration,
    /// `UNREADY`: it is never ready.
    pub(crate) unready: bool,
    /// `NOT_LIVE_AFTER_MS`: how long after its start it stops being live; `None` never.
    pub(crate) not_live_after: Option<Duration>,
    /// `IGNORE_SIGTERM`: only SIGINT and SIGKILL end it.
    pub(crate) ignore_sigterm: bool,
    /// `EXIT_CODE` and `EXIT_AFTER_MS`: it ends by itself, as a crash does, without finishing anything.
    pub(crate) exit: Option<Exit>,
    /// `LEAK_KB_PER_S`: KiB that it takes every second and never gives back.
    pub(crate) leak_kib_per_second: usize,
    /// `ERROR_LOGS_PER_MIN`: lines with `ERROR` that it logs every minute.
    pub(crate) error_logs_per_minute: u32,
}

/// An end that nobody asked for from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// How long after the start; zero when only `EXIT_CODE` is given.
    pub(crate) after: Duration,
    /// 0 when only `EXIT_AFTER_MS` is given.
    pub(crate) code: u8,
}

/// A share of requests in millionths, so that the spread of errors is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorRate(u32);

impl ErrorRate {
    /// Every request.
    pub(crate) const ALL: u32 = 1_000_000;

    /// 0 to [`ErrorRate::ALL`].
    pub(crate) fn millionths(self) -> u32 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let share: f64 = text.parse().ok()?;
        (0.0..=1.0)
            .contains(&share)
            .then(|| Self((share * f64::from(Self::ALL)).round() as u32))
    }
}

impl Settings {
    /// Reads the variables that `lookup` knows; every variable with a bad value is a problem of its own.
    pub(crate) fn read(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<SettingProblem>> {
        let mut reader = Reader {
            lookup,
            problems: Vec::new(),
        };
        let settings = reader.settings();
        if reader.problems.is_empty() {
            Ok(settings)
        } else {
            Err(reader.problems)
        }
    }
}

struct Reader<L> {
    lookup: L,
    problems: Vec<SettingProblem>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn settings(&mut self) -> Settings {
        let ip = self.value("POD_IP", "an IP address", |text| text.parse().ok());
        let port = self.value("PORT", "a port from 0 to 65535", |text| text.parse().ok());
        let version = self.name("VERSION");
        let pod = self.name("POD_NAME").or_else(|| self.name("HOSTNAME"));
        Settings {
            listen: SocketAddr::new(
                ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                port.unwrap_or(8080),
            ),
            version: version.unwrap_or_else(|| "dev".to_owned()),
            pod: pod.unwrap_or_else(|| "local".to_owned()),
            feature_flag: self.text("FEATURE_FLAG"),
            error_rate: self
                .value(
                    "ERROR_RATE",
                    "a share from 0 to 1, such as 0.05 for 5 %",
                    ErrorRate::parse,
                )
                .unwrap_or_default(),
            latency: self.millis("LATENCY_MS").unwrap_or_default(),
            ready_delay: self.millis("READY_DELAY_MS").unwrap_or_default(),
            unready: self.switch("UNREADY"),
            not_live_after: self.millis("NOT_LIVE_AFTER_MS"),
            ignore_sigterm: self.switch("IGNORE_SIGTERM"),
            exit: self.exit(),
            leak_kib_per_second: self.count("LEAK_KB_PER_S") as usize,
            error_logs_per_minute: self.count("ERROR_LOGS_PER_MIN"),
        }
    }

    fn exit(&mut self) -> Option<Exit> {
        let code = self.value("EXIT_CODE", "an exit code from 0 to 255", |text| {
            text.parse().ok()
        });
        let after = self.millis("EXIT_AFTER_MS");
        (code.is_some() || after.is_some()).then(|| Exit {
            after: after.unwrap_or_default(),
            code: code.unwrap_or_default(),
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|text| !text.is_empty())
    }

    fn value<T>(
        &mut self,
        name: &'static str,
        wanted: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(text.trim());
        if value.is_none() {
            self.problems.push(SettingProblem {
                name,
                value: text,
                wanted,
            });
        }
        value
    }

    /// A name that goes into a header.
    fn name(&mut self, name: &'static str) -> Option<String> {
        self.value(
            name,
            "1 to 253 visible ASCII characters, since it is sent as a header",
            |text| {
                let fits = text.len() <= MAX_NAME && text.chars().all(|c| c.is_ascii_graphic());
                fits.then(|| text.to_owned())
            },
        )
    }

    fn millis(&mut self, name: &'static str) -> Option<Duration> {
        self.value(
            name,
            "a whole number of milliseconds, at most one day",
            |text| {
                let millis = text.parse().ok().filter(|millis| *millis <= MAX_MILLIS)?;
                Some(Duration::from_millis(millis))
            },
        )
    }

    fn count(&mut self, name: &'static str) -> u32 {
        let wanted = "a whole number from 0 to 1000000";
        let parse = |text: &str| text.parse().ok().filter(|count| *count <= 1_000_000);
        self.value(name, wanted, parse).unwrap_or_default()
    }

    fn switch(&mut self, name: &'static str) -> bool {
        self.value(name, "true or false", |text| match text {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        })
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Vec<SettingProblem>> {
        Settings::read(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_is_a_well_behaved_application() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(
            (settings.version.as_str(), settings.pod.as_str()),
            ("dev", "local")
        );
        assert_eq!(settings.error_rate.millionths(), 0);
        assert_eq!((settings.exit, settings.not_live_after), (None, None));
        assert_eq!(read(&[("ERROR_RATE", ""), ("PORT", "")]).unwrap(), settings);
    }

    #[test]
    fn every_bad_value_is_named_with_its_remedy() {
        let problems = read(&[
            ("POD_IP", "here"),
            ("PORT", "70000"),
            ("ERROR_RATE", "5"),
            ("LATENCY_MS", "-1"),
            ("UNREADY", "maybe"),
            ("EXIT_CODE", "256"),
            ("VERSION", "v 2"),
        ])
        .unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "POD_IP is 'here', but must be an IP address",
                "PORT is '70000', but must be a port from 0 to 65535",
                "VERSION is 'v 2', but must be 1 to 253 visible ASCII characters, since it is sent as a header",
                "ERROR_RATE is '5', but must be a share from 0 to 1, such as 0.05 for 5 %",
                "LATENCY_MS is '-1', but must be a whole number of milliseconds, at most one day",
                "UNREADY is 'maybe', but must be true or false",
                "EXIT_CODE is '256', but must be an exit code from 0 to 255",
            ]
        );
    }

    #[test]
    fn one_half_of_an_exit_is_enough() {
        for (variables, after, code) in [
            (&[("EXIT_CODE", "3")][..], 0, 3),
            (&[("EXIT_AFTER_MS", "500")], 500, 0),
            (&[("EXIT_CODE", "3"), ("EXIT_AFTER_MS", "500")], 500, 3),
        ] {
            let exit = Exit {
                after: Duration::from_millis(after),
                code,
            };
            assert_eq!(read(variables).unwrap().exit, Some(exit));
        }
    }
}
