//! Starts `serin up` in the background and waits until its API answers.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{LOOK, UpArgs, background_arguments, log_file, options};
use crate::client::{Client, KubeconfigChoice};
use crate::context::Context;
use crate::error::{CliError, Exit};
use crate::platform::{Images, Running};

/// How long the API may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of the log of a failed start is told.
const TOLD_BYTES: u64 = 4096;

/// Starts it, and prints the path of the kubeconfig.
pub(super) async fn start(context: &Context, args: &UpArgs) -> Result<(), CliError> {
    let images = Images::load(&context.home, &args.image)?;
    let program = options(context, args, &images)?.program;
    context.home.prepare()?;
    let log_path = log_file(context);
    let failed = |error| {
        CliError::new(
            Exit::Home,
            format!("cannot write {}: {error}", log_path.display()),
        )
    };
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(failed)?;
    let before = log.metadata().map_err(failed)?.len();
    let errors = log.try_clone().map_err(failed)?;
    let mut child = Command::new(program)
        .args(background_arguments(context, args))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| {
            CliError::failed(format!("cannot start the background process: {error}"))
        })?;
    let started = async {
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(status);
            }
            if answers(context, child.id()).await {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(DEADLINE, started).await {
        Ok(Ok(())) => Ok(context
            .printer
            .result(context.home.kubeconfig().display())?),
        Ok(Err(status)) => Err(ended(status, &said(&log_path, before), &log_path)),
        Err(_) => {
            let message = format!("the API did not answer within {} s", DEADLINE.as_secs());
            Err(CliError::failed(message).hint(format!("see {}", log_path.display())))
        }
    }
}

/// Whether the API of this very process answers.
async fn answers(context: &Context, pid: u32) -> bool {
    if Running::read(&context.home).is_none_or(|running| running.pid != pid) {
        return false;
    }
    let choice = KubeconfigChoice::Home(context.home.kubeconfig());
    match Client::connect(&choice, None).await {
        Ok(client) => client.get("/version").await.is_ok(),
        Err(_) => false,
    }
}

/// What the process has written since `from`.
fn said(log: &Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(TOLD_BYTES))))?;
        let mut text = Vec::new();
        file.take(TOLD_BYTES).read_to_end(&mut text)?;
        std::io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
    };
    read().unwrap_or_default()
}

/// The error of the background process as if it were ours: its message, its hints, its exit code.
fn ended(status: ExitStatus, said: &str, log: &Path) -> CliError {
    let of = |start: &str| -> Vec<String> {
        said.lines()
            .filter_map(|line| line.strip_prefix(start))
            .map(str::to_owned)
            .collect()
    };
    let message = of("error: ").pop();
    let known = [Exit::Usage, Exit::Home, Exit::State, Exit::Busy];
    let exit = known
        .into_iter()
        .find(|exit| status.code() == Some(i32::from(*exit as u8)));
    let message = message.unwrap_or_else(|| format!("the background process ended ({status})"));
    let error = CliError::new(exit.unwrap_or(Exit::Failed), message);
    let mut hints = of("hint: ");
    if said.is_empty() && status.code() == Some(i32::from(Exit::Home as u8)) {
        // With no room for the log, the process cannot have said why.
        hints.push("is the disk full? make room, then start again; nothing was lost".to_owned());
    }
    if hints.is_empty() {
        return error.hint(format!("see {}", log.display()));
    }
    hints.into_iter().fold(error, CliError::hint)
}
