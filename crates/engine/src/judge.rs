//! Is the new version worse? A judge that may be asked as often as one likes.
//!
//! A test of statistics holds when one looks once. Whoever looks every ten seconds and stops at the first "significant" one
//! takes back a third of all good releases. This judge adds up *e-values*: factors of which the mean is at most 1 while the new
//! version is no worse. Their product is at most 1 in the mean at every moment too, so that the chance that it *ever* reaches
//! `1 / alpha` is at most `alpha` (Ville's inequality): however often one looks, and whenever one stops.
//!
//! - Rates against a number: a mixture of likelihood ratios of the binomial distribution.
//! - Rates against stable: given all errors of a span, how many of them are the new version's is nearly binomial with the share
//!   of requests that it had (Lindon and Malek, NeurIPS 2022, arXiv 2011.03567); the mixture is over how many times more.
//! - Latency against stable: for each bucket of the histogram a 2x2 table of "above the bound" (Turner, Ly and Grünwald, arXiv
//!   2106.02693), with what was seen *before* a span as the alternative; the mean over the buckets.
//! - Noise beyond chance: all evidence is taken to the power of `1 / phi`, where `phi` is how much more stable varies against
//!   itself than chance lets it. As `phi` is at least 1 and known before a span, the guarantee stays (Jensen's inequality).
//!
//! docs/analysis.md has the formulas and what was measured. Absent on purpose: where the counts come from.

mod mixture;
mod noise;
mod replay;
mod tables;

use serde::{Deserialize, Serialize};
use serin_api::traffic::{Counts, LATENCY_BOUNDS_SECONDS};

use noise::Noise;
pub use replay::{Look, Span, replay};
use tables::Tables;

/// What is asked of the new version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Question {
    /// Has it more than `1 + margin` times the errors of stable?
    ErrorsOfStable {
        /// From 0.
        margin: f64,
    },
    /// Do more than this share of its requests fail?
    Errors {
        /// Above 0 and below 1.
        threshold: f64,
    },
    /// Is it slower than stable by more than the factor `1 + margin`?
    LatencyOfStable {
        /// From 0.
        margin: f64,
        /// Where it is asked whether it is safe, above 0 and below 1.
        quantile: f64,
    },
    /// Is a quantile of its latency above this?
    Latency {
        /// In seconds.
        threshold: f64,
        /// Above 0 and below 1.
        quantile: f64,
    },
}

/// How the judge decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// What is asked.
    pub question: Question,
    /// The chance that a version that is no worse is ever called bad, above 0 and below 1; the same for safe.
    pub alpha: f64,
    /// With fewer requests of either side there is no verdict.
    pub min_requests: u64,
}

/// What the judge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fewer requests than are needed.
    TooFew {
        /// Of the side that has fewer.
        have: u64,
    },
    /// Neither has been shown: go on.
    Undecided,
    /// It is worse.
    Bad,
    /// It is not worse.
    Safe,
}

/// What has been seen so far. It is all that has to be kept between two looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// Spans that had requests.
    pub blocks: u32,
    /// The new version.
    pub canary: Seen,
    /// Stable.
    pub stable: Seen,
    /// The logarithm of the evidence of each alternative that it is worse.
    bad: Vec<f64>,
    /// The same that it is not.
    safe: Vec<f64>,
    /// The most that the evidence for either has ever been, as a logarithm.
    most_bad: f64,
    most_safe: f64,
    noise: Noise,
    tables: Tables,
}

/// Requests and errors of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests.
    pub requests: u64,
    /// Errors among them; requests above the bound for a latency against a number.
    pub errors: u64,
}

impl Seen {
    /// Errors per request; `None` without requests.
    pub fn ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors as f64 / self.requests as f64)
    }

    fn add(&mut self, events: u64, requests: u64) {
        self.errors = self.errors.saturating_add(events);
        self.requests = self.requests.saturating_add(requests);
    }
}

impl Evidence {
    /// Takes in what both sides did in one span. Spans must not overlap.
    pub fn add(&mut self, rules: &Rules, canary: &Counts, stable: &Counts) {
        match rules.question {
            Question::Errors { threshold } => {
                let (mine, theirs) = (errors_of(canary), errors_of(stable));
                self.against_number(threshold, mine, mine, theirs);
            }
            Question::Latency {
                threshold,
                quantile,
            } => {
                // Of the bounds around the threshold, the one that does the version no wrong.
                let above = |bound: usize, counts: &Counts| above(counts, bound);
                let upper = LATENCY_BOUNDS_SECONDS.partition_point(|b| *b < threshold);
                let lower = LATENCY_BOUNDS_SECONDS
                    .partition_point(|b| *b <= threshold)
                    .saturating_sub(1);
                let (bad, safe) = (above(upper, canary), above(lower, canary));
                self.against_number(1.0 - quantile, bad, safe, above(upper, stable));
            }
            Question::ErrorsOfStable { margin } => {
                self.against_stable(margin, errors_of(canary), errors_of(stable));
            }
            Question::LatencyOfStable { margin, quantile } => {
                self.against_latency(margin, quantile, canary, stable);
            }
        }
    }

