//! `serin delete`: deletes objects and waits until they are gone.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::apply::locate;
use crate::client::{Catalog, Client, ClientError};
use crate::context::{Context, parse_timeout};
use crate::error::CliError;
use crate::get::resources;
use crate::sources;

/// How often it is looked whether an object is gone.
const LOOK: Duration = Duration::from_millis(200);

/// What to delete.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["kind", "files"]))]
pub(crate) struct DeleteArgs {
    /// The kind, by any of its names
    #[arg(value_name = "KIND", conflicts_with = "files", requires = "names")]
    kind: Option<String>,
    /// The objects of that kind
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The objects of a file, a directory of manifests, or - for stdin; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Wait until they are gone; `--wait=false` does not
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// Give up waiting after this long, such as 30s, 5m
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_timeout)]
    timeout: Duration,
    /// Take an object that is not there as deleted
    #[arg(long)]
    ignore_not_found: bool,
}

/// Deletes every object, then waits for all of them.
pub(crate) async fn run(context: &Context, args: DeleteArgs) -> Result<(), CliError> {
    let client = context.client().await?;
    let catalog = Catalog::load(&client).await?;
    let mut targets: Vec<(String, String)> = Vec::new();
    if let Some(kind) = &args.kind {
        for resource in resources(&catalog, kind)? {
            targets.extend(args.names.iter().map(|name| {
                let reference = format!("{}/{name}", resource.type_name());
                (resource.path(client.namespace(), name), reference)
            }));
        }
    } else {
        let found = sources::read(context.printer, &args.files)?;
        let located = locate(context, &client, &catalog, found)?;
        // The last made goes first, so that nothing outlives what it stands on.
        targets.extend(located.into_iter().rev().map(|l| (l.path, l.reference)));
    }
    let mut absent = Vec::new();
    let mut going = Vec::new();
    for (path, reference) in targets {
        match delete(context, &client, &path).await {
            Ok(uid) => {
                context.printer.result(format!("{reference} deleted"))?;
                going.push((path, reference, uid));
            }
            Err(error) if error.is_not_found() => absent.push(reference),
            Err(error) => return Err(error.into()),
        }
    }
    if args.wait {
        wait(&client, &going, args.timeout).await?;
    }
    if absent.is_empty() || args.ignore_not_found {
        return Ok(());
    }
    Err(CliError::failed(format!(
        "not found: {}",
        absent.join(", ")
    )))
}

/// Asks for the deletion; the uid tells the object from a later one of the same name.
async fn delete(
    context: &Context,
    client: &Client,
    path: &str,
) -> Result<Option<String>, ClientError> {
    let object = client.get(path).await?;
    let answer = client
        .delete(path, &json!({"propagationPolicy": "Background"}))
        .await?;
    for warning in &answer.warnings {
        context.printer.warning(warning);
    }
    Ok(uid(&object))
}

fn uid(object: &Value) -> Option<String> {
    let uid = object.pointer("/metadata/uid")?.as_str()?;
    Some(uid.to_owned())
}

async fn wait(
    client: &Client,
    going: &[(String, String, Option<String>)],
    timeout: Duration,
) -> Result<(), CliError> {
    let until = tokio::time::Instant::now() + timeout;
    for (path, reference, uid_before) in going {
        loop {
            match client.get(path).await {
                Ok(object) if uid(&object) == *uid_before => {}
                Ok(_) => break,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error.into()),
            }
            if tokio::time::Instant::now() + LOOK > until {
                return Err(CliError::failed(format!(
                    "{reference} is still there after {} s; it goes on being deleted",
                    timeout.as_secs()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}
