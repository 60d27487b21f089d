//! `serin backup` and `serin restore`: a copy of all objects in one file, and the way back from it.
//!
//! Absent on purpose: keys, certificates, images and logs; a restored platform keeps those that it has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serin_apiserver::{Copied, check_copy};

use crate::client::{Client, KubeconfigChoice};
use crate::context::Context;
use crate::error::{CliError, Exit, chain, write_remedy};
use crate::platform::{Holder, PlatformError, take_lock};

/// What to back up.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; only its owner can read it, for it has all Secrets
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// What to restore.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file that `serin backup` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Writes a copy of the objects, and reads it back before it gets its name.
pub(crate) async fn run(context: &Context, args: BackupArgs) -> Result<(), CliError> {
    let file = &args.file;
    if !args.force && file.exists() {
        let text = format!("{} is there already", file.display());
        return Err(CliError::failed(text).hint("name another file, or replace it with --force"));
    }
    let home = &context.home;
    if !home.state_db().exists() {
        let text = format!("there are no objects in {}", home.root().display());
        return Err(CliError::new(Exit::Home, text).hint("name another directory with --home"));
    }
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_part(context, &part).await;
    let copied = written.and_then(|()| {
        let copied = check_copy(&part).map_err(PlatformError::from)?;
        publish(&part, file).map_err(|error| unwritable(file, &error))?;
        Ok(copied)
    });
    if copied.is_err() {
        // What is half written is of no use to anybody.
        let _ = fs::remove_file(&part);
    }
    told(context, "backed up", copied?, "to", file)
}

async fn write_part(context: &Context, part: &Path) -> Result<(), CliError> {
    let home = &context.home;
    let mut file = private(part).map_err(|error| unwritable(part, &error))?;
    if Holder::of(&home.lock()).is_some() {
        let kubeconfig = home.kubeconfig();
        let choice =
            KubeconfigChoice::new(Some(&kubeconfig), false, None, kubeconfig.clone(), false);
        let client = Client::connect(&choice, None).await?;
        let mut answer = client.stream("/backup", "application/vnd.sqlite3").await?;
        while let Some(chunk) = answer.chunk().await? {
            file.write_all(&chunk)
                .map_err(|error| unwritable(part, &error))?;
        }
    } else {
        let _lock = take_lock(home)?;
        let mut copy = serin_apiserver::copy_of(&home.state_db()).map_err(PlatformError::from)?;
        io::copy(&mut copy, &mut file).map_err(|error| unwritable(part, &error))?;
    }
    file.sync_all().map_err(|error| unwritable(part, &error))
}

/// Puts the objects of a backup in the place of those of the state directory.
pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> Result<(), CliError> {
    let home = &context.home;
    home.prepare()?;
    let _lock = take_lock(home)?;
    let copied =
        serin_apiserver::restore(&args.file, &home.state_db()).map_err(PlatformError::from)?;
    told(context, "restored", copied, "from", &args.file)
}

fn told(
    context: &Context,
    done: &str,
    copied: Copied,
    preposition: &str,
    file: &Path,
) -> Result<(), CliError> {
    let Copied { objects, version } = copied;
    let file = file.display();
    Ok(context.printer.result(format!(
        "{done} {objects} objects at version {version} {preposition} {file}"
    ))?)
}

fn private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn publish(part: &Path, file: &Path) -> io::Result<()> {
    fs::rename(part, file)?;
    let directory = file.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    let text = format!("cannot write {}: {}", path.display(), chain(error));
    CliError::failed(text).hint(write_remedy(error))
}
