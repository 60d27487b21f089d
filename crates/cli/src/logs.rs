//! `serin logs`: what a pod, or every pod of a workload, has written.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{Client, ClientError, escape};
use crate::context::{Context, parse_timeout};
use crate::error::{CliError, chain};
use crate::printer::{PrintError, Printer};
use crate::rollout::{Objects, Target, Workload, pods, selector_text, typed};

/// Lines of all pods that wait to be printed.
const QUEUE: usize = 1024;
/// Pods that are followed at once.
const PODS_LIMIT: usize = 100;
/// How often new pods of a workload are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Whose log, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A pod, or rollout/NAME or deploy/NAME for all pods of a workload
    #[arg(value_name = "POD|rollout/NAME|deploy/NAME")]
    target: String,
    /// Go on with what is written from now on, until Ctrl-C; of a workload, also by pods to come
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what is younger than this, such as 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    since: Option<Duration>,
    /// The container, where a pod has several
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Of the run before the last restart
    #[arg(short, long)]
    previous: bool,
}

impl LogsArgs {
    fn path(&self, namespace: &str, pod: &str) -> String {
        let mut query = Vec::new();
        if self.follow {
            query.push("follow=true".to_owned());
        }
        if let Some(lines) = self.tail {
            query.push(format!("tailLines={lines}"));
        }
        if let Some(since) = self.since {
            query.push(format!("sinceSeconds={}", since.as_secs().max(1)));
        }
        if let Some(container) = &self.container {
            query.push(format!("container={}", escape(container)));
        }
        if self.previous {
            query.push("previous=true".to_owned());
        }
        format!("{}/log?{}", pods().path(namespace, pod), query.join("&"))
    }
}

/// Prints the log.
pub(crate) async fn run(context: &Context, args: LogsArgs) -> Result<(), CliError> {
    let client = context.client().await?;
    let printing = async {
        match args.target.split_once('/') {
            None => one(context.printer, &client, &args, &args.target).await,
            Some(("pod" | "pods" | "po", name)) => one(context.printer, &client, &args, name).await,
            Some(_) => {
                let target: Target = args.target.parse().map_err(CliError::failed)?;
                let workload = Workload::fetch(&client, &target).await?;
                many(context.printer, &client, &args, workload).await
            }
        }
    };
    tokio::select! {
        result = printing => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn one(
    printer: Printer,
    client: &Client,
    args: &LogsArgs,
    pod: &str,
) -> Result<(), CliError> {
    let path = args.path(client.namespace(), pod);
    let mut lines = client.stream(&path, "*/*").await?;
    while let Some(line) = lines.next().await? {
        write(printer, None, &line)?;
    }
    Ok(())
}

fn write(printer: Printer, pod: Option<&str>, line: &[u8]) -> Result<(), PrintError> {
    let mut text = Vec::with_capacity(line.len() + 64);
    if let Some(pod) = pod {
        text.extend_from_slice(pod.as_bytes());
        text.extend_from_slice(b" | ");
    }
    text.extend_from_slice(line);
    text.push(b'\n');
    printer.raw(&text)
}

/// A line of one of the pods, or that it cannot be read.
enum Piece {
    Line(String, bytes::Bytes),
    Trouble(String, ClientError),
}

/// Every pod of the workload at once, each line behind the name of its pod.
async fn many(
    printer: Printer,
    client: &Client,
    args: &LogsArgs,
    workload: Workload,
) -> Result<(), CliError> {
    let (sender, mut pieces) = mpsc::channel(QUEUE);
    let mut readers = JoinSet::new();
    let mut known = BTreeSet::new();
    let objects = Objects::around(client, workload).await?;
    let selector = objects
        .workload
        .selector()
        .map(selector_text)
        .unwrap_or_default();
    let mut found = objects.pods;
    if found.is_empty() && !args.follow {
        return Err(CliError::failed(format!(
            "{} has no pods",
            objects.workload.reference()
        )));
    }
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for pod in std::mem::take(&mut found) {
            let name = pod.metadata.name.unwrap_or_default();
            if has_begun(pod.status.as_ref())
                && known.len() < PODS_LIMIT
                && known.insert(name.clone())
            {
                let path = args.path(client.namespace(), &name);
                readers.spawn(read(client.clone(), path, name, sender.clone()));
            }
        }
        if !args.follow && readers.is_empty() {
            while let Ok(piece) = pieces.try_recv() {
                print(printer, piece)?;
            }
            return Ok(());
        }
        tokio::select! {
            Some(piece) = pieces.recv() => print(printer, piece)?,
            Some(_) = readers.join_next(), if !readers.is_empty() => {}
            _ = looks.tick(), if args.follow => found = list(client, &selector).await.unwrap_or_default(),
            else => return Ok(()),
        }
    }
}

fn print(printer: Printer, piece: Piece) -> Result<(), PrintError> {
    match piece {
        Piece::Line(pod, line) => write(printer, Some(&pod), &line),
        Piece::Trouble(pod, error) => {
            printer.warning(format!("{pod}: {}", chain(&error)));
            Ok(())
        }
    }
}

/// Before its container has run once, a pod has no log.
fn has_begun(status: Option<&k8s_openapi::api::core::v1::PodStatus>) -> bool {
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    containers.unwrap_or_default().iter().any(|container| {
        let running = container
            .state
            .as_ref()
            .is_some_and(|state| state.waiting.is_none());
        running || container.restart_count > 0
    })
}

async fn list(client: &Client, selector: &str) -> Result<Vec<Pod>, ClientError> {
    let path = pods().list_path(Some(client.namespace()));
    let list = client
        .get(&format!("{path}?labelSelector={}", escape(selector)))
        .await?;
    let list: k8s_openapi::List<Pod> = typed(list)?;
    Ok(list.items)
}

async fn read(client: Client, path: String, pod: String, sender: mpsc::Sender<Piece>) {
    let mut lines = match client.stream(&path, "*/*").await {
        Ok(lines) => lines,
        Err(error) => {
            let _ = sender.send(Piece::Trouble(pod, error)).await;
            return;
        }
    };
    loop {
        let piece = match lines.next().await {
            Ok(Some(line)) => Piece::Line(pod.clone(), line),
            Ok(None) => return,
            Err(error) => Piece::Trouble(pod.clone(), error),
        };
        let ended = matches!(piece, Piece::Trouble(..));
        if sender.send(piece).await.is_err() || ended {
            return;
        }
    }
}
