//! `serin plan`: what applying manifests would change, and how each release would go, before anything is done.
//!
//! The server checks the objects as for an apply (a dry run); the engine then runs the release against a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};
use serin_api::analysis::AnalysisTemplateSpec;
use serin_api::keys::label;
use serin_api::release::ReleasePolicySpec;
use serin_api::rollout::Rollout;
use serin_api::units::human_duration;
use serin_engine::rollout::group::{Member, Standing, membership};
use serin_engine::rollout::{Forecast, InGroup, Outset, Stage, forecast, govern, in_step};

use crate::apply::{self, Attempt, Located};
use crate::client::{Catalog, Client, ClientError, Resource};
use crate::columns;
use crate::context::Context;
use crate::error::CliError;
use crate::rollout::typed;
use crate::sources;

/// What to foretell.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A file, a directory of manifests, or - for stdin
    #[arg(required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Print it in a form for programs: json
    #[arg(short, long, value_name = "FORM", hide_possible_values = true)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
}

/// What would become of one object.
struct Planned {
    reference: String,
    outcome: &'static str,
    /// How its release would go; `None` for what is not released in steps.
    release: Option<Result<Forecast, Vec<String>>>,
    /// The release group that it belongs to.
    group: Option<InStep>,
}

/// The release group of a Rollout.
#[derive(Clone, Debug)]
struct InStep {
    /// The Rollout itself.
    own: Member,
    /// With the namespace.
    group: (String, String),
    /// The other members, as the server knows them.
    others: Vec<Member>,
}

/// Foretells; fails when a release could not be carried out.
pub(crate) async fn run(context: &Context, args: PlanArgs) -> Result<(), CliError> {
    let planned = planned(context, &args).await?;
    match args.output {
        Some(Output::Json) => {
            let all: Vec<_> = planned.iter().map(Planned::json).collect();
            let text = serde_json::to_string_pretty(&all).unwrap_or_default();
            context.printer.result(text)?;
        }
        None => {
            for one in &planned {
                context.printer.result(one.text().trim_end())?;
            }
        }
    }
    let stuck = planned
        .iter()
        .filter(|one| matches!(one.release, Some(Err(_))));
    match stuck.count() {
        0 => Ok(()),
        1 => Err(CliError::failed("1 release could not be carried out")),
        many => Err(CliError::failed(format!(
            "{many} releases could not be carried out"
        ))),
    }
}

async fn planned(context: &Context, args: &PlanArgs) -> Result<Vec<Planned>, CliError> {
    let found = sources::read(context.printer, &args.files)?;
    let client = context.client().await?;
    let catalog = Catalog::load(&client).await?;
    let objects = apply::locate(context, &client, &catalog, found)?;
    let mut planned = Vec::new();
    for located in &objects {
        let attempt = apply::attempt(context, &client, located, true).await?;
        let mut one = Planned {
            reference: located.reference.clone(),
            outcome: attempt.outcome.word(),
            release: None,
            group: None,
        };
        if located.resource.kind == "Rollout" {
            let wanted: Rollout = typed(attempt.after.clone())?;
            let around = Around {
                client: &client,
                objects: &objects,
                rollout: &wanted,
            };
            one.group = around.group().await?;
            one.release = Some(release(&around, &attempt).await?);
        }
        planned.push(one);
    }
    wait_for_each_other(&mut planned);
    Ok(planned)
}

/// Puts the waits of the members of each group for each other into their releases.
fn wait_for_each_other(planned: &mut [Planned]) {
    let groups: BTreeSet<_> = planned
        .iter()
        .filter_map(|one| Some(one.group.as_ref()?.group.clone()))
        .collect();
    for group in groups {
        let of_group = |one: &&mut Planned| one.group.as_ref().is_some_and(|g| g.group == group);
        let mut members = Vec::new();
        let mut others: BTreeMap<String, Member> = BTreeMap::new();
        for one in planned.iter_mut().filter(of_group) {
            let (Some(told), Some(release)) = (&one.group, &mut one.release) else {
                continue;
            };
            for other in &told.others {
                others.entry(other.name.clone()).or_insert(other.clone());
            }
            let standing = match release {
                Ok(forecast) if !forecast.stages.is_empty() => {
                    members.push(InGroup {
                        name: &told.own.name,
                        release: told.own.release.as_deref(),
                        forecast,
                    });
                    continue;
                }
                Ok(_) => Standing::Settled,
                Err(_) => Standing::Invalid,
            };
            let own = Member {
                standing,
                ..told.own.clone()
            };
            others.insert(own.name.clone(), own);
        }
        others.retain(|name, _| !members.iter().any(|member| member.name == name));
        in_step(&mut members, &others.into_values().collect::<Vec<_>>());
    }
}

