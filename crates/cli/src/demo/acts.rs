//! The acts of the demo, one after the other.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use serin_api::rollout::{Rollout, RolloutPhase};
use tokio::time::timeout;

use super::DemoArgs;
use super::manifests::{self, CART_HOST, SHOP_HOST};
use super::stage::Stage;
use super::verdict::{Facts, Release, StepFacts, TakenBack};
use crate::client::FIELD_MANAGER;
use crate::error::CliError;
use crate::load::{Load, LoadSpec, Observer};
use crate::printer::Printer;

/// How long one release may take at the usual speed before the demo gives up.
const RELEASE_DEADLINE: Duration = Duration::from_secs(90);
/// How long it is looked on after a release.
const LINGER: Duration = Duration::from_millis(1500);
/// The share of v3's answers that are errors.
const BAD: f64 = 0.05;

pub(super) async fn all(
    args: &DemoArgs,
    stage: &Stage,
    printer: Printer,
) -> Result<Facts, CliError> {
    stage.apply(&manifests::first(args)).await?;
    let mut shop = App::new("shop", stage, args, printer)?;
    let mut cart = App::new("cart", stage, args, printer)?;
    shop.until("v1 to serve", |seen| seen.healthy).await?;
    cart.until("v1 to serve", |seen| seen.healthy).await?;
    let idle_mib = stage.memory_mib();
    let shop_load = start_load(stage, SHOP_HOST, f64::from(args.rate)).await?;
    let cart_load = start_load(stage, CART_HOST, f64::from(args.rate) / 2.0).await?;
    printer.progress(format!(
        "v1 serves; {} and {} requests per second from now on",
        args.rate,
        args.rate / 2
    ));
    tokio::time::sleep(args.paced(LINGER)).await;

    let good = shop.canary("v2", 0.0, &shop_load.observer()).await?;
    let bad = shop.canary("v3", BAD, &shop_load.observer()).await?;
    let switch = cart.switch("v2", &cart_load.observer()).await?;
    tokio::time::sleep(args.paced(LINGER)).await;
    let undo = cart.switch("v1", &cart_load.observer()).await?;
    tokio::time::sleep(args.paced(LINGER)).await;

    let loaded_mib = stage.memory_mib();
    let (shop_report, cart_report) = (shop_load.stop().await, cart_load.stop().await);
    let took_back = TakenBack::from(&shop_report, "v3", bad.aborted);
    Ok(Facts::new(
        vec![good, bad, switch, undo],
        took_back,
        &shop_report,
        &cart_report,
        idle_mib,
        loaded_mib,
    ))
}

async fn start_load(stage: &Stage, host: &str, rate: f64) -> Result<Load, CliError> {
    let failed = |error: &dyn std::fmt::Display| {
        CliError::failed(format!("the load cannot be made: {error}"))
    };
    let mut spec =
        LoadSpec::new(&format!("http://{}/", stage.gateway()?)).map_err(|e| failed(&e))?;
    spec.host = host.to_owned();
    spec.rate_per_second = rate;
    spec.connections = 32;
    spec.expect_version = true;
    Load::start(spec).await.map_err(|e| failed(&e))
}

/// A Rollout of the demo, watched.
struct App<'a> {
    name: &'static str,
    args: &'a DemoArgs,
    printer: Printer,
    api: Api<Rollout>,
    changes: Pin<Box<dyn Stream<Item = Result<Rollout, watcher::Error>> + Send>>,
    /// What was seen of the Rollout before this generation says nothing of the release that was asked for.
    since_generation: i64,
}

/// What of a Rollout the demo looks at.
struct Seen {
    generation_is_observed: bool,
    /// The users are on what is wanted.
    healthy: bool,
    aborted: bool,
    /// The share of the canary as it is served; `None` while that is not sure.
    served_percent: Option<i32>,
    message: String,
}

impl Seen {
    fn of(rollout: &Rollout) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        let observed = status
            .observed_generation
            .as_deref()
            .and_then(|g| g.parse().ok());
        let weights = status.canary.weights.filter(|w| w.verified == Some(true));
        Self {
            generation_is_observed: observed == rollout.metadata.generation,
            healthy: observed == rollout.metadata.generation
                && status.phase == Some(RolloutPhase::Healthy),
            aborted: status.abort,
            served_percent: weights.map(|w| w.canary.weight),
            message: status.message.unwrap_or_else(|| "nothing".to_owned()),
        }
    }
}

impl<'a> App<'a> {
    fn new(
        name: &'static str,
        stage: &Stage,
        args: &'a DemoArgs,
        printer: Printer,
    ) -> Result<Self, CliError> {
        let api: Api<Rollout> = Api::namespaced(stage.client()?.kube().clone(), "default");
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let changes = watcher(api.clone(), only)
            .default_backoff()
            .applied_objects()
            .boxed();
        Ok(Self {
            name,
            args,
            printer,
            api,
            changes,
            since_generation: 1,
        })
    }

