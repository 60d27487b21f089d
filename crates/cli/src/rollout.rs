//! `serin rollout`: look at a workload that rolls out, wait for it, and steer it.

mod emergency;
mod follow;
mod history;
mod objects;
mod render;
mod standing;
mod verbs;
mod view;
mod wait;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;
use serin_api::rollout::Decision;

use crate::client::{Client, FIELD_MANAGER};
use crate::context::{Context, parse_timeout};
use crate::error::{CliError, Exit};
use crate::load::LoadSpec;

pub(crate) use objects::{Objects, Target, Workload, pods, selector_text, typed};
pub(crate) use render::{Look, render};
pub(crate) use view::view;

/// What `serin rollout` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show a workload with its revisions, instances and analyses
    #[command(
        after_help = "Examples:\n  serin rollout get shop\n  serin rollout get deploy/web -n prod"
    )]
    Get(Named),
    /// Show it and keep the picture up to date, until Ctrl-C
    #[command(
        after_help = "Examples:\n  serin rollout watch shop\n\nWithout a terminal it prints a line at each change."
    )]
    Watch(Named),
    /// Wait until it is healthy or has failed
    #[command(
        after_help = "Exit code: 0 healthy, 1 error or timeout, 2 the release failed (taken back, or it does not get on).\n\n\
        Examples:\n  serin rollout status shop --timeout 10m\n  serin rollout status shop --watch=false"
    )]
    Status(StatusArgs),
    /// List its revisions
    #[command(
        after_help = "Examples:\n  serin rollout history shop\n  serin rollout history shop --revision 2"
    )]
    History(HistoryArgs),
    /// Go on from a pause, or skip the step under way
    #[command(
        after_help = "Examples:\n  serin rollout promote shop\n  serin rollout promote shop --full"
    )]
    Promote(PromoteArgs),
    /// Take the update back: all requests go to the stable revision
    #[command(
        after_help = "Examples:\n  serin rollout abort shop\n  serin rollout abort shop -m 'errors at the checkout'"
    )]
    Abort(AbortArgs),
    /// Try a version again that was taken back
    #[command(after_help = "Example:\n  serin rollout retry shop")]
    Retry(Named),
    /// Hold everything until `resume`
    #[command(after_help = "Example:\n  serin rollout pause shop")]
    Pause(Named),
    /// End what `pause` holds, else a pause between steps
    #[command(after_help = "Example:\n  serin rollout resume shop")]
    Resume(Named),
    /// Go back to an older revision: the last good one, unless told
    #[command(
        after_help = "Examples:\n  serin rollout undo shop\n  serin rollout undo shop --to-revision 3"
    )]
    Undo(UndoArgs),
    /// Go back to the last good version at once, from any state, and prove that it worked
    #[command(
        after_help = "It prints its five steps with their times. Exit code: 0 only if all of them are done.\n\n\
        Examples:\n  serin rollout emergency shop -m 'orders fail'\n  serin rollout emergency deploy/web --url http://127.0.0.1:8080/health \
        --host web.example.com"
    )]
    Emergency(EmergencyArgs),
    /// Approve a release at a gate
    #[command(
        after_help = "Examples:\n  serin rollout approve shop\n  serin rollout approve shop security -m 'looked at it'"
    )]
    Approve(GateArgs),
    /// Reject a release at a gate: it is taken back
    #[command(after_help = "Example:\n  serin rollout reject shop -m 'not before the holidays'")]
    Reject(GateArgs),
    /// Make all its instances anew, of the same version
    #[command(after_help = "Example:\n  serin rollout restart shop")]
    Restart(Named),
    /// Release another image
    #[command(
        after_help = "Examples:\n  serin rollout set-image shop app=shop:v2\n  serin rollout set-image shop shop:v2   \
        (with a single container)\n  serin rollout set-image deploy/web '*=web:1.4' -m 'new header'"
    )]
    SetImage(SetImageArgs),
}

/// A workload by name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// NAME (a Rollout, else a Deployment), rollout/NAME or deploy/NAME
    #[arg(value_name = "NAME")]
    target: Target,
}

/// For `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    named: Named,
    /// Wait; `--watch=false` tells how it stands and ends
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    watch: bool,
    /// Give up after this long, such as 90s, 10m; 0 waits for ever
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_timeout)]
    timeout: Duration,
}

/// For `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    named: Named,
    /// Print the pod template of this revision
    #[arg(long, value_name = "N")]
    revision: Option<i64>,
}

/// For `promote`.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    named: Named,
    /// Skip all steps, analyses and pauses that are left; full availability is still waited for
    #[arg(long)]
    full: bool,
}

/// For `abort`.
#[derive(Debug, Args)]
pub(crate) struct AbortArgs {
    #[command(flatten)]
    named: Named,
    /// Why, for the history of the revision
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

/// For `emergency`.
#[derive(Debug, Args)]
pub(crate) struct EmergencyArgs {
    #[command(flatten)]
    named: Named,
    /// Why, for the record
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The longest wait for the old version
    #[arg(long, value_name = "DURATION", default_value = "180s", value_parser = parse_timeout)]
    timeout: Duration,
    /// An address that answers 2xx when the service is well; without it the readiness of the instances counts
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The Host header for --url
    #[arg(long, value_name = "NAME", requires = "url")]
    host: Option<String>,
    /// How often the service is asked before it counts as bad
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tries: u32,
    /// The time between two tries
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_timeout)]
    interval: Duration,
}

/// For `approve` and `reject`.
#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    #[command(flatten)]
    named: Named,
    /// The gate; without it the one that the release waits at
    #[arg(value_name = "GATE")]
    gate: Option<String>,
    /// Why, for the record
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

