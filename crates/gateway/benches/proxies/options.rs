//! What the caller asks for.

use std::path::PathBuf;
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
        let only = self.only.as_deref();
        only.is_none_or(|words| words.split(',').any(|word| name.contains(word)))
    }
}

/// The program that is our gateway when it is called as `serin gateway --home DIR` is; usually this one.
pub(crate) fn program() -> PathBuf {
    value("--program").map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from)
}

fn value(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}
