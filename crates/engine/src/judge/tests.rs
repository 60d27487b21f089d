use super::mixture::{log_ratio, mean};
use super::*;
use expect_test::expect;
use serin_api::traffic::LATENCY_BUCKETS;

/// SplitMix64: the same worlds on every machine.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().max(f64::MIN_POSITIVE).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// How many of `trials` happen: the gaps between two are geometric.
    fn binomial(&mut self, trials: u64, rate: f64) -> u64 {
        let (mut events, mut at) = (0, 0.0);
        if rate <= 0.0 {
            return 0;
        }
        loop {
            at += (self.uniform().max(f64::MIN_POSITIVE).ln() / (1.0 - rate.min(0.999_999)).ln())
                .floor()
                + 1.0;
            if at > trials as f64 {
                return events;
            }
            events += 1;
        }
    }

    fn errors(&mut self, requests: u64, rate: f64) -> Counts {
        let errors = self.binomial(requests, rate);
        Counts {
            status: [0, requests - errors, 0, 0, errors],
            ..Counts::default()
        }
    }

    /// Latencies around 80 ms, log-normal.
    fn latencies(&mut self, requests: u64, times: f64) -> Counts {
        let mut latency = vec![0; LATENCY_BUCKETS];
        for _ in 0..requests {
            let seconds = times * 0.08 * (0.5 * self.normal()).exp();
            latency[LATENCY_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds)] += 1;
        }
        Counts {
            status: [0, requests, 0, 0, 0],
            latency,
            ..Counts::default()
        }
    }
}

fn rules(question: Question, alpha: f64) -> Rules {
    Rules {
        question,
        alpha,
        min_requests: 100,
    }
}

/// What became of many releases that were looked at after every span: how many were called bad and safe, and the spans that the
/// middle one of them took to be called bad.
struct Outcomes {
    releases: u32,
    bad: u32,
    safe: u32,
    middle: Option<u32>,
}

fn releases(
    rules: &Rules,
    (releases, spans): (u32, u32),
    mut span: impl FnMut(&mut Dice) -> (Counts, Counts),
) -> Outcomes {
    let (mut safe, mut after) = (0, Vec::new());
    for seed in 0..releases {
        let mut dice = Dice(u64::from(seed) << 20);
        let mut evidence = Evidence::default();
        for i in 1..=spans {
            let (canary, stable) = span(&mut dice);
            evidence.add(rules, &canary, &stable);
            match evidence.verdict(rules) {
                Verdict::Bad => {
                    after.push(i);
                    break;
                }
                // It is watched to the end: a safe one must not turn bad either.
                Verdict::Safe if i == spans => safe += 1,
                _ => {}
            }
        }
    }
    after.sort_unstable();
    let bad = after.len() as u32;
    let middle = after.get(releases as usize / 2).copied();
    Outcomes {
        releases,
        bad,
        safe,
        middle,
    }
}

impl Outcomes {
    /// The upper end of the 95 % confidence interval of the chance to be called bad (Wilson's).
    fn at_most(&self) -> f64 {
        const Z: f64 = 1.959_964;
        let n = f64::from(self.releases);
        let rate = f64::from(self.bad) / n;
        let middle = rate + Z * Z / (2.0 * n);
        let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        (middle + half) / (1.0 + Z * Z / n)
    }

    fn shown(&self) -> String {
        let middle = self
            .middle
            .map_or("never".to_owned(), |spans| format!("{spans} spans"));
        format!(
            "bad {} safe {} of {}, half of them after: {middle}",
            self.bad, self.safe, self.releases
        )
    }
}

#[test]
fn golden_values_of_the_literature() {
    // X = 150 of N = 250 events with a fair share and the prior Beta(50, 50): p = 0.05151723 (Lindon and Malek).
    let density = |p: f64| 49.0 * (p.ln() + (1.0 - p).ln());
    let grid: Vec<f64> = (0..40_000)
        .map(|i| (f64::from(i) + 0.5) / 40_000.0)
        .collect();
    let weights: f64 = grid.iter().map(|p| density(*p).exp()).sum();
    let evidence: f64 = grid
        .iter()
        .map(|p| density(*p).exp() * log_ratio(150, 250, *p, 0.5).exp())
        .sum::<f64>()
        / weights;
    assert!(
        (1.0 / evidence - 0.051_517_23).abs() < 1e-7,
        "{}",
        1.0 / evidence
    );
    assert!((mean(&[0.0, 3.0_f64.ln()]) - 2.0_f64.ln()).abs() < 1e-12);
}

