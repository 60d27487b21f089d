//! Figures of rounds, and what they say: means, and ratios to nginx within rounds with their 95 % interval.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::load::Measured;
use crate::peers::Kind;

/// One measurement of one proxy.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    requests_per_second: f64,
    /// CPU for each request.
    cpu_micros: f64,
    /// Of the paced run.
    p50_micros: f64,
    p99_micros: f64,
    errors: u64,
}

impl Round {
    pub(crate) fn of(cpu_micros: f64, full: &Measured, paced: &Measured, time: Duration) -> Self {
        let requests = full.micros.len() as f64;
        let mut latencies = Measured {
            micros: paced.micros.clone(),
            errors: 0,
        };
        Self {
            requests_per_second: requests / time.as_secs_f64(),
            cpu_micros: cpu_micros / requests,
            p50_micros: latencies.quantile(0.50),
            p99_micros: latencies.quantile(0.99),
            errors: full.errors + paced.errors,
        }
    }
}

pub(crate) struct Table {
    name: &'static str,
    rounds: BTreeMap<Kind, Vec<Round>>,
    memory_kib: BTreeMap<Kind, f64>,
}

impl Table {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            rounds: BTreeMap::new(),
            memory_kib: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, round: Round) {
        self.rounds.entry(kind).or_default().push(round);
    }

    pub(crate) fn set_memory(&mut self, kind: Kind, kib: f64) {
        self.memory_kib.insert(kind, kib);
    }

    /// `of` as a multiple of nginx's, of each round.
    fn ratios(&self, rounds: &[Round], of: impl Fn(&Round) -> f64) -> Vec<f64> {
        let base = self.rounds.get(&Kind::Nginx).map_or(&[][..], Vec::as_slice);
        let pairs = rounds.iter().zip(base);
        pairs.map(|(own, nginx)| of(own) / of(nginx)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:10} {:>9} {:>8} {:>22} {:>8} {:>8} {:>22} {:>8} {:>6}",
            self.name,
            "req/s",
            "CPU us",
            "CPU / nginx [95 %]",
            "p50 ms",
            "p99 ms",
            "p99 / nginx [95 %]",
            "MiB",
            "errors"
        )?;
        for (kind, rounds) in &self.rounds {
            let mean = |of: fn(&Round) -> f64| mean(rounds.iter().map(of));
            let errors: u64 = rounds.iter().map(|round| round.errors).sum();
            writeln!(
                f,
                "{:10} {:9.0} {:8.2} {:>22} {:8.2} {:8.2} {:>22} {:8.1} {:6}",
                kind.to_string(),
                mean(|r| r.requests_per_second),
                mean(|r| r.cpu_micros),
                interval(&self.ratios(rounds, |r| r.cpu_micros)),
                mean(|r| r.p50_micros) / 1e3,
                mean(|r| r.p99_micros) / 1e3,
                interval(&self.ratios(rounds, |r| r.p99_micros)),
                self.memory_kib.get(kind).copied().unwrap_or_default() / 1024.0,
                errors,
            )?;
        }
        Ok(())
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// The geometric mean of ratios, with the interval of Student's t.
pub(crate) fn interval(ratios: &[f64]) -> String {
    /// For 1 to 11 degrees of freedom.
    const T: [f64; 11] = [
        12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20,
    ];
    if ratios.is_empty() {
        return "-".into();
    }
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let middle = mean(logs.iter().copied());
    let Some(freedom) = logs.len().checked_sub(1).filter(|freedom| *freedom > 0) else {
        return format!("{:.2}", middle.exp());
    };
    let squares: f64 = logs.iter().map(|log| (log - middle).powi(2)).sum();
    let error = (squares / freedom as f64 / logs.len() as f64).sqrt();
    let t = T.get(freedom - 1).copied().unwrap_or(2.0);
    let (low, high) = ((middle - t * error).exp(), (middle + t * error).exp());
    format!("{:.2} [{low:.2}, {high:.2}]", middle.exp())
}
