//! A recording: what each revision did in each span, as JSON lines or CSV.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use serin_api::traffic::{Counts, LATENCY_BOUNDS_SECONDS, LATENCY_BUCKETS};
use serin_engine::judge::Span;

/// What a row may tell, but for the columns `le_BOUND` of CSV.
const KEYS: [&str; 5] = ["at", "revision", "requests", "errors", "latency"];
const COLUMNS: &str = "at, revision, requests, errors and le_SECONDS";

/// What is recorded, in the order of the spans.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    rows: Vec<Row>,
}

/// One revision in one span.
#[derive(Debug)]
struct Row {
    at: String,
    revision: String,
    counts: Counts,
}

/// Which revisions are compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sides {
    /// On trial.
    pub(crate) canary: String,
    /// What it is compared with; `None` when only one revision is recorded.
    pub(crate) stable: Option<String>,
}

impl Recording {
    /// Reads JSON lines, or CSV when the text does not begin with a brace.
    ///
    /// # Errors
    /// The first line that cannot be read, and why.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}');
        let lines = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()));
        let mut lines = lines.filter(|(_, line)| !line.is_empty());
        let rows: Result<Vec<_>, String> = if text.trim_start().starts_with('{') {
            lines
                .map(|(number, line)| at_line(number, json_row(line)))
                .collect()
        } else {
            let (number, header) = lines.next().ok_or("it is empty")?;
            let header = fields(header);
            at_line(number, known_columns(&header))?;
            lines
                .map(|(number, line)| at_line(number, csv_row(&header, line)))
                .collect()
        };
        let rows = rows?;
        if rows.is_empty() {
            return Err("nothing is recorded".to_owned());
        }
        Ok(Self { rows })
    }

    /// The revisions that are compared: as named, else the one that comes last and the one that comes first.
    ///
    /// # Errors
    /// A name that is not recorded.
    pub(crate) fn sides(
        &self,
        canary: Option<&str>,
        stable: Option<&str>,
    ) -> Result<Sides, String> {
        let mut known: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !known.contains(&row.revision.as_str()) {
                known.push(&row.revision);
            }
        }
        for named in [canary, stable].into_iter().flatten() {
            if !known.contains(&named) {
                let all = known.join(", ");
                return Err(format!(
                    "revision {named:?} is not recorded; there are: {all}"
                ));
            }
        }
        let last = known.iter().rev().find(|r| Some(**r) != stable);
        let canary = canary.or(last.copied()).unwrap_or_default().to_owned();
        let first = known.iter().find(|r| **r != canary).copied();
        let stable = stable.or(first).map(str::to_owned);
        Ok(Sides { canary, stable })
    }

    /// The spans in their order, each with its time.
    pub(crate) fn spans(&self, sides: &Sides) -> Vec<(String, Span)> {
        let mut spans: Vec<(String, Span)> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.rows {
            let place = *places.entry(&row.at).or_insert_with(|| {
                spans.push((row.at.clone(), Span::default()));
                spans.len() - 1
            });
            let Some((_, span)) = spans.get_mut(place) else {
                continue;
            };
            if row.revision == sides.canary {
                span.canary.add(&row.counts);
            } else if Some(&row.revision) == sides.stable.as_ref() {
                span.stable.add(&row.counts);
            }
        }
        spans
    }
}

fn at_line<T>(number: usize, row: Result<T, String>) -> Result<T, String> {
    row.map_err(|why| format!("line {number}: {why}"))
}

fn json_row(line: &str) -> Result<Row, String> {
    let row: Map<String, Value> =
        serde_json::from_str(line).map_err(|e| format!("no JSON object: {e}"))?;
    if let Some(odd) = row.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let known = KEYS.join(", ");
        return Err(format!("{odd:?} is not known; there are: {known}"));
    }
    let text = |key: &str| match row.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(format!("{key} is missing")),
    };
    let number = |key: &str| match row.get(key) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("{key} must be a whole number from 0")),
    };
    let mut latency = Vec::new();
    if let Some(buckets) = row.get("latency") {
        let buckets = buckets
            .as_object()
            .ok_or("latency must be an object of bounds in seconds and counts")?;
        for (bound, count) in buckets {
            let count = count
                .as_u64()
                .ok_or_else(|| format!("latency of {bound}: must be a whole number from 0"))?;
            latency.push((bucket_of(bound)?, count));
        }
    }
    Ok(Row {
        at: text("at")?,
        revision: text("revision")?,
        counts: counts(number("requests")?, number("errors")?, &latency)?,
    })
}

fn known_columns(header: &[String]) -> Result<(), String> {
    let known =
        |column: &&String| column.starts_with("le_") || KEYS[..4].contains(&column.as_str());
    if let Some(odd) = header.iter().find(|column| !known(column)) {
        return Err(format!(
            "the column {odd:?} is not known; the first line names the columns, of {COLUMNS}"
        ));
    }
    for needed in ["at", "revision"] {
        if !header.iter().any(|column| column == needed) {
            return Err(format!("the column {needed:?} is missing"));
        }
    }
    Ok(())
}