/// The guarantee: at any rate of looking, a release that is no worse is called bad with a chance of at most alpha.
#[test]
fn good_releases_are_hardly_ever_called_bad() {
    const LOOKS: (u32, u32) = (2_000, 60);
    let stable = Question::ErrorsOfStable { margin: 0.0 };
    let equal = releases(&rules(stable, 0.05), LOOKS, |dice| {
        (dice.errors(100, 0.02), dice.errors(900, 0.02))
    });
    let border = Question::ErrorsOfStable { margin: 0.5 };
    let border = releases(&rules(border, 0.05), LOOKS, |dice| {
        (dice.errors(500, 0.03), dice.errors(500, 0.02))
    });
    let number = Question::Errors { threshold: 0.01 };
    let number = releases(&rules(number, 0.05), LOOKS, |dice| {
        (dice.errors(200, 0.01), Counts::default())
    });
    let latency = Question::LatencyOfStable {
        margin: 0.0,
        quantile: 0.95,
    };
    let latency = releases(&rules(latency, 0.05), (500, 40), |dice| {
        (dice.latencies(40, 1.0), dice.latencies(80, 1.0))
    });
    // Weights that grow, as in a release with steps, change nothing.
    let mut step = 0;
    let steps = releases(&rules(stable, 0.05), LOOKS, |dice| {
        step += 1;
        let mine = [20, 100, 300, 500][step / 15 % 4];
        (dice.errors(mine, 0.02), dice.errors(1000 - mine, 0.02))
    });
    let all = [
        ("equal", equal),
        ("border", border),
        ("number", number),
        ("latency", latency),
        ("steps", steps),
    ];
    for (name, outcomes) in &all {
        assert!(outcomes.at_most() < 0.05, "{name}: {}", outcomes.shown());
    }
    let shown: Vec<_> = all
        .iter()
        .map(|(name, outcomes)| {
            let percent = 100.0 * outcomes.at_most();
            format!("{name}: {}, at most {percent:.2} %", outcomes.shown())
        })
        .collect();
    expect![[r#"
        equal: bad 4 safe 9 of 2000, half of them after: never, at most 0.51 %
        border: bad 5 safe 0 of 2000, half of them after: never, at most 0.58 %
        number: bad 24 safe 39 of 2000, half of them after: never, at most 1.78 %
        latency: bad 0 safe 0 of 500, half of them after: never, at most 0.76 %
        steps: bad 3 safe 6 of 2000, half of them after: never, at most 0.44 %"#]]
    .assert_eq(&shown.join("\n"));
}

/// Noise beyond chance, such as a dependency that hiccups: the rate of both sides varies from span to span, each by itself.
#[test]
fn noise_is_learnt_from_stable() {
    let noisy = |dice: &mut Dice| (0.02 * (1.0 + 0.3 * dice.normal())).clamp(0.001, 0.2);
    let alpha = 0.01;
    let question = Question::ErrorsOfStable { margin: 0.25 };
    let outcomes = releases(&rules(question, alpha), (1_000, 60), |dice| {
        let (mine, theirs) = (noisy(dice), noisy(dice));
        (dice.errors(2_000, mine), dice.errors(18_000, theirs))
    });
    assert!(outcomes.at_most() < alpha, "{}", outcomes.shown());
    expect!["bad 2 of 1000, at most 0.73 %"].assert_eq(&format!(
        "bad {} of {}, at most {:.2} %",
        outcomes.bad,
        outcomes.releases,
        100.0 * outcomes.at_most()
    ));
}

#[test]
fn bad_releases_are_found_soon() {
    let rows = [1.25, 1.5, 2.0, 3.0, 10.0].map(|times| {
        let question = Question::ErrorsOfStable { margin: 0.25 };
        let found = releases(&rules(question, 0.01), (300, 400), |dice| {
            (dice.errors(100, 0.02 * times), dice.errors(100, 0.02))
        });
        format!(
            "errors {times} times, margin 0.25, 100 requests of each a span: {}",
            found.shown()
        )
    });
    let numbers = [0.009, 0.015, 0.02, 0.1].map(|rate| {
        let question = Question::Errors { threshold: 0.01 };
        let found = releases(&rules(question, 0.01), (300, 200), |dice| {
            (dice.errors(1000, rate), Counts::default())
        });
        format!(
            "{rate} of 1000 requests a span fail, at most 0.01: {}",
            found.shown()
        )
    });
    let latencies = [1.0, 1.25, 1.6, 2.0, 4.0].map(|times| {
        let question = Question::LatencyOfStable {
            margin: 0.5,
            quantile: 0.95,
        };
        let found = releases(&rules(question, 0.01), (60, 60), |dice| {
            (dice.latencies(50, times), dice.latencies(200, 1.0))
        });
        format!(
            "{times} times slower, margin 0.5, 50 requests a span: {}",
            found.shown()
        )
    });
    let seconds = [0.5, 5.0].map(|times| {
        let question = Question::Latency {
            threshold: 1.0,
            quantile: 0.95,
        };
        let found = releases(&rules(question, 0.01), (60, 60), |dice| {
            (dice.latencies(100, times * 4.0), Counts::default())
        });
        format!(
            "{times} times 0.32 s, P95 at most 1 s, 100 requests a span: {}",
            found.shown()
        )
    });
    let shown: Vec<_> = rows
        .into_iter()
        .chain(numbers)
        .chain(latencies)
        .chain(seconds)
        .collect();
    expect![[r#"
        errors 1.25 times, margin 0.25, 100 requests of each a span: bad 0 safe 0 of 300, half of them after: never
        errors 1.5 times, margin 0.25, 100 requests of each a span: bad 191 safe 0 of 300, half of them after: 332 spans
        errors 2 times, margin 0.25, 100 requests of each a span: bad 300 safe 0 of 300, half of them after: 48 spans
        errors 3 times, margin 0.25, 100 requests of each a span: bad 300 safe 0 of 300, half of them after: 18 spans
        errors 10 times, margin 0.25, 100 requests of each a span: bad 300 safe 0 of 300, half of them after: 5 spans
        0.009 of 1000 requests a span fail, at most 0.01: bad 0 safe 263 of 300, half of them after: never
        0.015 of 1000 requests a span fail, at most 0.01: bad 300 safe 0 of 300, half of them after: 6 spans
        0.02 of 1000 requests a span fail, at most 0.01: bad 300 safe 0 of 300, half of them after: 2 spans
        0.1 of 1000 requests a span fail, at most 0.01: bad 300 safe 0 of 300, half of them after: 1 spans
        1 times slower, margin 0.5, 50 requests a span: bad 0 safe 0 of 60, half of them after: never
        1.25 times slower, margin 0.5, 50 requests a span: bad 0 safe 0 of 60, half of them after: never
        1.6 times slower, margin 0.5, 50 requests a span: bad 39 safe 0 of 60, half of them after: 51 spans
        2 times slower, margin 0.5, 50 requests a span: bad 60 safe 0 of 60, half of them after: 8 spans
        4 times slower, margin 0.5, 50 requests a span: bad 60 safe 0 of 60, half of them after: 3 spans
        0.5 times 0.32 s, P95 at most 1 s, 100 requests a span: bad 0 safe 60 of 60, half of them after: never
        5 times 0.32 s, P95 at most 1 s, 100 requests a span: bad 60 safe 0 of 60, half of them after: 1 spans"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn too_few_requests_are_no_verdict_whatever_they_say() {
    let rules = rules(Question::ErrorsOfStable { margin: 0.0 }, 0.05);
    let mut evidence = Evidence::default();
    let failed = Counts {
        status: [0, 0, 0, 0, 99],
        ..Counts::default()
    };
    let fine = Counts {
        status: [0, 5000, 0, 0, 0],
        ..Counts::default()
    };
    assert_eq!(evidence.verdict(&rules), Verdict::TooFew { have: 0 });
    evidence.add(&rules, &failed, &fine);
    assert_eq!(evidence.verdict(&rules), Verdict::TooFew { have: 99 });
    evidence.add(&rules, &failed, &fine);
    assert_eq!(evidence.verdict(&rules), Verdict::Bad);
}

#[test]
fn evidence_survives_being_stored() {
    let rules = rules(
        Question::LatencyOfStable {
            margin: 0.25,
            quantile: 0.9,
        },
        0.05,
    );
    let mut dice = Dice(7);
    let (mut kept, mut stored) = (Evidence::default(), Evidence::default());
    for _ in 0..30 {
        let (canary, stable) = (dice.latencies(50, 1.3), dice.latencies(50, 1.0));
        kept.add(&rules, &canary, &stable);
        stored.add(&rules, &canary, &stable);
        stored = serde_json::from_str(&serde_json::to_string(&stored).unwrap()).unwrap();
    }
    assert_eq!(stored.verdict(&rules), kept.verdict(&rules));
    assert!(serde_json::to_string(&stored).unwrap().len() < 8_000);
}

#[test]
fn odd_counts_do_no_harm() {
    let odd = [
        Counts::default(),
        Counts {
            latency: vec![1; 200],
            ..Counts::default()
        },
        Counts {
            status: [0, 0, 0, 0, u64::MAX / 4],
            latency: vec![u64::MAX / 64; LATENCY_BUCKETS],
            ..Counts::default()
        },
    ];
    let questions = [
        Question::Errors { threshold: 0.999 },
        Question::ErrorsOfStable { margin: 10.0 },
        Question::Latency {
            threshold: 1e9,
            quantile: 0.999,
        },
        Question::LatencyOfStable {
            margin: 10.0,
            quantile: 0.001,
        },
    ];
    for question in questions {
        let mut evidence = Evidence::default();
        for canary in &odd {
            for stable in &odd {
                evidence.add(&rules(question, 0.01), canary, stable);
                assert!((0.0..=1.0).contains(&evidence.p_bad()), "{question:?}");
            }
        }
    }
}
