//! `serin down`: stops everything of a state directory, and nothing else.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use crate::context::{Context, parse_timeout};
use crate::error::{CliError, Exit};
use crate::home::Home;
use crate::platform::{Holder, HomeLock, Processes, take_lock};

/// How long the control plane may take to stop.
const CONTROL_PLANE_DEADLINE: Duration = Duration::from_secs(30);
/// How long the gateway may take to finish the requests in flight.
const GATEWAY_DEADLINE: Duration = Duration::from_secs(20);
/// How often it is looked whether something has stopped.
const LOOK: Duration = Duration::from_millis(50);

/// Files that are named when they are left; of more, the number is told.
const NAMED_FILES: usize = 5;

/// How to stop.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// How long instances may take to end before they are killed
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    grace: Duration,
    /// Delete all objects, logs and keys too; without it the next `serin up` starts the same instances again
    #[arg(long)]
    delete_data: bool,
}

/// Stops the control plane, so that nothing is started again; then the gateway, so that no request is cut; then the instances.
pub(crate) async fn run(context: &Context, args: DownArgs) -> Result<(), CliError> {
    let home = &context.home;
    if !home.root().is_dir() {
        context
            .printer
            .result(format!("nothing runs in {}", home.root().display()))?;
        return Ok(());
    }
    let (stopped, lock) = stop_all(home, args.grace).await?;
    for what in &stopped {
        context.printer.result(format!("{what} stopped"))?;
    }
    if stopped.is_empty() {
        context
            .printer
            .result(format!("nothing runs in {}", home.root().display()))?;
    }
    if args.delete_data {
        let left = delete_data(home)?;
        context
            .printer
            .result(deleted_text(&home.root().display().to_string(), &left))?;
    }
    drop(lock);
    Ok(())
}

/// Stops everything of a state directory and tells what it was. Nothing starts again there until the lock is dropped.
pub(crate) async fn stop_all(
    home: &Home,
    grace: Duration,
) -> Result<(Vec<String>, HomeLock), CliError> {
    let mut stopped = Vec::new();
    if let Some(pid) = stop_control_plane(home).await? {
        stopped.push(format!("control plane (pid {pid})"));
    }
    // Held until the end, so that no `serin up` starts again what is being stopped.
    let lock = take_lock(home)?;
    if stop_gateway(home).await? {
        stopped.push("gateway".to_owned());
    }
    match serin_node::stop_all(home.root(), grace).await {
        0 => {}
        1 => stopped.push("1 container".to_owned()),
        many => stopped.push(format!("{many} containers")),
    }
    Ok((stopped, lock))
}

async fn stop_control_plane(home: &Home) -> Result<Option<i32>, CliError> {
    let Some(holder) = Holder::of(&home.lock()) else {
        return Ok(None);
    };
    let pid = holder.pid();
    holder.ask_to_end().map_err(|error| {
        CliError::failed(format!(
            "cannot stop the control plane (pid {pid}): {error}"
        ))
    })?;
    let until = Instant::now() + CONTROL_PLANE_DEADLINE;
    while holder.holds() {
        if Instant::now() > until {
            let message = format!(
                "the control plane (pid {pid}) has not stopped within {} s",
                CONTROL_PLANE_DEADLINE.as_secs()
            );
            return Err(CliError::failed(message)
                .hint(format!("see the log, or end it with `kill -9 {pid}`")));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Some(pid))
}

async fn stop_gateway(home: &Home) -> Result<bool, CliError> {
    let processes = Processes::of(home);
    let failed = |error| CliError::failed(format!("cannot stop the gateway: {error}"));
    // The keeper first: it takes the gateway with it, and would start it again.
    for process in [&processes.keeper, &processes.gateway]
        .into_iter()
        .flatten()
    {
        process.end(GATEWAY_DEADLINE).await.map_err(failed)?;
    }
    Ok(processes.any())
}

/// What a person is told after [`delete_data`].
fn deleted_text(root: &str, left: &[String]) -> String {
    if left.is_empty() {
        return format!("{root} deleted");
    }
    let mut names: Vec<&str> = left.iter().take(NAMED_FILES).map(String::as_str).collect();
    let more = left.len().saturating_sub(names.len());
    let more = format!("{more} more");
    if left.len() > NAMED_FILES {
        names.push(&more);
    }
    format!(
        "data in {root} deleted; files that are not Serin's are left: {}",
        names.join(", ")
    )
}

/// Deletes what is ours in the directory, and the directory when nothing else is in it; the names of what else is there.
pub(crate) fn delete_data(home: &Home) -> Result<Vec<String>, CliError> {
    let root = home.root();
    let deleted = || {
        for folder in ["logs", "run", "keys", "gateway"] {
            ignore_absent(fs::remove_dir_all(root.join(folder)))?;
        }
        for file in [
            "state.db",
            "state.db-head",
            "state.db-wal",
            "state.db-shm",
            "state.db-replaced",
            "state.db-replaced-wal",
            "kubeconfig",
            "kubeconfig.new",
            "images.json",
            "images.json.new",
            "lock",
        ] {
            ignore_absent(fs::remove_file(root.join(file)))?;
        }
        match fs::remove_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => names_in(root),
            other => other.map(|()| Vec::new()),
        }
    };
    deleted().map_err(|error| {
        CliError::new(
            Exit::Home,
            format!("cannot delete {}: {error}", root.display()),
        )
    })
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::DirVariables;

    #[test]
    fn files_of_others_are_left_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        let home = Home::resolve(Some(&root), &DirVariables::default()).unwrap();
        home.prepare().unwrap();
        for name in ["images.json", "state.db", "notes.txt", "mine"] {
            fs::write(root.join(name), "").unwrap();
        }
        let left = delete_data(&home).unwrap();
        assert_eq!(left, ["mine", "notes.txt"]);
        assert_eq!(
            deleted_text("/h", &left),
            "data in /h deleted; files that are not Serin's are left: mine, notes.txt"
        );
        for name in &left {
            fs::remove_file(root.join(name)).unwrap();
        }
        assert_eq!(delete_data(&home).unwrap(), [""; 0]);
        assert!(!root.exists());
        assert_eq!(deleted_text("/h", &[]), "/h deleted");
    }

    #[test]
    fn of_many_files_some_are_named() {
        let left: Vec<String> = (1..=7).map(|n| n.to_string()).collect();
        assert!(deleted_text("/h", &left).ends_with("left: 1, 2, 3, 4, 5, 2 more"));
    }
}
