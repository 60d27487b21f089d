//! `serin demo`: the whole job on one screen, on real processes and real requests, and every promise checked by counting.
//!
//! A platform in a temporary directory, two applications under constant load: a canary that succeeds, a canary that is bad
//! and is taken back by itself, a blue-green switch and its undo. What is printed was measured by the load generator, which
//! knows nothing of the platform.

mod acts;
mod manifests;
mod stage;
mod verdict;

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::error::{CliError, Exit};
use stage::Stage;
use verdict::Facts;

/// How the demo runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// The shares of the canary in percent, in order; the last is 100
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "5,20,50,100", value_parser = clap::value_parser!(u8).range(1..=100))]
    steps: Vec<u8>,
    /// How many times faster than usual the steps go
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Requests per second to the first application; the second gets half as many
    #[arg(long, value_name = "NUMBER", default_value_t = 400, value_parser = clap::value_parser!(u32).range(50..=5000))]
    rate: u32,
    /// Leave the platform running at the end, and say how to look at it
    #[arg(long)]
    keep: bool,
    /// Print what was measured as JSON
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let factor: f64 = text
        .parse()
        .map_err(|_| "write a number such as 2 or 0.5".to_owned())?;
    if (0.05..=5.0).contains(&factor) {
        Ok(factor)
    } else {
        Err("must be from 0.05 to 5".to_owned())
    }
}

impl DemoArgs {
    /// A duration of the usual demo at this speed.
    fn paced(&self, usual: Duration) -> Duration {
        usual.div_f64(self.speed)
    }

    fn check(&self) -> Result<(), CliError> {
        let rising = self.steps.windows(2).all(|pair| pair.first() < pair.last());
        if rising && self.steps.last() == Some(&100) {
            return Ok(());
        }
        let message = format!(
            "--steps is {:?}, but must grow and end with 100",
            self.steps
        );
        Err(CliError::new(Exit::Usage, message).hint("write them like 5,20,50,100"))
    }
}

/// Runs the demo. It ends with an error when a promise was not held.
pub(crate) async fn run(context: &Context, args: DemoArgs) -> Result<(), CliError> {
    args.check()?;
    let failed = |error| CliError::failed(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut stage = Stage::new(context)?;
    let outcome = tokio::select! {
        outcome = play(context, &args, &mut stage) => outcome,
        _ = interrupt.recv() => Err(CliError::failed("interrupted")),
        _ = terminate.recv() => Err(CliError::failed("interrupted")),
    };
    if args.keep && outcome.is_ok() {
        stage.keep();
    } else {
        if outcome.is_err() {
            stage.tell_logs();
        }
        stage.clear().await;
    }
    let facts = outcome?;
    let broken = facts.broken_promises();
    if args.json {
        context.printer.result(facts.to_json(&broken))?;
    } else {
        context.printer.result(facts.table(&broken))?;
    }
    if broken.is_empty() {
        Ok(())
    } else {
        Err(CliError::silent(Exit::Failed))
    }
}

async fn play(context: &Context, args: &DemoArgs, stage: &mut Stage) -> Result<Facts, CliError> {
    let printer = context.printer;
    let began = std::time::Instant::now();
    printer.progress("starting a platform in a temporary directory");
    stage.raise().await?;
    let cold = began.elapsed();
    printer.progress(format!(
        "the API answered after {:.0} ms; deploying shop v1 and cart v1",
        cold.as_secs_f64() * 1000.0
    ));
    let mut facts = acts::all(args, stage, printer).await?;
    facts.asked.clone_from(&args.steps);
    facts.start_seconds = cold.as_secs_f64();
    facts.total_seconds = began.elapsed().as_secs_f64();
    Ok(facts)
}
