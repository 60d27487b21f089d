//! `serin rollout emergency`: back to the last good version, whatever state the release is in, and proof that it worked.
//!
//! Five steps, each told with its time: what is under way is stopped and the old version is asked for (one patch, so that
//! nothing can come between), its instances are waited for, the service is checked, and people are told.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use serin_api::rollout::Decision;

use super::follow::{Follower, Moment};
use super::objects::{Objects, Target, Workload};
use super::standing::{Health, Standing};
use super::{carry_out, verbs};
use crate::client::Client;
use crate::context::Context;
use crate::error::CliError;
use crate::load::outcome::Ending;
use crate::load::{LoadSpec, once};

/// What an emergency does, beside going back.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The longest wait for the old version.
    pub(super) timeout: Duration,
    /// Asked for a 2xx answer; without it, the instances' own readiness counts.
    pub(super) url: Option<LoadSpec>,
    /// How often the service is checked before it counts as bad.
    pub(super) tries: u32,
    /// The time between two tries.
    pub(super) interval: Duration,
}

/// Carries it out.
pub(super) async fn run(
    context: &Context,
    client: &Client,
    target: &Target,
    plan: &Plan,
    decision: &Decision,
) -> Result<(), CliError> {
    let objects = Objects::fetch(client, target).await?;
    let change = verbs::emergency(&objects, decision)?;
    let workload = &objects.workload;
    let mut steps = Steps::new(context);
    carry_out(context, client, workload, &change).await?;
    steps.done(
        "stop what is under way",
        Ok("nothing holds the way back".to_owned()),
    )?;
    steps.done("go back", Ok(change.done.clone()))?;
    let outcome = match restored(client, workload, plan.timeout).await {
        Ok(what) => {
            steps.done("wait for the old version", Ok(what))?;
            let checked = checked(client, target, plan).await;
            steps.done("check the service", checked)
        }
        Err(why) => steps.done("wait for the old version", Err(why)),
    };
    // People are told of a failure too, all the more so.
    let failure = outcome.as_ref().err().map(ToString::to_string);
    let told = tell(client, workload, decision, &change.done, failure.as_deref()).await;
    let told = steps.done("tell people", told);
    outcome.and(told)
}

/// The steps as they are done.
struct Steps<'a> {
    context: &'a Context,
    done: u32,
    since: Instant,
}

impl<'a> Steps<'a> {
    fn new(context: &'a Context) -> Self {
        Self {
            context,
            done: 0,
            since: Instant::now(),
        }
    }

    /// Tells how a step ended; the time is that since the one before it.
    fn done(&mut self, what: &str, outcome: Result<String, String>) -> Result<(), CliError> {
        self.done += 1;
        let took = self.since.elapsed();
        self.since = Instant::now();
        let line = |word: &str, said: &dyn fmt::Display| {
            let (number, seconds) = (self.done, took.as_secs_f64());
            format!("{number}/5 {what}: {word} after {seconds:.2} s ({said})")
        };
        match outcome {
            Ok(said) => Ok(self.context.printer.result(line("done", &said))?),
            Err(why) => {
                self.context.printer.result(line("FAILED", &why))?;
                Err(CliError::failed(format!("{what}: {why}"))
                    .hint("manual intervention is needed; what served before still does"))
            }
        }
    }
}

/// Waits until the users are on what is now wanted.
async fn restored(client: &Client, workload: &Workload, limit: Duration) -> Result<String, String> {
    let mut follower = Follower::start(client, workload);
    let mut last = "nothing is known of it".to_owned();
    let wait = async {
        loop {
            let moment = follower.next().await.map_err(|error| error.to_string())?;
            let objects = match moment {
                Moment::Here(objects) => objects,
                Moment::Gone => return Err("it was deleted".to_owned()),
                Moment::Trouble(_) => continue,
            };
            let standing = Standing::of(&objects.workload);
            if standing.health == Health::Healthy && !standing.stale {
                let desired = objects.workload.desired();
                return Ok(format!("{desired} instances of it serve"));
            }
            last = standing
                .message
                .unwrap_or_else(|| standing.health.word().to_owned());
        }
    };
    match tokio::time::timeout(limit, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("not within {} s: {last}", limit.as_secs())),
    }
}

/// Whether the service is well, at one of the tries.
async fn checked(client: &Client, target: &Target, plan: &Plan) -> Result<String, String> {
    let mut last = String::new();
    for number in 1..=plan.tries.max(1) {
        if number > 1 {
            tokio::time::sleep(plan.interval).await;
        }
        let answer = match &plan.url {
            Some(url) => answers(url).await,
            None => is_ready(client, target).await,
        };
        match answer {
            Ok(said) => return Ok(format!("{said}, at try {number} of {}", plan.tries)),
            Err(why) => last = why,
        }
    }
    Err(format!("{last}, {} times", plan.tries))
}

async fn answers(url: &LoadSpec) -> Result<String, String> {
    match once(url.clone()).await.map_err(|error| error.to_string())? {
        Ending::Answer(answer) if (200..300).contains(&answer.status) => {
            Ok(format!("{} answers {}", url.path, answer.status))
        }
        Ending::Answer(answer) => Err(format!("{} answers {}", url.path, answer.status)),
        Ending::ConnectError { why } | Ending::Broken { why } => Err(why),
        Ending::Timeout => Err("no answer in time".to_owned()),
    }
}

async fn is_ready(client: &Client, target: &Target) -> Result<String, String> {
    let workload = Workload::fetch(client, target)
        .await
        .map_err(|error| error.to_string())?;
    let standing = Standing::of(&workload);
    if standing.health == Health::Healthy {
        Ok(format!("{} of its instances are ready", workload.desired()))
    } else {
        Err(standing
            .message
            .unwrap_or_else(|| standing.health.word().to_owned()))
    }
}

/// Leaves an Event on the workload, for those who watch and for the record.
async fn tell(
    client: &Client,
    workload: &Workload,
    decision: &Decision,
    done: &str,
    failure: Option<&str>,
) -> Result<String, String> {
    let now = Timestamp::now();
    let metadata = workload.metadata();
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let by = if decision.by.is_empty() {
        "somebody"
    } else {
        &decision.by
    };
    let mut message = format!("emergency rollback by {by}: {done}");
    if !decision.why.is_empty() {
        message = format!("{message}; {}", decision.why);
    }
    let reason = match failure {
        None => "EmergencyRollback",
        Some(why) => {
            message = format!("{message}; manual intervention is needed: {why}");
            "EmergencyRollbackFailed"
        }
    };
    let at = format!("{now:.0}");
    let (api_version, kind) = workload.api();
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": format!("{}.", workload.name()), "namespace": namespace},
        "involvedObject": {
            "apiVersion": api_version, "kind": kind, "name": workload.name(), "namespace": namespace,
            "uid": metadata.uid, "resourceVersion": metadata.resource_version,
        },
        "type": "Warning", "reason": reason, "message": message, "count": 1,
        "firstTimestamp": at, "lastTimestamp": at, "source": {"component": "serin-cli"},
    });
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let written = client.create(&path, &event).await;
    written
        .map(|_| format!("event {reason}"))
        .map_err(|error| error.to_string())
}
