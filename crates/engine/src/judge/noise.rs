//! How much more a rate varies from span to span than chance lets it.

use serde::{Deserialize, Serialize};

/// What is taken for the noise before anything is known of it, and for how many spans that stands: a first guess that is too
/// high costs spans, one that is too low costs false alarms.
const PRIOR: f64 = 8.0;
const PRIOR_SPANS: f64 = 1.0;
/// A span with fewer expected events than this says nothing about noise.
const EXPECTED: f64 = 1.0;
/// One wild span does not silence the judge for ever.
const MOST: f64 = 50.0;

/// Stable against itself: Pearson's chi-square of each span against the rate of the spans before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Noise {
    events: u64,
    trials: u64,
    spans: u32,
    chi_square: f64,
}

impl Noise {
    /// The factor, at least 1, from the spans so far.
    pub(super) fn phi(&self) -> f64 {
        let sum = self.chi_square + PRIOR * PRIOR_SPANS;
        (sum / (f64::from(self.spans) + PRIOR_SPANS)).clamp(1.0, MOST)
    }

    /// Takes in one more span.
    pub(super) fn add(&mut self, (events, trials): (u64, u64)) {
        if self.trials > 0 && trials > 0 {
            let (before, now) = (self.trials as f64, trials as f64);
            let rate = (self.events as f64 + events as f64) / (before + now);
            let expected = self.events as f64 / before * now;
            // The rate before is uncertain too: the variance of the difference has both.
            let variance = rate * (1.0 - rate) * now * (1.0 + now / before);
            if expected >= EXPECTED && variance > 0.0 {
                self.chi_square += (events as f64 - expected).powi(2) / variance;
                self.spans += 1;
            }
        }
        self.events = self.events.saturating_add(events);
        self.trials = self.trials.saturating_add(trials);
    }
}