/// How the release of a Rollout would go, with what the server has and what the manifests bring.
async fn release(
    around: &Around<'_>,
    attempt: &Attempt,
) -> Result<Result<Forecast, Vec<String>>, CliError> {
    let wanted = around.rollout;
    let stable = match &attempt.before {
        Some(before) => around.stable(typed(before.clone())?).await?,
        None => None,
    };
    let policies = around
        .specs::<ReleasePolicySpec>("serin.dev", "ReleasePolicy")
        .await?;
    let namespaced = ("argoproj.io", "AnalysisTemplate");
    let of_cluster = ("argoproj.io", "ClusterAnalysisTemplate");
    let mut templates = BTreeMap::new();
    for (is_cluster, (group, kind)) in [(false, namespaced), (true, of_cluster)] {
        let specs = around.specs::<AnalysisTemplateSpec>(group, kind).await?;
        templates.extend(
            specs
                .into_iter()
                .map(|(name, spec)| ((is_cluster, name), spec)),
        );
    }
    let named = policies.iter().map(|(name, spec)| (name.as_str(), spec));
    Ok(forecast(&Outset {
        name: wanted.metadata.name.as_deref().unwrap_or_default(),
        stable,
        wanted: &wanted.spec,
        object: attempt.after.clone(),
        governed: govern(&wanted.metadata, named),
        templates,
        now: Timestamp::now(),
    }))
}

/// What is around a Rollout: in the server, and in the manifests that come with it.
struct Around<'a> {
    client: &'a Client,
    objects: &'a [Located<'a>],
    rollout: &'a Rollout,
}

impl Around<'_> {
    fn namespace(&self) -> &str {
        self.rollout
            .metadata
            .namespace
            .as_deref()
            .unwrap_or("default")
    }

    /// The template that the users are on.
    async fn stable(&self, before: Rollout) -> Result<Option<PodTemplateSpec>, CliError> {
        let hash = before.status.and_then(|status| status.stable_rs);
        let Some(hash) = hash else { return Ok(None) };
        let sets = Resource::known("apps", "v1", "ReplicaSet", "replicasets");
        let selector = format!(
            "?labelSelector={}%3D{hash}",
            label::ROLLOUT_POD_TEMPLATE_HASH
        );
        let path = sets.list_path(Some(self.namespace())) + &selector;
        let list = self.client.get(&path).await?;
        let template = list.pointer("/items/0/spec/template").cloned();
        Ok(template.map(typed).transpose()?)
    }

    /// The release group of the Rollout.
    async fn group(&self) -> Result<Option<InStep>, CliError> {
        let Some((group, _)) = membership(&self.rollout.metadata) else {
            return Ok(None);
        };
        let own = Member::of(self.rollout);
        let mut others = Vec::new();
        for object in self
            .objects_of("argoproj.io", "Rollout")
            .await?
            .into_values()
        {
            let other: Rollout = typed(object)?;
            let of_group = membership(&other.metadata).is_some_and(|(name, _)| name == group);
            if of_group && other.metadata.name != self.rollout.metadata.name {
                others.push(Member::of(&other));
            }
        }
        Ok(Some(InStep {
            own,
            group: (self.namespace().to_owned(), group),
            others,
        }))
    }

    /// The specs of a kind by name.
    async fn specs<T: serde::de::DeserializeOwned>(
        &self,
        group: &str,
        kind: &str,
    ) -> Result<BTreeMap<String, T>, CliError> {
        let objects = self.objects_of(group, kind).await?.into_iter();
        let specs = objects.map(|(name, object)| {
            let spec = object.get("spec").cloned().unwrap_or_default();
            let spec: T = serde_json::from_value(spec).map_err(ClientError::malformed)?;
            Ok((name, spec))
        });
        specs.collect()
    }

    /// The objects of a kind by name; those of the manifests go before those of the server.
    async fn objects_of(
        &self,
        group: &str,
        kind: &str,
    ) -> Result<BTreeMap<String, Value>, CliError> {
        let plural = match kind {
            "ReleasePolicy" => "releasepolicies".to_owned(),
            other => format!("{}s", other.to_lowercase()),
        };
        let resource = Resource::known(group, "v1alpha1", kind, &plural);
        let namespace = (kind != "ClusterAnalysisTemplate").then(|| self.namespace());
        let listed = match self.client.get(&resource.list_path(namespace)).await {
            Ok(list) => list,
            Err(error) if error.is_not_found() => Value::Null,
            Err(error) => return Err(error.into()),
        };
        let stored = listed
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let brought = self.objects.iter().filter(|located| {
            let of = located
                .object
                .pointer("/metadata/namespace")
                .and_then(Value::as_str);
            located.resource.kind == kind && (namespace.is_none() || of == namespace)
        });
        let all = stored.chain(brought.map(|located| &located.object));
        let named = all.map(|object| {
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            (name.unwrap_or_default().to_owned(), object.clone())
        });
        Ok(named.collect())
    }
}

