//! `serin sim`: the simulator of releases, so that anybody can see what the planner does when everything else goes wrong.
//!
//! Absent on purpose: any rule of that world, which is the engine's.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;
use serin_engine::sim::{self, Failure, Faults, Scenario, Subject};

use crate::context::Context;
use crate::error::CliError;
use crate::printer::Printer;

/// How often it is told how far it is.
const EVERY: Duration = Duration::from_secs(5);

/// What to simulate.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimArgs {
    /// How the releases go [default: every way]
    #[arg(value_enum, value_name = "WAY")]
    ways: Vec<Way>,
    /// So many worlds of each way
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first one
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// One world alone, and what happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// The form of the result
    #[arg(short, long, value_name = "FORM")]
    output: Option<Form>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Json,
}

/// How a release of the simulator goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A canary with shares of a route
    CanaryWithARoute,
    /// A canary by numbers of instances
    CanaryByReplicas,
    /// Blue-green
    BlueGreen,
    /// A canary with rules for headers and copies, and instances apart from its share
    ManagedRoutes,
    /// A canary whose stable instances shrink with their share
    DynamicStableScale,
    /// A canary whose two Services take turns
    PingPong,
    /// A canary with experiments between its steps
    Experiments,
    /// A rolling update in batches
    Batches,
    /// A canary whose configuration is part of its revisions
    Configuration,
    /// Several Rollouts that are released together
    Group,
}

impl Way {
    fn subject(self) -> Subject {
        let scenario = match self {
            Self::CanaryWithARoute => Scenario::Traffic,
            Self::CanaryByReplicas => Scenario::Replicas,
            Self::BlueGreen => Scenario::BlueGreen,
            Self::ManagedRoutes => Scenario::Managed,
            Self::DynamicStableScale => Scenario::Dynamic,
            Self::PingPong => Scenario::PingPong,
            Self::Experiments => Scenario::Experiment,
            Self::Batches => Scenario::Batches,
            Self::Configuration => Scenario::Configured,
            Self::Group => return Subject::Group,
        };
        Subject::One(scenario)
    }

    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The worlds of one way, and the first that broke a rule.
struct Outcome {
    way: Way,
    seeds: Range<u64>,
    took: Duration,
    broken: Option<Broken>,
}

struct Broken {
    seed: u64,
    faults: Faults,
    failure: Failure,
}

/// Runs the worlds; fails when a rule was broken in one.
pub(crate) fn run(context: &Context, args: &SimArgs) -> Result<(), CliError> {
    let printer = context.printer;
    let ways = match args.ways.as_slice() {
        [] => Way::value_variants(),
        ways => ways,
    };
    if let Some(seed) = args.seed {
        return tell(printer, ways, seed, args.output);
    }
    let seeds = args.from..args.from.saturating_add(args.seeds);
    let mut outcomes = Vec::new();
    for way in ways {
        let outcome = search(printer, *way, seeds.clone());
        if args.output.is_none() {
            printer.result(outcome.text())?;
        }
        outcomes.push(outcome);
    }
    if args.output.is_some() {
        let all: Vec<_> = outcomes.iter().map(Outcome::json).collect();
        printer.result(serde_json::to_string_pretty(&all).unwrap_or_default())?;
    }
    let broken = outcomes.iter().filter(|one| one.broken.is_some()).count();
    failed(broken)
}

/// One world of each way, with its story.
fn tell(printer: Printer, ways: &[Way], seed: u64, form: Option<Form>) -> Result<(), CliError> {
    let mut broken = 0;
    let mut all = Vec::new();
    for way in ways {
        let (story, what) = match sim::told(way.subject(), seed) {
            Ok(story) => (story, None),
            Err(failure) => (failure.story, Some(failure.what)),
        };
        broken += usize::from(what.is_some());
        if form.is_some() {
            let way = way.name();
            all.push(json!({"way": way, "seed": seed, "story": story, "broken": what}));
            continue;
        }
        printer.result(format!("{}, seed {seed}", way.name()))?;
        for line in story {
            printer.result(format!("  {line}"))?;
        }
        printer.result(match what {
            Some(what) => format!("  BROKEN: {what}"),
            None => "  every rule has held".to_owned(),
        })?;
    }
    if form.is_some() {
        printer.result(serde_json::to_string_pretty(&all).unwrap_or_default())?;
    }
    failed(broken)
}

fn failed(broken: usize) -> Result<(), CliError> {
    match broken {
        0 => Ok(()),
        1 => Err(CliError::failed(
            "a rule was broken in one way of releasing",
        )),
        many => Err(CliError::failed(format!(
            "rules were broken in {many} ways of releasing"
        ))),
    }
}

/// Runs the worlds of one way on all cores, until one breaks a rule.
fn search(printer: Printer, way: Way, seeds: Range<u64>) -> Outcome {
    let began = Instant::now();
    let subject = way.subject();
    let next = AtomicU64::new(seeds.start);
    let first_broken = AtomicU64::new(u64::MAX);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (next, first_broken, seeds) = (&next, &first_broken, &seeds);
            scope.spawn(move || {
                let mut told = Instant::now();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || first_broken.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    if sim::run(subject, seed).is_err() {
                        first_broken.fetch_min(seed, Ordering::Relaxed);
                    }
                    if worker == 0 && told.elapsed() > EVERY {
                        told = Instant::now();
                        let done = seed - seeds.start;
                        let all = seeds.end - seeds.start;
                        printer.progress(format!("{}: {done} of {all}", way.name()));
                    }
                }
            });
        }
    });
    let seed = first_broken.into_inner();
    let shrunk = sim::shrink(subject, seed).filter(|_| seed != u64::MAX);
    Outcome {
        way,
        seeds,
        took: began.elapsed(),
        broken: shrunk.map(|(faults, failure)| Broken {
            seed,
            faults,
            failure,
        }),
    }
}

impl Outcome {
    fn text(&self) -> String {
        let way = self.way.name();
        let seeds = self.seeds.end - self.seeds.start;
        let seconds = self.took.as_secs_f64();
        let Some(Broken {
            seed,
            faults,
            failure,
        }) = &self.broken
        else {
            return format!("{way:22} {seeds:>9} worlds, every rule has held ({seconds:.1} s)");
        };
        let mut text = format!("{way:22} seed {seed} breaks a rule: {}\n", failure.what);
        for line in &failure.story {
            let _ = writeln!(text, "  {line}");
        }
        let _ = write!(
            text,
            "  with the fewest faults that it takes, for {} s; in full: serin sim {way} --seed {seed}",
            faults.seconds
        );
        text
    }

    fn json(&self) -> serde_json::Value {
        let broken = self.broken.as_ref();
        let broken = broken.map(|one| {
            let Failure { what, story } = &one.failure;
            json!({"seed": one.seed, "faultSeconds": one.faults.seconds, "rule": what, "story": story})
        });
        json!({
            "way": self.way.name(), "from": self.seeds.start, "seeds": self.seeds.end - self.seeds.start,
            "seconds": self.took.as_secs_f64(), "broken": broken,
        })
    }
}