    /// Waits until a condition holds of the Rollout.
    async fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&Seen) -> bool,
    ) -> Result<(), CliError> {
        let deadline = RELEASE_DEADLINE.max(self.args.paced(RELEASE_DEADLINE));
        let mut last = "nothing was seen of it".to_owned();
        let since = self.since_generation;
        let wait = async {
            while let Some(change) = self.changes.next().await {
                let Ok(rollout) = change else { continue };
                if rollout.metadata.generation < Some(since) {
                    continue;
                }
                let seen = Seen::of(&rollout);
                if holds(&seen) {
                    return true;
                }
                last = seen.message;
            }
            false
        };
        match timeout(deadline, wait).await {
            Ok(true) => Ok(()),
            _ => Err(CliError::failed(format!(
                "{} waited too long for {what}: {last}",
                self.name
            ))),
        }
    }

    /// Asks for another version.
    async fn release(&mut self, version: &str, error_rate: f64) -> Result<(), CliError> {
        let patch: Value =
            json!({"spec": {"template": manifests::version(self.name, version, error_rate)}});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let answer = self
            .api
            .patch(self.name, &params, &Patch::Merge(&patch))
            .await;
        let changed = answer
            .map_err(|e| CliError::failed(format!("{} cannot be changed: {e}", self.name)))?;
        self.since_generation = changed.metadata.generation.unwrap_or(0);
        Ok(())
    }

    /// Releases a version in steps, and looks on until the users are on it or it is taken back.
    async fn canary(
        &mut self,
        version: &str,
        error_rate: f64,
        load: &Observer,
    ) -> Result<Release, CliError> {
        let told = if error_rate > 0.0 {
            format!(", which answers {} % errors", error_rate * 100.0)
        } else {
            String::new()
        };
        self.printer
            .progress(format!("\nreleasing {} {version}{told}", self.name));
        let first_segment = load.report().segments.len();
        load.mark(&format!("{version} 0"));
        let began = load.elapsed();
        self.release(version, error_rate).await?;
        let (mut at, mut aborted, mut asked) = (0, false, vec![0]);
        let (printer, load_seen, name) = (self.printer, load.clone(), version.to_owned());
        let until = |seen: &Seen| {
            if !seen.generation_is_observed {
                return false;
            }
            if seen.aborted && !aborted {
                aborted = true;
                printer.progress(format!("  {name} is {}", seen.message));
            }
            if let Some(percent) = seen
                .served_percent
                .filter(|percent| *percent != at && !aborted && !seen.healthy)
            {
                at = percent;
                asked.push(percent);
                load_seen.mark(&format!("{name} {percent}"));
                printer.progress(format!("  {name} has {percent} %"));
            }
            seen.healthy || (seen.aborted && seen.served_percent == Some(0))
        };
        self.until(&format!("{version} to be released or taken back"), until)
            .await?;
        load.mark(&format!("after {version}"));
        let seconds = (load.elapsed() - began).as_secs_f64();
        self.printer.progress(format!(
            "  {} after {seconds:.1} s",
            if aborted {
                "all is back on the version before"
            } else {
                "all users are on it"
            }
        ));
        tokio::time::sleep(self.args.paced(LINGER)).await;
        let report = load.report();
        let segments = report.segments.get(first_segment..).unwrap_or_default();
        let steps = segments
            .iter()
            .zip(&asked)
            .map(|(segment, percent)| StepFacts::from(segment, version, *percent))
            .collect();
        Ok(Release {
            name: format!("{} {version} canary", self.name),
            version: version.to_owned(),
            steps,
            aborted,
            seconds,
        })
    }

    /// Switches all users at once, and looks on until the switch is served.
    async fn switch(&mut self, version: &str, load: &Observer) -> Result<Release, CliError> {
        self.printer
            .progress(format!("\nswitching {} to {version}", self.name));
        let began = load.elapsed();
        self.release(version, 0.0).await?;
        self.until(&format!("the switch to {version}"), |seen| seen.healthy)
            .await?;
        let segment = load.report().segments.len();
        load.mark(&format!("{version} 100"));
        let seconds = (load.elapsed() - began).as_secs_f64();
        self.printer
            .progress(format!("  all users are on it after {seconds:.1} s"));
        tokio::time::sleep(self.args.paced(LINGER)).await;
        let report = load.report();
        let steps = report.segments.get(segment..).unwrap_or_default();
        let steps = steps
            .iter()
            .map(|segment| StepFacts::from(segment, version, 100))
            .collect();
        Ok(Release {
            name: format!("{} {version} switch", self.name),
            version: version.to_owned(),
            steps,
            aborted: false,
            seconds,
        })
    }
}
