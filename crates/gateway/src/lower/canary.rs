//! The canary annotations of ingress-nginx: which requests of a main Ingress go to the canary's Service.
//!
//! A header counts before a cookie, a cookie before the weight. With `canary-by-header-value` the header must equal it, else
//! with `canary-by-header-pattern` it must contain a match; without both, `always` goes to the canary and `never` does not.
//! Any other value falls through. Weights are parts of `canary-weight-total`, 100 unless given.

use k8s_openapi::api::networking::v1::Ingress;
use serin_api::Problem;
use serin_api::problem::FieldPath;

use super::http_route::{regex_problem, whole_regex};
use super::ingress::NGINX;
use crate::table::{Backend, RequestMatch, Rule, ValueMatch, ValuePattern};

/// The annotations that are served, without their prefix.
pub(super) const ANNOTATIONS: [&str; 7] = [
    "canary",
    "canary-weight",
    "canary-weight-total",
    "canary-by-header",
    "canary-by-header-value",
    "canary-by-header-pattern",
    "canary-by-cookie",
];

/// What the annotations ask for.
pub(super) struct Canary {
    weight: u32,
    total: u32,
    header: Option<ValueRule>,
    cookie: Option<String>,
}

struct ValueRule {
    name: String,
    value: HeaderChoice,
}

enum HeaderChoice {
    Equals(String),
    Pattern(String),
    AlwaysNever,
}

/// `None` when the Ingress is no canary.
pub(super) fn read(ingress: &Ingress) -> Option<Result<Canary, Vec<Problem>>> {
    let get = |short: &str| {
        let annotations = ingress.metadata.annotations.as_ref()?;
        annotations
            .get(&format!("{NGINX}{short}"))
            .map(String::as_str)
    };
    let at = |short: &str| FieldPath::new("metadata.annotations").key(&format!("{NGINX}{short}"));
    let mut problems = Vec::new();
    match get("canary") {
        None | Some("false") => return None,
        Some("true") => {}
        Some(other) => problems.push(Problem::not_supported(
            at("canary"),
            other,
            &["true", "false"],
        )),
    }
    let mut number =
        |short: &str, default: u32| match get(short).map(|text| (text, text.parse::<u32>())) {
            None => default,
            Some((_, Ok(number))) => number,
            Some((text, Err(_))) => {
                problems.push(Problem::invalid(at(short), text, "must be a number from 0"));
                default
            }
        };
    let weight = number("canary-weight", 0);
    let total = number("canary-weight-total", 100);
    if weight > total {
        let why = "must not be above canary-weight-total";
        problems.push(Problem::invalid(at("canary-weight"), weight, why));
    }
    let value = match (
        get("canary-by-header-value"),
        get("canary-by-header-pattern"),
    ) {
        (Some(value), _) => HeaderChoice::Equals(value.to_owned()),
        (None, Some(pattern)) => {
            let pattern = format!(".*(?:{pattern}).*");
            if let Err(error) = whole_regex(&pattern) {
                let at = at("canary-by-header-pattern");
                problems.push(Problem::invalid(at, &pattern, &regex_problem(&error)));
            }
            HeaderChoice::Pattern(pattern)
        }
        (None, None) => HeaderChoice::AlwaysNever,
    };
    let header = get("canary-by-header").filter(|name| !name.is_empty());
    let header = header.map(|name| ValueRule {
        name: name.to_ascii_lowercase(),
        value,
    });
    if let Some(rule) = &header
        && http::HeaderName::from_bytes(rule.name.as_bytes()).is_err()
    {
        let why = "is no header name";
        problems.push(Problem::invalid(at("canary-by-header"), &rule.name, why));
    }
    let cookie = get("canary-by-cookie").filter(|name| !name.is_empty());
    Some(if problems.is_empty() {
        Ok(Canary {
            weight,
            total,
            header,
            cookie: cookie.map(str::to_owned),
        })
    } else {
        Err(problems)
    })
}

impl Canary {
    /// The rules that take the place of `main`: those by header and cookie first, as they are the more specific ones, and last
    /// the main rule with both backends in their shares.
    pub(super) fn split(&self, main: &Rule, canary: &Backend) -> Vec<Rule> {
        let mut before = Vec::new();
        if let Some(header) = &self.header {
            let by_header = |pattern: ValuePattern| ValueMatch {
                name: header.name.clone(),
                value: pattern,
            };
            match &header.value {
                HeaderChoice::Equals(value) => {
                    before.push((by_header(ValuePattern::Exact(value.clone())), true));
                }
                HeaderChoice::Pattern(pattern) => {
                    before.push((by_header(ValuePattern::Regex(pattern.clone())), true));
                }
                HeaderChoice::AlwaysNever => {
                    before.push((by_header(ValuePattern::Exact("always".into())), true));
                    before.push((by_header(ValuePattern::Exact("never".into())), false));
                }
            }
        }
        if let Some(cookie) = &self.cookie {
            for (word, to_canary) in [("always", true), ("never", false)] {
                let cookie = regex::escape(cookie);
                let pattern = format!("(?:.*;)?\\s*{cookie}={word}\\s*(?:;.*)?");
                let matched = ValueMatch {
                    name: "cookie".into(),
                    value: ValuePattern::Regex(pattern),
                };
                before.push((matched, to_canary));
            }
        }
        let first = main.index.saturating_sub(8);
        let mut rules = Vec::with_capacity(before.len() + 1);
        for (index, (matched, to_canary)) in (first..).zip(before) {
            let shares = if to_canary { (0, 1) } else { (1, 0) };
            let matches = main.matches.iter().map(|m| RequestMatch {
                headers: vec![matched.clone()],
                ..m.clone()
            });
            rules.push(Rule {
                index,
                matches: matches.collect(),
                ..with_shares(main, canary, shares)
            });
        }
        let main_share = self.total.saturating_sub(self.weight);
        rules.push(with_shares(main, canary, (main_share, self.weight)));
        rules
    }
}

fn with_shares(main: &Rule, canary: &Backend, shares: (u32, u32)) -> Rule {
    let mut rule = main.clone();
    for backend in &mut rule.backends {
        backend.weight = shares.0;
    }
    rule.backends.push(Backend {
        weight: shares.1,
        ..canary.clone()
    });
    rule
}