impl Planned {
    fn text(&self) -> String {
        let head = format!("{} {}\n", self.reference, self.outcome);
        match &self.release {
            None => head,
            Some(Err(problems)) => head + "  cannot be released: " + &problems.join("; ") + "\n",
            Some(Ok(release)) if release.stages.is_empty() => {
                head + "  no release: the users are on this version already\n"
            }
            Some(Ok(release)) => head + &table(release) + &self.in_step() + &trade_off(release),
        }
    }

    /// With whom it is released.
    fn in_step(&self) -> String {
        let Some(InStep {
            group: (_, name),
            others,
            ..
        }) = &self.group
        else {
            return String::new();
        };
        if others.is_empty() {
            return format!("  alone in release group {name:?}\n");
        }
        let others: Vec<_> = others.iter().map(|other| other.name.as_str()).collect();
        format!(
            "  step by step with {}, of release group {name:?}: old instances stay until all have all users on the new ones\n",
            others.join(", ")
        )
    }

    fn json(&self) -> Value {
        let group = self.group.as_ref();
        let group = group.map(|told| {
            let others: Vec<_> = told.others.iter().map(|other| &other.name).collect();
            json!({"name": told.group.1, "others": others})
        });
        let release = match &self.release {
            None => Value::Null,
            Some(Err(problems)) => json!({"problems": problems}),
            Some(Ok(release)) => json!({
                "shortestSeconds": release.shortest.as_secs(),
                "extraInstances": release.most_extra,
                "personsAsked": release.persons,
                "judgedAtPercent": judged_at(release),
                "stages": release.stages.iter().map(stage_json).collect::<Vec<_>>(),
            }),
        };
        json!({"object": self.reference, "outcome": self.outcome, "release": release, "group": group})
    }
}

fn stage_json(stage: &Stage) -> Value {
    let waits = stage
        .waits
        .iter()
        .map(|wait| json!({"for": wait.what, "seconds": wait.lasts.map(|lasts| lasts.as_secs())}));
    json!({
        "step": stage.step, "does": stage.what, "beginsSeconds": stage.begins.as_secs(),
        "oldInstances": stage.old, "newInstances": stage.new, "extraInstances": stage.extra,
        "sharePercent": stage.share_percent, "waits": waits.collect::<Vec<_>>(),
    })
}

fn table(release: &Forecast) -> String {
    let titles = [
        "  FROM",
        "STEP",
        "DOES",
        "OLD",
        "NEW",
        "EXTRA",
        "SHARE",
        "WAITS FOR",
    ];
    let rows = release.stages.iter().map(|stage| {
        let waits: Vec<_> = stage
            .waits
            .iter()
            .map(|wait| match wait.lasts {
                Some(lasts) if lasts.is_zero() => wait.what.clone(),
                Some(lasts) => format!("{} ({})", wait.what, human_duration(lasts)),
                None => format!("{} (a person)", wait.what),
            })
            .collect();
        vec![
            format!("  +{}", human_seconds(stage.begins)),
            stage
                .step
                .map_or_else(|| "-".to_owned(), |step| step.to_string()),
            stage.what.clone(),
            stage.old.to_string(),
            stage.new.to_string(),
            stage.extra.to_string(),
            format!("{} %", stage.share_percent),
            waits.join(", "),
        ]
    });
    columns::table(&titles, &rows.collect::<Vec<_>>())
}

fn human_seconds(duration: SignedDuration) -> String {
    if duration.is_zero() {
        "0s".to_owned()
    } else {
        human_duration(duration)
    }
}

/// What the release costs and risks, in one line.
fn trade_off(release: &Forecast) -> String {
    let judged = match judged_at(release) {
        Some(percent) => format!("first judged at {percent} % of the requests"),
        None => "judged by nothing and nobody before all requests are on it".to_owned(),
    };
    let counted = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    format!(
        "  at least {}, up to {}, {} of a person; {judged}\n",
        human_seconds(release.shortest),
        counted(
            usize::try_from(release.most_extra).unwrap_or(usize::MAX),
            "extra instance"
        ),
        counted(release.persons, "decision")
    )
}