    fn against_number(
        &mut self,
        limit: f64,
        bad: (u64, u64),
        safe: (u64, u64),
        stable: (u64, u64),
    ) {
        if bad.1 == 0 {
            return;
        }
        // A number is held against the rate as it is, noise and all.
        mixture::add(&mut self.bad, mixture::worse(limit), bad, limit, 1.0);
        mixture::add(&mut self.safe, mixture::better(limit), safe, limit, 1.0);
        self.took(
            bad,
            stable,
            mixture::mean(&self.bad),
            mixture::mean(&self.safe),
        );
    }

    fn against_stable(&mut self, margin: f64, canary: (u64, u64), stable: (u64, u64)) {
        if canary.1 == 0 || stable.1 == 0 {
            return;
        }
        let share = canary.1 as f64 / (canary.1 + stable.1) as f64;
        // Of all errors, the share of a version that has `times` as many per request.
        let of_times = |times: f64| share * times / (share * times + 1.0 - share);
        let limit = 1.0 + margin;
        let events = (canary.0, canary.0 + stable.0);
        let phi = self.noise.phi();
        let worse = mixture::FACTORS.map(|factor| of_times(limit * factor));
        let better = mixture::FACTORS.map(|factor| of_times(limit / factor));
        mixture::add(&mut self.bad, worse, events, of_times(limit), phi);
        mixture::add(&mut self.safe, better, events, of_times(limit), phi);
        self.noise.add(stable);
        self.took(
            canary,
            stable,
            mixture::mean(&self.bad),
            mixture::mean(&self.safe),
        );
    }

    fn against_latency(&mut self, margin: f64, quantile: f64, canary: &Counts, stable: &Counts) {
        let (mine, theirs) = (answers(canary), answers(stable));
        if mine == 0 || theirs == 0 {
            return;
        }
        let (bad, safe) = self.tables.add(margin, quantile, canary, stable);
        self.took(
            (canary.errors(), mine),
            (stable.errors(), theirs),
            bad,
            safe,
        );
    }

    fn took(&mut self, canary: (u64, u64), stable: (u64, u64), bad: f64, safe: f64) {
        self.blocks += 1;
        self.canary.add(canary.0, canary.1);
        self.stable.add(stable.0, stable.1);
        self.most_bad = self.most_bad.max(bad);
        self.most_safe = self.most_safe.max(safe);
    }

    /// What the evidence says. Once bad or safe, it stays so.
    pub fn verdict(&self, rules: &Rules) -> Verdict {
        let compared = matches!(
            rules.question,
            Question::ErrorsOfStable { .. } | Question::LatencyOfStable { .. }
        );
        let have = if compared {
            self.canary.requests.min(self.stable.requests)
        } else {
            self.canary.requests
        };
        let enough = -rules.alpha.ln();
        if have < rules.min_requests.max(1) {
            Verdict::TooFew { have }
        } else if self.most_bad >= enough {
            Verdict::Bad
        } else if self.most_safe >= enough {
            Verdict::Safe
        } else {
            Verdict::Undecided
        }
    }

    /// The p-value that holds at any time: how likely as much evidence against it would be of a version that is no worse.
    pub fn p_bad(&self) -> f64 {
        (-self.most_bad).exp().min(1.0)
    }

    /// How much more stable varies against itself than chance lets it; 1 when it does not.
    pub fn phi(&self) -> f64 {
        self.noise.phi()
    }

    /// A quantile of the latency in seconds of the new version and of stable, so far.
    pub fn latency_seconds(&self, quantile: f64) -> (Option<f64>, Option<f64>) {
        self.tables.quantiles(quantile)
    }
}

fn errors_of(counts: &Counts) -> (u64, u64) {
    (counts.errors(), counts.requests())
}

fn answers(counts: &Counts) -> u64 {
    tables::past(&counts.latency, 0).1
}

/// Answers above a bound, and all answers.
fn above(counts: &Counts, bound: usize) -> (u64, u64) {
    tables::past(&counts.latency, bound)
}

#[cfg(test)]
mod tests;
