//! `serin load`: requests at a constant rate, every one accounted for.

use std::time::Duration;

use clap::Args;

use crate::context::{Context, parse_timeout};
use crate::error::{CliError, Exit, chain};
use crate::load::{Load, LoadSpec, Report};

/// Which requests.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where to, such as http://127.0.0.1:8080/cart
    url: String,
    /// The Host header, where it differs from the address
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Requests a second
    #[arg(long, default_value_t = 50.0, value_name = "N")]
    rate: f64,
    /// Requests that can be in flight at a time
    #[arg(long, default_value_t = 16, value_name = "N")]
    connections: usize,
    /// How long to send, such as 30s, 5m; 0 until Ctrl-C
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_timeout)]
    duration: Duration,
    /// How long after it was due a request counts as lost
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Duration,
    /// Make a new connection for each request
    #[arg(long)]
    no_keep_alive: bool,
    /// Print everything that is known as JSON
    #[arg(long)]
    json: bool,
}

/// Sends the load and prints what became of it. Requests lost to the delivery make it fail.
pub(crate) async fn run(context: &Context, args: LoadArgs) -> Result<(), CliError> {
    let usage =
        |error: &(dyn std::error::Error + 'static)| CliError::new(Exit::Usage, chain(error));
    let mut spec = LoadSpec::new(&args.url).map_err(|error| usage(&error))?;
    spec.rate_per_second = args.rate;
    spec.connections = args.connections;
    spec.timeout = args.timeout;
    spec.keep_alive = !args.no_keep_alive;
    if let Some(host) = args.host {
        spec.host = host;
    }
    let load = Load::start(spec).await.map_err(|error| usage(&error))?;
    let end = async {
        if args.duration.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(args.duration).await;
    };
    tokio::select! {
        () = end => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let report = load.stop().await;
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| CliError::failed(format!("cannot write the report: {error}")))?;
        context.printer.result(text)?;
    } else {
        context.printer.result(text(&report).trim_end())?;
    }
    match report.total.faults.values().sum::<u64>() {
        0 => Ok(()),
        lost => Err(CliError::failed(format!(
            "{lost} requests got no answer of the application"
        ))),
    }
}

fn text(report: &Report) -> String {
    let total = &report.total;
    let mut lines = vec![format!(
        "{} requests in {:.1} s",
        total.requests,
        report.elapsed.as_secs_f64()
    )];
    for (version, tally) in &total.versions {
        let name = if version.is_empty() {
            "the application"
        } else {
            version
        };
        lines.push(format!(
            "  {} answers of {name}, {} of them errors",
            tally.answers, tally.errors
        ));
    }
    for (fault, count) in &total.faults {
        lines.push(format!("  {count} lost: {fault:?}"));
    }
    for failure in &report.failures {
        lines.push(format!(
            "    at {:.3} s: {}",
            failure.at.as_secs_f64(),
            failure.detail
        ));
    }
    lines.join("\n")
}
