//! `serin rollout status`: waits for the end of a release and says how it ended, by exit code too.

use std::time::Duration;

use jiff::Timestamp;

use super::follow::{Follower, Moment};
use super::objects::{Objects, Target, Workload};
use super::render::summary;
use super::standing::{Health, Standing};
use super::view::view;
use super::watch::deleted;
use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, Exit};

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The users are on the version that is wanted.
    Healthy,
    /// It was taken back, or does not get on.
    Failed,
}

/// The end of a release, if it has come.
fn verdict(standing: &Standing) -> Option<Verdict> {
    match standing.health {
        _ if standing.stale => None,
        Health::Healthy => Some(Verdict::Healthy),
        Health::Degraded => Some(Verdict::Failed),
        Health::Progressing | Health::Paused => None,
    }
}

/// Says how the workload stands; with `watch`, waits for a verdict for at most `timeout` (0 for ever).
pub(super) async fn status(
    context: &Context,
    client: &Client,
    target: &Target,
    watch: bool,
    timeout: Duration,
) -> Result<(), CliError> {
    if !watch {
        let objects = Objects::fetch(client, target).await?;
        context
            .printer
            .result(summary(&view(&objects, Timestamp::now())))?;
        return conclude(&objects, verdict(&Standing::of(&objects.workload)));
    }
    let workload = Workload::fetch(client, target).await?;
    let waiting = until_verdict(context, client, &workload);
    let (objects, verdict) = if timeout.is_zero() {
        waiting.await?
    } else {
        tokio::time::timeout(timeout, waiting).await.map_err(|_| {
            CliError::failed(format!(
                "{} did not become healthy within {} s",
                workload.reference(),
                timeout.as_secs()
            ))
            .hint("`serin rollout get` shows what it waits for; the release goes on")
        })??
    };
    context
        .printer
        .result(summary(&view(&objects, Timestamp::now())))?;
    conclude(&objects, Some(verdict))
}

async fn until_verdict(
    context: &Context,
    client: &Client,
    workload: &Workload,
) -> Result<(Box<Objects>, Verdict), CliError> {
    let mut follower = Follower::start(client, workload);
    let mut last = String::new();
    loop {
        let objects = match follower.next().await? {
            Moment::Here(objects) => objects,
            Moment::Gone => return Err(deleted(workload)),
            Moment::Trouble(why) => {
                context
                    .printer
                    .warning(format!("the API is away, trying again: {why}"));
                continue;
            }
        };
        if let Some(verdict) = verdict(&Standing::of(&objects.workload)) {
            return Ok((objects, verdict));
        }
        let line = summary(&view(&objects, Timestamp::now()));
        if line != last {
            context.printer.progress(&line);
            last = line;
        }
    }
}

fn conclude(objects: &Objects, verdict: Option<Verdict>) -> Result<(), CliError> {
    if verdict != Some(Verdict::Failed) {
        return Ok(());
    }
    let standing = Standing::of(&objects.workload);
    let name = objects.workload.reference();
    let (what, serves) = if standing.taken_back {
        ("it was taken back", "the stable revision serves")
    } else {
        ("it does not get on", "what served before still does")
    };
    let why = standing.message.unwrap_or_else(|| what.to_owned());
    let message = format!("the release of {name} failed: {why}");
    Err(CliError::new(Exit::TakenBack, message).hint(format!(
        "{serves}; `serin rollout get {}` shows the rest",
        objects.workload.name()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_the_controller_has_seen_counts() {
        let standing = |health, stale| Standing {
            health,
            message: None,
            taken_back: false,
            stale,
        };
        assert_eq!(
            verdict(&standing(Health::Healthy, false)),
            Some(Verdict::Healthy)
        );
        assert_eq!(verdict(&standing(Health::Healthy, true)), None);
        assert_eq!(
            verdict(&standing(Health::Degraded, false)),
            Some(Verdict::Failed)
        );
        assert_eq!(verdict(&standing(Health::Paused, false)), None);
    }
}
