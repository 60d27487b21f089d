//! Typed names and quantities, so that a weight is never mistaken for a count or a hash for a name.

pub mod quantity;

use std::fmt;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A share of requests in percent, 0 to 100.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Weight(u8);

impl Weight {
    /// Not one request.
    pub const ZERO: Self = Self(0);
    /// Every request.
    pub const FULL: Self = Self(100);

    /// `None` outside 0 to 100.
    pub fn new(percent: i32) -> Option<Self> {
        u8::try_from(percent).ok().filter(|p| *p <= 100).map(Self)
    }

    /// In percent.
    pub fn percent(self) -> u8 {
        self.0
    }

    /// What is left for the other side.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(100 - self.0)
    }

    /// What is left when `other` is taken away; nothing when that is more.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The instances that carry this share of `replicas`, rounded up: `ceil(weight * replicas / 100)`.
    pub fn of_replicas(self, replicas: u32) -> u32 {
        let exact = u64::from(self.0) * u64::from(replicas);
        u32::try_from(exact.div_ceil(100)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// The hash of a pod template: it names one version of a workload. Lower-case letters and digits.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RevisionHash(String);

impl RevisionHash {
    /// A hash as found in a label or a status field.
    pub fn new(hash: impl Into<String>) -> Self {
        Self(hash.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a percentage of a count becomes a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// As `maxSurge` does.
    Up,
    /// As `maxUnavailable` does.
    Down,
}

/// A count, or a percentage of a total; never negative. A quoted number without `%` counts as a percentage, as in Argo Rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOrPercent {
    /// So many.
    Count(u32),
    /// So many of a hundred; may be above 100.
    Percent(u32),
}

impl CountOrPercent {
    /// The sentence for the person when [`Self::parse`] gives `None`.
    pub const EXPECTED: &'static str = "must be a number from 0, or a percentage such as \"25%\"";

    /// `None` for a negative number or text that is no percentage.
    pub fn parse(value: &IntOrString) -> Option<Self> {
        match value {
            IntOrString::Int(count) => u32::try_from(*count).ok().map(Self::Count),
            IntOrString::String(text) => text.trim_end_matches('%').parse().ok().map(Self::Percent),
        }
    }

    /// The count it means for a total of `replicas`.
    pub fn resolve(self, replicas: u32, rounding: Rounding) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let exact = u64::from(percent) * u64::from(replicas);
                let count = match rounding {
                    Rounding::Up => exact.div_ceil(100),
                    Rounding::Down => exact / 100,
                };
                u32::try_from(count).unwrap_or(u32::MAX)
            }
        }
    }
}

/// The sentence for the person when [`parse_duration`] gives `None`.
pub const DURATION_EXPECTED: &str =
    "must be seconds (30) or a duration such as \"30s\", \"5m\", \"1h30m\"";

/// Reads a duration as Argo Rollouts and Go write it: seconds as a number or in quotes, or `1h30m`, `300ms`. Never negative.
pub fn parse_duration(value: &IntOrString) -> Option<SignedDuration> {
    match value {
        IntOrString::Int(seconds) => u32::try_from(*seconds)
            .ok()
            .map(|s| SignedDuration::from_secs(i64::from(s))),
        IntOrString::String(text) => parse_duration_text(text),
    }
}

/// The same for text alone.
pub fn parse_duration_text(text: &str) -> Option<SignedDuration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(SignedDuration::from_secs(i64::from(seconds)));
    }
    let duration: SignedDuration = text.parse().ok()?;
    (!duration.is_negative()).then_some(duration)
}

/// A duration as Istio and Gateway API write it: numbers, each with its unit (`h`, `m`, `s`, `ms`), as in `10s`, `1.5s` or `1h30m`. A bare
/// number is none: nobody could tell seconds from milliseconds.
pub fn parse_unit_duration(text: &str) -> Option<SignedDuration> {
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_digit() || ".hms".contains(c));
    let starts = text.starts_with(|c: char| c.is_ascii_digit());
    let duration = text.parse::<SignedDuration>().ok();
    duration.filter(|_| is_plain && starts)
}

/// What it takes, for people.
pub const UNIT_DURATION_EXPECTED: &str =
    "must be a duration with its unit, such as \"10s\" or \"500ms\"";

/// A duration for people, at the two coarsest units that matter: `450ms`, `30s`, `5m`, `1h30m`.
pub fn human_duration(duration: SignedDuration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{}ms", millis.max(0));
    }
    let seconds = duration.as_secs();
    let two = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3600..86_400 => two(seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3600, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_of_traffic_has_its_unit() {
        let millis = |text| parse_unit_duration(text).map(|d| d.as_millis());
        for (text, expected) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in [
            "1", "0", "", "s", "-1s", "+1s", "1 s", "1s ago", "PT1S", "1d", "1m30", "1.s.",
            "2 hours",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn a_weight_keeps_its_range() {
        assert_eq!(Weight::new(101), None);
        assert_eq!(Weight::new(-1), None);
        assert_eq!(Weight::new(5).map(Weight::complement), Weight::new(95));
        assert_eq!(Weight::new(5).map(|w| w.of_replicas(3)), Some(1));
        assert_eq!(Weight::ZERO.of_replicas(3), 0);
        assert_eq!(Weight::FULL.of_replicas(3), 3);
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let quarter = CountOrPercent::parse(&IntOrString::String("25%".into())).unwrap();
        assert_eq!(quarter.resolve(6, Rounding::Up), 2);
        assert_eq!(quarter.resolve(6, Rounding::Down), 1);
        assert_eq!(
            CountOrPercent::parse(&IntOrString::String("2".into())),
            Some(CountOrPercent::Percent(2))
        );
        assert_eq!(CountOrPercent::parse(&IntOrString::Int(-1)), None);
        assert_eq!(
            CountOrPercent::parse(&IntOrString::String("many".into())),
            None
        );
    }

    #[test]
    fn durations_read_as_argo_writes_them() {
        let text = |t: &str| parse_duration(&IntOrString::String(t.into()));
        assert_eq!(
            parse_duration(&IntOrString::Int(10)),
            Some(SignedDuration::from_secs(10))
        );
        assert_eq!(text("10"), Some(SignedDuration::from_secs(10)));
        assert_eq!(text("1h30m"), Some(SignedDuration::from_mins(90)));
        assert_eq!(text("300ms"), Some(SignedDuration::from_millis(300)));
        assert_eq!(text("-5s"), None);
        assert_eq!(text("soon"), None);
    }

    #[test]
    fn durations_for_people() {
        let shown = |secs| human_duration(SignedDuration::from_secs(secs));
        assert_eq!(
            [shown(30), shown(90), shown(5400), shown(90_000)],
            ["30s", "1m30s", "1h30m", "1d1h"]
        );
        assert_eq!(human_duration(SignedDuration::from_millis(450)), "450ms");
    }
}
