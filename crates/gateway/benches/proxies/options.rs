//! What the caller asks for.

use std::time::Duration;

use crate::peers::Kind;

pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Of each measurement.
    pub(crate) time: Duration,
    /// Upgrades and kills.
    pub(crate) times: usize,
    /// Switches of each sort.
    pub(crate) switches: usize,
    pub(crate) peers: Vec<Kind>,
    only: Option<String>,
}

impl Options {
    pub(crate) fn from_env() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        // Many short rounds tell more than a few long ones: what else a machine does comes and goes within seconds.
        let seconds = value("--seconds").map_or(0.3, |text| text.parse().unwrap());
        let peers = value("--peers").unwrap_or_else(|| "nginx,haproxy,serin".into());
        Self {
            rounds: value("--rounds").map_or(60, |text| text.parse().unwrap()),
            time: Duration::from_secs_f64(seconds),
            times: value("--times").map_or(100, |text| text.parse().unwrap()),
            switches: value("--switches").map_or(3, |text| text.parse().unwrap()),
            peers: peers.split(',').map(|word| word.parse().unwrap()).collect(),
            only: value("--only"),
        }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}