fn csv_row(header: &[String], line: &str) -> Result<Row, String> {
    let values = fields(line);
    if values.len() != header.len() {
        return Err(format!(
            "{} fields; the header has {}",
            values.len(),
            header.len()
        ));
    }
    let (mut at, mut revision, mut requests, mut errors) = (None, None, None, None);
    let mut latency = Vec::new();
    for (name, value) in header.iter().zip(values) {
        let number = || {
            let parsed = value.parse::<u64>();
            parsed.map_err(|_| format!("{name} must be a whole number from 0, not {value:?}"))
        };
        match name.as_str() {
            "at" => at = Some(value),
            "revision" => revision = Some(value),
            "requests" => requests = Some(number()?),
            "errors" => errors = Some(number()?),
            other => {
                let bound = other.strip_prefix("le_").unwrap_or(other);
                latency.push((bucket_of(bound)?, number()?));
            }
        }
    }
    Ok(Row {
        at: at.ok_or("at is missing")?,
        revision: revision.ok_or("revision is missing")?,
        counts: counts(requests, errors, &latency)?,
    })
}

/// Fields without quotes: neither times, hashes nor numbers need any.
fn fields(line: &str) -> Vec<String> {
    line.split(',')
        .map(|field| field.trim().to_owned())
        .collect()
}

/// The bucket whose bound is this or the next above it.
fn bucket_of(bound: &str) -> Result<usize, String> {
    if bound == "+Inf" {
        return Ok(LATENCY_BUCKETS - 1);
    }
    let seconds = bound.parse::<f64>().ok().filter(|s| *s > 0.0);
    let seconds = seconds.ok_or_else(|| format!("{bound:?} is no bound in seconds"))?;
    Ok(LATENCY_BOUNDS_SECONDS.partition_point(|b| *b < seconds * (1.0 - 1e-9)))
}

fn counts(
    requests: Option<u64>,
    errors: Option<u64>,
    latency: &[(usize, u64)],
) -> Result<Counts, String> {
    let mut buckets = vec![0_u64; LATENCY_BUCKETS];
    for (bucket, count) in latency {
        if let Some(sum) = buckets.get_mut(*bucket) {
            *sum = sum.saturating_add(*count);
        }
    }
    if requests.is_none() && latency.is_empty() {
        return Err("requests is missing".to_owned());
    }
    let answers = buckets.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let requests = requests.unwrap_or(answers);
    let errors = errors.unwrap_or(0);
    // A span of a release; more than this is a counter that was never reset.
    if requests > u64::from(u32::MAX) || errors > requests || answers > requests {
        return Err(format!(
            "{errors} errors and {answers} latencies of {requests} requests: counts must be those of the span alone"
        ));
    }
    Ok(Counts {
        status: [0, requests - errors, 0, 0, errors],
        latency: buckets,
        ..Counts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let json = r#"
            {"at": "10:00", "revision": "v1", "requests": 100, "errors": 1, "latency": {"0.1": 90, "+Inf": 9}}
            {"at": "10:00", "revision": "v2", "requests": 10, "latency": {"0.1": 10}}
            {"at": "10:10", "revision": "v2", "requests": 20, "errors": 2}
        "#;
        let csv = "at,revision,requests,errors,le_0.1,le_+Inf\n\
            10:00,v1,100,1,90,9\n10:00,v2,10,0,10,0\n\n10:10,v2,20,2,0,0\n";
        let read = |text: &str| {
            let recording = Recording::parse(text).unwrap();
            let sides = recording.sides(None, None).unwrap();
            assert_eq!(
                (sides.canary.as_str(), sides.stable.as_deref()),
                ("v2", Some("v1"))
            );
            recording.spans(&sides)
        };
        let spans = read(json);
        assert_eq!(spans, read(csv));
        assert_eq!(spans.len(), 2);
        let (_, first) = &spans[0];
        assert_eq!((first.stable.requests(), first.stable.errors()), (100, 1));
        assert_eq!(first.stable.latency[11], 90);
        assert_eq!(first.stable.latency.last(), Some(&9));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let why = |text: &str| Recording::parse(text).map(drop).unwrap_err();
        assert_eq!(why(""), "it is empty");
        assert_eq!(why("at,revision\n"), "nothing is recorded");
        assert_eq!(
            why("at,colour\n1,red"),
            "line 1: the column \"colour\" is not known; the first line names the columns, of at, revision, requests, errors and le_SECONDS"
        );
        assert_eq!(
            why("at,requests\n1,2"),
            "line 1: the column \"revision\" is missing"
        );
        assert!(why("some text").starts_with("line 1: the column \"some text\" is not known"));
        assert_eq!(
            why("{\"at\": 1, \"revision\": \"a\", \"request\": 5}"),
            "line 1: \"request\" is not known; there are: at, revision, requests, errors, latency"
        );
        assert_eq!(
            why("{\"at\": 1, \"revision\": \"a\"}"),
            "line 1: requests is missing"
        );
        assert_eq!(
            why("at,revision,requests\n1,a"),
            "line 2: 2 fields; the header has 3"
        );
        assert_eq!(
            why("at,revision,requests\n1,a,-1"),
            "line 2: requests must be a whole number from 0, not \"-1\""
        );
        assert!(why("{\"at\": 1}").starts_with("line 1: revision is missing"));
        assert!(why("{\"at\": 1,").starts_with("line 1: no JSON object"));
        assert!(
            why(r#"{"at": 1, "revision": "a", "requests": 1, "errors": 2}"#)
                .contains("of the span alone")
        );
        assert!(why(r#"{"at": 1, "revision": "a", "latency": {"fast": 2}}"#).contains("no bound"));
        let one = Recording::parse(r#"{"at": 1, "revision": "a", "requests": 1}"#).unwrap();
        assert_eq!(one.sides(None, None).unwrap().stable, None);
        assert!(
            one.sides(Some("b"), None)
                .unwrap_err()
                .contains("there are: a")
        );
    }
}
