//! Makes of what a command tells what every run tells: times, addresses and made-up names are masked.

use regex::Regex;

/// Patterns in their order, each with what stands in its place.
const PATTERNS: [(&str, &str); 16] = [
    // Colours.
    (r"\x1b\[[0-9;]*m", ""),
    // The head of a line of kubectl's own log.
    (r"(?m)^[EIW]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "LOGGED "),
    (r"PATH \([^)]*\)", "PATH"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (
        r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}",
        "TIME",
    ),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "UID",
    ),
    // Of a pod, then of a ReplicaSet or a hash alone.
    (
        r"\b([a-z]+)-[0-9a-z]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b",
        "$1-HASH-NAME",
    ),
    (
        r"(pod-template-hash=|\bweb-|\bshop-)[0-9a-z]{6,10}\b",
        "${1}HASH",
    ),
    (r"\bonce-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "once-NAME"),
    (r"\b127(\.\d+){3}(:\d+)?", "ADDRESS"),
    (
        r#"(resourceVersion: |Resource Version:\s+)"?\d+"?"#,
        "${1}VERSION",
    ),
    // A duration: in a column, at the end of a line, in a sentence.
    (r"\b(\d+d)?(\d+h)?(\d+m)?\d+(ms|s)\b", "AGE"),
    (r"\(x\d+ over AGE\)", ""),
    (r"/tmp/[\w./-]+", "FILE"),
    // Columns are as wide as what was masked in them.
    (r"(\S) {2,}", "$1  "),
    (r"(?m)[ \t]+$", ""),
];

pub struct Mask(Vec<(Regex, &'static str)>);

impl Mask {
    pub fn new() -> Self {
        let compile =
            |(pattern, with): &(&str, &'static str)| (Regex::new(pattern).unwrap(), *with);
        Self(PATTERNS.iter().map(compile).collect())
    }

    pub fn apply(&self, text: &str) -> String {
        let text = text.replace('\t', "  ");
        self.0.iter().fold(text, |text, (pattern, with)| {
            pattern.replace_all(&text, *with).into_owned()
        })
    }
}
