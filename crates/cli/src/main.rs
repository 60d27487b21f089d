//! The binary `serin`: the composition root. It puts the parts together, and it is the only place that prints, reads the
//! environment and picks exit codes.
//!
//! Absent on purpose: logic that another crate could hold.

mod analysis_templates;
mod analyze;
mod apply;
mod args;
mod backup;
mod client;
mod columns;
mod context;
mod controller;
mod delete;
mod demo;
mod demo_app;
mod down;
mod error;
mod gateway_command;
mod get;
mod hidden;
mod history;
mod home;
mod install;
mod load;
mod load_command;
mod logging;
mod logs;
mod plan;
mod platform;
mod printer;
mod rights;
mod rollout;
mod sim;
mod sources;
mod up;
#[cfg(test)]
#[path = "../../apiserver/tests/support/waiting.rs"]
mod waiting;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::error::{CliError, Exit};
use crate::gateway_command::GatewayCommand;
use crate::printer::Printer;

/// A static build brings its own, as that of musl is slow where there are threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(exit) = hidden::run(&arguments) {
        return exit;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error),
    };
    cli.global.colour.write_global();
    let printer = Printer::new(cli.global.quiet);
    match run(cli, printer) {
        Ok(()) => Exit::Done.into(),
        Err(error) => error.report(printer),
    }
}

/// Help and version are results; anything else is a wrong command line.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Done.into()
    }
}

fn run(cli: Cli, printer: Printer) -> Result<(), CliError> {
    let global = cli.global;
    logging::init(global.verbose, cli.command.is_platform());
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "serin", &mut script);
            return Ok(printer.raw(&script)?);
        }
        Command::Version => {
            return Ok(printer.result(concat!("serin ", env!("CARGO_PKG_VERSION")))?);
        }
        _ => {}
    }
    let context = Context::new(
        global.home.as_deref(),
        global.kubeconfig.as_deref(),
        global.namespace,
        printer,
    )?;
    match cli.command {
        Command::Completions { .. } | Command::Version => Ok(()),
        Command::Apply(args) => client_runtime()?.block_on(apply::run(&context, args)),
        Command::Plan(args) => client_runtime()?.block_on(plan::run(&context, args)),
        Command::Get(args) => client_runtime()?.block_on(get::run(&context, args)),
        Command::Delete(args) => client_runtime()?.block_on(delete::run(&context, args)),
        Command::Logs(args) => client_runtime()?.block_on(logs::run(&context, args)),
        Command::Rollout { command } => client_runtime()?.block_on(rollout::run(&context, command)),
        Command::Up(args) => up::run(&context, args),
        Command::Controller(args) => controller::run(&context, args),
        Command::Crds => install::crds(&context),
        Command::Install(args) => install::install(&context, &args),
        Command::Down(args) => client_runtime()?.block_on(down::run(&context, args)),
        Command::Gateway(GatewayCommand::Serve(args)) => gateway_command::serve(&context, *args),
        Command::Gateway(GatewayCommand::Upgrade) => {
            client_runtime()?.block_on(gateway_command::upgrade(&context))
        }
        Command::History(args) => client_runtime()?.block_on(history::run(&context, args)),
        Command::Backup(args) => client_runtime()?.block_on(backup::run(&context, args)),
        Command::Restore(args) => backup::restore(&context, &args),
        Command::Demo(args) => client_runtime()?.block_on(demo::run(&context, args)),
        Command::Analyze(args) => client_runtime()?.block_on(analyze::run(&context, &args)),
        Command::Sim(args) => sim::run(&context, &args),
        Command::Load(args) => client_runtime()?.block_on(load_command::run(&context, args)),
    }
}

/// One thread is enough to ask and to print.
fn client_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))
}