/// For `undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    named: Named,
    /// The revision; without it the one that the users are on, else the last one that was promoted and not taken back since
    #[arg(long, value_name = "N")]
    to_revision: Option<i64>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

/// For `set-image`.
#[derive(Debug, Args)]
pub(crate) struct SetImageArgs {
    #[command(flatten)]
    named: Named,
    /// CONTAINER=IMAGE, *=IMAGE for every container, or IMAGE with a single container
    #[arg(required = true, value_name = "CONTAINER=IMAGE")]
    images: Vec<String>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

/// Carries out one of them.
pub(crate) async fn run(context: &Context, command: RolloutCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        RolloutCommand::Get(named) => {
            let objects = Objects::fetch(&client, &named.target).await?;
            let tree = view(&objects, Timestamp::now());
            let text = render(&tree, context.look());
            Ok(context.printer.result(text.trim_end())?)
        }
        RolloutCommand::Watch(named) => watch::watch(context, &client, &named.target).await,
        RolloutCommand::Status(args) => {
            wait::status(
                context,
                &client,
                &args.named.target,
                args.watch,
                args.timeout,
            )
            .await
        }
        RolloutCommand::History(args) => {
            let objects = Objects::fetch(&client, &args.named.target).await?;
            history::print(context.printer, &objects, args.revision)
        }
        RolloutCommand::Promote(args) => {
            steer(context, &client, &args.named, |w| {
                verbs::promote(w, args.full)
            })
            .await
        }
        RolloutCommand::Abort(args) => {
            let decision = decision(&client, args.message).await;
            steer(context, &client, &args.named, |w| {
                verbs::abort(w, &decision)
            })
            .await
        }
        RolloutCommand::Retry(named) => {
            let now = Timestamp::now();
            steer(context, &client, &named, |w| verbs::retry(w, now)).await
        }
        RolloutCommand::Pause(named) => steer(context, &client, &named, verbs::pause).await,
        RolloutCommand::Resume(named) => steer(context, &client, &named, verbs::resume).await,
        RolloutCommand::Restart(named) => {
            let now = Timestamp::now();
            steer(context, &client, &named, |w| Ok(verbs::restart(w, now))).await
        }
        RolloutCommand::SetImage(args) => {
            let cause = args.message.as_deref();
            let change = |w: &Workload| verbs::set_image(w, &args.images, cause);
            steer(context, &client, &args.named, change).await
        }
        RolloutCommand::Emergency(args) => emergency(context, &client, args).await,
        RolloutCommand::Approve(args) => answer_gate(context, &client, args, true).await,
        RolloutCommand::Reject(args) => answer_gate(context, &client, args, false).await,
        RolloutCommand::Undo(args) => undo(context, &client, args).await,
    }
}

/// Asks for the workload, decides on the patches, and makes them.
async fn steer(
    context: &Context,
    client: &Client,
    named: &Named,
    decide: impl FnOnce(&Workload) -> Result<verbs::Change, CliError>,
) -> Result<(), CliError> {
    let workload = Workload::fetch(client, &named.target).await?;
    let change = decide(&workload)?;
    carry_out(context, client, &workload, &change).await
}

/// Who decides, as the server knows them, and why.
async fn decision(client: &Client, message: Option<String>) -> Decision {
    Decision {
        by: client.user().await.unwrap_or_default(),
        why: message.unwrap_or_default(),
    }
}

async fn emergency(
    context: &Context,
    client: &Client,
    args: EmergencyArgs,
) -> Result<(), CliError> {
    let url = args.url.as_deref().map(LoadSpec::new).transpose();
    let mut url = url.map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    if let (Some(url), Some(host)) = (&mut url, args.host) {
        url.host = host;
    }
    let plan = emergency::Plan {
        timeout: args.timeout,
        url,
        tries: args.tries,
        interval: args.interval,
    };
    let decision = decision(client, args.message).await;
    emergency::run(context, client, &args.named.target, &plan, &decision).await
}

async fn answer_gate(
    context: &Context,
    client: &Client,
    args: GateArgs,
    approved: bool,
) -> Result<(), CliError> {
    let decision = decision(client, args.message).await;
    let gate = args.gate.as_deref();
    steer(context, client, &args.named, |w| {
        verbs::answer_gate(w, gate, approved, &decision)
    })
    .await
}

async fn undo(context: &Context, client: &Client, args: UndoArgs) -> Result<(), CliError> {
    let objects = Objects::fetch(client, &args.named.target).await?;
    let decision = decision(client, args.message.clone()).await;
    let cause = args.message.as_deref();
    let change = verbs::undo(&objects, args.to_revision, cause, &decision)?;
    carry_out(context, client, &objects.workload, &change).await
}

async fn carry_out(
    context: &Context,
    client: &Client,
    workload: &Workload,
    change: &verbs::Change,
) -> Result<(), CliError> {
    let query = format!("?fieldManager={FIELD_MANAGER}");
    for warning in &change.warnings {
        context.printer.warning(warning);
    }
    let mut before: Option<Value> = None;
    let mut changed = false;
    for patch in &change.patches {
        let mut path = workload.path();
        if patch.to_status {
            path.push_str("/status");
        }
        let answer = client.patch(&path, patch.kind, &query, &patch.body).await?;
        for warning in &answer.warnings {
            context.printer.warning(warning);
        }
        let version = answer.object.pointer("/metadata/resourceVersion").cloned();
        let last = before.clone().or_else(|| {
            workload
                .metadata()
                .resource_version
                .clone()
                .map(Value::from)
        });
        changed |= version != last;
        before = version;
    }
    let reference = workload.reference();
    if changed {
        context
            .printer
            .result(format!("{reference} {}", change.done))?;
    } else {
        context.printer.result(format!("{reference} unchanged"))?;
    }
    Ok(())
}
