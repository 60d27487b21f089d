//! What the kinds of routes have in common: values with their problems.

use http::{HeaderName, HeaderValue};
use serin_api::Problem;
use serin_api::problem::FieldPath;
use serin_api::units::{UNIT_DURATION_EXPECTED, parse_unit_duration};

use super::http_route::{regex_problem, whole_regex};
use crate::names::ObjectName;
use crate::objects::Objects;
use crate::table::{HeaderChanges, PortRef};

/// What came of one route object.
#[derive(Default)]
pub(super) struct Draft {
    /// Its `metadata.generation`.
    pub(super) generation: i64,
    /// Its rules; of use only when nothing is refused.
    pub(super) rules: Vec<crate::table::Rule>,
    /// Why it is refused.
    pub(super) refused: Vec<Problem>,
    /// The backends that cannot be served, with the reason word of `ResolvedRefs`.
    pub(super) unresolved: Vec<(&'static str, Problem)>,
    /// Its parents that are ours.
    pub(super) parents: Vec<crate::table::ParentVerdict>,
}

/// A duration in milliseconds.
pub(super) fn millis(
    text: Option<&str>,
    at: &FieldPath,
    refused: &mut Vec<Problem>,
) -> Option<u64> {
    let text = text?;
    let millis = parse_unit_duration(text).and_then(|d| u64::try_from(d.as_millis()).ok());
    if millis.is_none() {
        let why = format!("{UNIT_DURATION_EXPECTED}; \"0s\" is no limit");
        refused.push(Problem::invalid(at.clone(), text, &why));
    }
    millis
}

pub(super) fn check_regex(regex: &str, at: &FieldPath, refused: &mut Vec<Problem>) {
    if let Err(error) = whole_regex(regex) {
        let why = regex_problem(&error);
        refused.push(Problem::invalid(at.clone(), regex, &why));
    }
}

/// Changes to headers from names and values with their places.
pub(super) struct HeaderReader<'a> {
    pub(super) refused: &'a mut Vec<Problem>,
    pub(super) changes: HeaderChanges,
}

impl HeaderReader<'_> {
    pub(super) fn set(&mut self, name: &str, value: &str, at: &FieldPath) {
        let pair = self.pair(name, value, at);
        self.changes.set.extend(pair);
    }

    pub(super) fn add(&mut self, name: &str, value: &str, at: &FieldPath) {
        let pair = self.pair(name, value, at);
        self.changes.add.extend(pair);
    }

    pub(super) fn remove(&mut self, name: &str, at: &FieldPath) {
        let name = self.changeable(name, at);
        self.changes.remove.extend(name);
    }

    fn pair(&mut self, name: &str, value: &str, at: &FieldPath) -> Option<(String, String)> {
        if HeaderValue::from_str(value).is_err() {
            let why = "is no header value";
            self.refused.push(Problem::invalid(at.clone(), value, why));
        }
        Some((self.changeable(name, at)?, value.to_owned()))
    }

    /// The name in lower case, unless it is none or one that frames the message.
    fn changeable(&mut self, name: &str, at: &FieldPath) -> Option<String> {
        let name = if name.eq_ignore_ascii_case(":authority") {
            "host"
        } else {
            name
        };
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            let why = "is no header name";
            self.refused.push(Problem::invalid(at.clone(), name, why));
            return None;
        };
        let framing = [
            "content-length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
        ];
        if framing.contains(&parsed.as_str()) {
            let why = "this header frames the message; it cannot be changed";
            self.refused.push(Problem::forbidden(at.clone(), why));
            return None;
        }
        Some(parsed.as_str().to_owned())
    }
}

/// Why a Service cannot be asked at a port; the second part says whether it is the port.
pub(super) fn missing(
    objects: &Objects,
    service: &ObjectName,
    port: &PortRef,
) -> Option<(String, bool)> {
    let Some(found) = objects.services.get(service) else {
        return Some(("there is no such Service".into(), false));
    };
    let ports = found.spec.as_ref().and_then(|s| s.ports.as_deref());
    let ports = ports.unwrap_or_default();
    let has = match port {
        PortRef::Number(number) => ports.iter().any(|p| p.port == i32::from(*number)),
        PortRef::First | PortRef::Name(_) => !ports.is_empty(),
    };
    (!has).then(|| (format!("Service {service} has no such port"), true))
}

/// Parts in a million of a share in percent.
pub(crate) fn per_million(percent: f64) -> u32 {
    let parts = (percent.clamp(0.0, 100.0) * 10_000.0).round();
    // The range was just made sure of.
    parts as u32
}