/// The share of the requests that sees the new version when an analysis or a person first judges it.
fn judged_at(release: &Forecast) -> Option<u32> {
    let judged = |stage: &&Stage| {
        let mut waits = stage.waits.iter();
        waits.any(|wait| {
            wait.lasts.is_none() || ["an analysis", "an experiment"].contains(&wait.what.as_str())
        })
    };
    release
        .stages
        .iter()
        .find(judged)
        .map(|stage| stage.share_percent)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;
    use serin_engine::rollout::Governed;

    use super::*;

    fn foretold() -> Forecast {
        let steps = json!([{"setWeight": 20}, {"pause": {"duration": "10m"}}, {"setWeight": 50}, {"pause": {}}]);
        let spec = |version: &str| {
            let canary = json!({
                "stableService": "stable", "canaryService": "canary", "steps": steps,
                "trafficRouting": {"plugins": {"argoproj-labs/gatewayAPI": {"httpRoute": "web"}}},
            });
            let spec = json!({
                "replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"canary": canary},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": format!("web:{version}")}]},
                },
            });
            serde_json::from_value::<serin_api::rollout::RolloutSpec>(spec).unwrap()
        };
        forecast(&Outset {
            name: "web",
            stable: spec("1").template,
            wanted: &spec("2"),
            object: Value::Null,
            governed: Governed::default(),
            templates: BTreeMap::new(),
            now: Timestamp::UNIX_EPOCH,
        })
        .unwrap()
    }

    fn in_shop(own: &str, others: &[&str]) -> InStep {
        let member = |name: &str| Member {
            name: name.to_owned(),
            release: None,
            standing: Standing::Settled,
            taken_back_at: None,
        };
        InStep {
            own: member(own),
            group: ("default".to_owned(), "shop".to_owned()),
            others: others.iter().map(|name| member(name)).collect(),
        }
    }

    #[test]
    fn members_of_a_group_wait_for_each_other() {
        let mut planned = [("web", "cart"), ("cart", "web")].map(|(own, other)| Planned {
            reference: format!("rollout.argoproj.io/{own}"),
            outcome: "configured",
            release: Some(Ok(foretold())),
            group: Some(in_shop(own, &[other])),
        });
        // One of them does not pause at its second step.
        if let Some(Ok(quick)) = &mut planned[1].release {
            quick.stages[1].waits.clear();
            for stage in &mut quick.stages[2..] {
                stage.begins = SignedDuration::ZERO;
            }
            quick.shortest = SignedDuration::ZERO;
        }
        wait_for_each_other(&mut planned);
        expect![[r#"
            rollout.argoproj.io/cart configured
              FROM   STEP   DOES              OLD   NEW   EXTRA   SHARE   WAITS FOR
              +0s    1      set weight 20 %   5     1     1       20 %    web at step 1
              +0s    2      pause 10m         5     1     1       20 %    web at step 2
              +0s    3      set weight 50 %   5     3     3       50 %    web at step 3 (10m)
              +10m   4      pause             5     3     3       50 %    web at step 4, a pause step (a person)
              +10m   -      promotion         5     5     5       100 %   web after the last step
              step by step with web, of release group "shop": old instances stay until all have all users on the new ones
              at least 10m, up to 5 extra instances, 1 decision of a person; first judged at 50 % of the requests
        "#]].assert_eq(&planned[1].text());
    }

    #[test]
    fn a_plan_is_a_table_and_json() {
        let planned = |release| Planned {
            reference: "rollout.argoproj.io/web".into(),
            outcome: "configured",
            release: Some(release),
            group: Some(in_shop("web", &["cart", "orders"])),
        };
        let good = planned(Ok(foretold()));
        expect![[r#"
            rollout.argoproj.io/web configured
              FROM   STEP   DOES              OLD   NEW   EXTRA   SHARE   WAITS FOR
              +0s    1      set weight 20 %   5     1     1       20 %
              +0s    2      pause 10m         5     1     1       20 %    a pause (10m)
              +10m   3      set weight 50 %   5     3     3       50 %
              +10m   4      pause             5     3     3       50 %    a pause step (a person)
              +10m   -      promotion         5     5     5       100 %
              step by step with cart, orders, of release group "shop": old instances stay until all have all users on the new ones
              at least 10m, up to 5 extra instances, 1 decision of a person; first judged at 50 % of the requests
        "#]].assert_eq(&good.text());
        let json = good.json();
        assert_eq!(json["release"]["extraInstances"], 5);
        assert_eq!(
            json["release"]["stages"][1]["waits"][0],
            json!({"for": "a pause", "seconds": 600})
        );
        assert_eq!(json["release"]["personsAsked"], 1);
        let bad = planned(Err(vec!["AnalysisTemplate \"t\" not found".to_owned()]));
        expect![[r#"
            rollout.argoproj.io/web configured
              cannot be released: AnalysisTemplate "t" not found
        "#]]
        .assert_eq(&bad.text());
    }
}
