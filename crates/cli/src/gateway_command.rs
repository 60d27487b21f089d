//! `serin gateway upgrade`: puts the program as it is now on disk in the place of the gateway that serves.

use std::time::Duration;

use clap::Subcommand;
use rustix::process::Signal;

use crate::context::Context;
use crate::error::CliError;
use crate::platform::{Processes, serving};

/// How long another gateway may take to serve.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(50);

/// What to do with the gateway.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Replace the gateway that serves by the program as it is now on disk, without a refused or cut request
    #[command(
        after_help = "The listening sockets are handed over. The gateway before answers what it has, tells its clients to come \
        again, and ends by itself."
    )]
    Upgrade,
}

/// Does it.
pub(crate) async fn run(context: &Context, command: GatewayCommand) -> Result<(), CliError> {
    match command {
        GatewayCommand::Upgrade => upgrade(context).await,
    }
}

async fn upgrade(context: &Context) -> Result<(), CliError> {
    let home = &context.home;
    let keepers = Processes::of(home).keeper;
    let (Some(before), Some(keeper)) = (serving(home).await, keepers.first()) else {
        let message = format!("no gateway serves in {}", home.root().display());
        return Err(CliError::failed(message).hint("`serin up` starts one"));
    };
    keeper
        .signal(Signal::HUP)
        .map_err(|error| CliError::failed(format!("cannot ask the keeper: {error}")))?;
    let other = async {
        loop {
            match serving(home).await {
                Some(info) if info.pid != before.pid => return info,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let Ok(after) = tokio::time::timeout(DEADLINE, other).await else {
        let message = format!(
            "another gateway did not come to serve within {} s; the one before (pid {}) goes on",
            DEADLINE.as_secs(),
            before.pid
        );
        let log = home.logs().join("gateway.log");
        return Err(CliError::failed(message).hint(format!("see {}", log.display())));
    };
    context.printer.result(format!(
        "gateway upgraded (pid {}, before {})",
        after.pid, before.pid
    ))?;
    Ok(())
}
