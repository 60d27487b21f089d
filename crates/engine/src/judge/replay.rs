//! The judge over a recording: what it would have said, span by span.

use serin_api::traffic::Counts;

use super::{Evidence, Rules, Seen, Verdict};

/// What both sides did in one span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The new version.
    pub canary: Counts,
    /// Stable.
    pub stable: Counts,
}

/// What the judge says after a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The new version, in all spans so far.
    pub canary: Seen,
    /// Stable, in all spans so far.
    pub stable: Seen,
    /// The p-value that holds at any time, as [`Evidence::p_bad`].
    pub p_bad: f64,
    /// What the evidence says.
    pub verdict: Verdict,
}

/// What the judge says after each span. It says no more after the first that is bad or safe, as an analysis ends there.
pub fn replay<'a>(rules: &Rules, spans: impl Iterator<Item = &'a Span>) -> Vec<Look> {
    let mut evidence = Evidence::default();
    let mut looks = Vec::new();
    for span in spans {
        evidence.add(rules, &span.canary, &span.stable);
        let verdict = evidence.verdict(rules);
        looks.push(Look {
            canary: evidence.canary.clone(),
            stable: evidence.stable.clone(),
            p_bad: evidence.p_bad(),
            verdict,
        });
        if matches!(verdict, Verdict::Bad | Verdict::Safe) {
            break;
        }
    }
    looks
}
