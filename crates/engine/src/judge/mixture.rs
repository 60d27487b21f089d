//! Likelihood ratios of the binomial distribution, mixed over a grid of alternatives.

/// How many times worse, or better, the alternatives are. The finer ones find small differences, the coarse ones find large
/// differences in the first second; having both costs a factor of 13 in evidence, which is 2.6 more in its logarithm.
pub(super) const FACTORS: [f64; 13] = [
    1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0,
];

/// No alternative says that something always or never happens: one counterexample would end it for ever.
const EDGE: f64 = 1e-9;

/// Rates above a limit.
pub(super) fn worse(limit: f64) -> [f64; 13] {
    // Where the limit times the factor would be no rate, the odds are what grows.
    FACTORS.map(|factor| {
        let odds = limit / (1.0 - limit) * factor;
        (limit * factor).min(odds / (1.0 + odds)).max(limit)
    })
}

/// Rates below a limit.
pub(super) fn better(limit: f64) -> [f64; 13] {
    FACTORS.map(|factor| limit / factor)
}

/// Adds to the logarithm of the evidence of each alternative what `events` of `trials` say for it against `limit`.
pub(super) fn add<const N: usize>(
    logs: &mut Vec<f64>,
    alternatives: [f64; N],
    (events, trials): (u64, u64),
    limit: f64,
    phi: f64,
) {
    logs.resize(N, 0.0);
    for (log, alternative) in logs.iter_mut().zip(alternatives) {
        *log += log_ratio(events, trials, alternative, limit) / phi;
    }
}

/// The logarithm of how much likelier `events` of `trials` are with one rate than with another.
pub(super) fn log_ratio(events: u64, trials: u64, rate: f64, limit: f64) -> f64 {
    let (rate, limit) = (rate.clamp(EDGE, 1.0 - EDGE), limit.clamp(EDGE, 1.0 - EDGE));
    let (events, others) = (events as f64, trials.saturating_sub(events) as f64);
    events * (rate / limit).ln() + others * ((1.0 - rate) / (1.0 - limit)).ln()
}

/// The logarithm of the mean of what these are the logarithms of.
pub(super) fn mean(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return 0.0;
    }
    let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
    most + (sum / logs.len() as f64).ln()
}
