//! `serin apply`: makes the objects of manifests so, by server-side apply.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde_json::Value;

use crate::client::{Catalog, Client, ClientError, FIELD_MANAGER, PatchKind, Resource};
use crate::context::Context;
use crate::error::CliError;
use crate::sources::{self, Found};

/// How long a definition may take until its kind is served, and how often it is looked.
const DEFINED_DEADLINE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A file, a directory of manifests, or - for stdin; may be given several times
    #[arg(
        short = 'f',
        long = "filename",
        required = true,
        value_name = "FILE|DIR|-"
    )]
    files: Vec<PathBuf>,
    /// Let the server check everything, and keep nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An object with the kind under which the server has it.
pub(crate) struct Located<'a> {
    /// The kind.
    pub(crate) resource: &'a Resource,
    /// Where it is, in the server.
    pub(crate) path: String,
    /// `deployment.apps/web`.
    pub(crate) reference: String,
    /// The object.
    pub(crate) object: Value,
    /// The warnings that have been told of it.
    warned: Vec<String>,
}

/// Applies every object; a refused one does not keep the others from being applied.
pub(crate) async fn run(context: &Context, args: ApplyArgs) -> Result<(), CliError> {
    let found = sources::read(context.printer, &args.files)?;
    let client = context.client().await?;
    let catalog = Catalog::load(&client).await?;
    let mut refused = 0;
    let (definitions, found) = if args.dry_run {
        (Vec::new(), found)
    } else {
        definitions_first(found, &catalog)
    };
    let catalog = if definitions.is_empty() {
        catalog
    } else {
        let wanted = kinds_of(&found);
        let definitions = locate(context, &client, &catalog, definitions)?;
        refused += apply_all(context, &client, &definitions, false).await?;
        served(&client, &wanted).await?
    };
    let objects = locate(context, &client, &catalog, found)?;
    refused += apply_all(context, &client, &objects, args.dry_run).await?;
    match refused {
        0 => Ok(()),
        1 => Err(CliError::failed("1 object was refused")),
        many => Err(CliError::failed(format!("{many} objects were refused"))),
    }
}

/// Applies objects in their order; answers how many were refused.
async fn apply_all(
    context: &Context,
    client: &Client,
    objects: &[Located<'_>],
    dry_run: bool,
) -> Result<usize, CliError> {
    let mut refused = 0;
    for located in objects {
        match attempt(context, client, located, dry_run).await {
            Ok(Attempt { outcome, .. }) => {
                let note = if dry_run { " (dry run)" } else { "" };
                let line = format!("{} {}{note}", located.reference, outcome.word());
                context.printer.result(line)?;
            }
            Err(ClientError::Refused(status)) => {
                refused += 1;
                let why = ClientError::Refused(status);
                context
                    .printer
                    .error(format!("{}: {why}", located.reference));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(refused)
}

/// The definitions that install kinds of the other objects, and the rest. None goes first when that would not be enough: then
/// nothing is to be done at all.
fn definitions_first(found: Vec<Found>, catalog: &Catalog) -> (Vec<Found>, Vec<Found>) {
    let all = kinds_of(&found);
    let missing: Vec<_> = all
        .iter()
        .filter(|(api_version, kind)| catalog.by_kind(api_version, kind).is_none())
        .collect();
    let is_needed = |f: &Found| missing.iter().any(|kind| installs(&f.object, kind));
    let is_coming = |kind: &(String, String)| found.iter().any(|f| installs(&f.object, kind));
    if !missing.iter().all(|kind| is_coming(kind)) {
        return (Vec::new(), found);
    }
    found.into_iter().partition(is_needed)
}

/// The apiVersion and the kind of each.
fn kinds_of(found: &[Found]) -> Vec<(String, String)> {
    let text = |found: &Found, field: &str| {
        let value = found.object.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let kinds = found
        .iter()
        .map(|f| (text(f, "apiVersion"), text(f, "kind")));
    kinds.collect()
}

/// Whether an object is the definition of this kind.
fn installs(object: &Value, (api_version, kind): &(String, String)) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let versions = object.pointer("/spec/versions").and_then(Value::as_array);
    let mut versions = versions.into_iter().flatten();
    let group = text("/spec/group").unwrap_or_default();
    text("/kind") == Some("CustomResourceDefinition")
        && text("/spec/names/kind") == Some(kind)
        && versions.any(|version| {
            let name = version["name"].as_str().unwrap_or_default();
            version["served"] == true && *api_version == format!("{group}/{name}")
        })
}

/// The kinds of the server once it serves all that are wanted.
async fn served(client: &Client, wanted: &[(String, String)]) -> Result<Catalog, CliError> {
    let until = tokio::time::Instant::now() + DEFINED_DEADLINE;
    loop {
        let catalog = Catalog::load(client).await?;
        let missing = wanted.iter().find(|(v, k)| catalog.by_kind(v, k).is_none());
        let Some((api_version, kind)) = missing else {
            return Ok(catalog);
        };
        if tokio::time::Instant::now() >= until {
            return Err(CliError::failed(format!(
                "the server does not serve {kind} in {api_version} although its definition is applied: see `serin get crds`"
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Finds the kind and the path of every object, in the order in which they are applied.
pub(crate) fn locate<'a>(
    context: &Context,
    client: &Client,
    catalog: &'a Catalog,
    found: Vec<Found>,
) -> Result<Vec<Located<'a>>, CliError> {
    let mut located = Vec::new();
    for Found {
        mut object,
        source,
        warned,
    } in found
    {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("");
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let name = text("/metadata/name").to_owned();
        let Some(resource) = catalog.by_kind(api_version, kind) else {
            return Err(CliError::failed(format!(
                "{source}: the server has no kind {kind} in {api_version}: nothing was done"
            )));
        };
        let own = text("/metadata/namespace").to_owned();
        let namespace = match (&context.namespace, own.as_str()) {
            (Some(asked), own) if resource.namespaced && !own.is_empty() && own != asked => {
                return Err(CliError::failed(format!(
                    "{source}: {kind} {name:?} is of namespace {own:?}, but --namespace is {asked:?}: nothing was done"
                )));
            }
            (_, "") => client.namespace().to_owned(),
            (_, own) => own.to_owned(),
        };
        if resource.namespaced
            && let Some(Value::Object(metadata)) = object.get_mut("metadata")
        {
            metadata.insert("namespace".to_owned(), namespace.clone().into());
        }
        located.push(Located {
            resource,
            path: resource.path(&namespace, &name),
            reference: format!("{}/{name}", resource.type_name()),
            object,
            warned,
        });
    }
    located.sort_by_key(|located| turn(&located.resource.kind));
    Ok(located)
}

/// When a kind is applied: first what others live in, at last what starts something, so that it finds what it names.
fn turn(kind: &str) -> u8 {
    match kind {
        "Namespace" | "CustomResourceDefinition" => 0,
        "Rollout" | "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job"
        | "CronJob" | "Pod" | "Experiment" | "AnalysisRun" => 2,
        _ => 1,
    }
}

/// What an apply did, or would do.
pub(crate) struct Attempt {
    /// The object as it was; `None` when there was none.
    pub(crate) before: Option<Value>,
    /// The object as it is, or would be.
    pub(crate) after: Value,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// Applies one object, or lets the server say what that would do.
pub(crate) async fn attempt(
    context: &Context,
    client: &Client,
    located: &Located<'_>,
    dry_run: bool,
) -> Result<Attempt, ClientError> {
    let before = match client.get(&located.path).await {
        Ok(object) => Some(object),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let mut query = format!("?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict");
    if dry_run {
        query.push_str("&dryRun=All");
    }
    let answer = client
        .patch(&located.path, PatchKind::Apply, &query, &located.object)
        .await?;
    let fresh = answer.warnings.iter();
    for warning in fresh.filter(|warning| !told_already(warning, &located.warned)) {
        context
            .printer
            .warning(format!("{}: {warning}", located.reference));
    }
    Ok(Attempt {
        outcome: outcome(before.as_ref(), &answer.object, answer.status),
        before,
        after: answer.object,
    })
}

/// Whether a warning of the server is one that was told with its place in the manifest. A header has spaces for line ends.
fn told_already(warning: &str, warned: &[String]) -> bool {
    let in_header = |text: &String| text.replace(char::is_control, " ");
    warned.iter().any(|told| in_header(told) == warning)
}

/// A write that changes nothing does not make a new version; a dry run never does, so what it would make is compared.
fn outcome(before: Option<&Value>, after: &Value, status: StatusCode) -> Outcome {
    let Some(before) = before else {
        return Outcome::Created;
    };
    if status == StatusCode::CREATED {
        return Outcome::Created;
    }
    if meaning(before) == meaning(after) {
        Outcome::Unchanged
    } else {
        Outcome::Configured
    }
}

/// The object without what the server notes down about writes.
fn meaning(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for noted in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(noted);
        }
    }
    // A status that changed between the two looks is not this write's doing.
    if let Value::Object(fields) = &mut object {
        fields.remove("status");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_warning_is_told_once() {
        let warned = ["spec.x: is not\ncarried out".to_owned()];
        assert!(told_already("spec.x: is not carried out", &warned));
        assert!(!told_already("spec.y: is not carried out", &warned));
        assert!(!told_already("spec.x: is not carried out", &[]));
    }

    #[test]
    fn definitions_go_first_where_that_is_enough() {
        let found = |object: Value| Found {
            object,
            source: "app.yaml:1".to_owned(),
            warned: Vec::new(),
        };
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "names": {"kind": "Widget"},
            "versions": [{"name": "v1", "served": true}, {"name": "v2", "served": false}]}});
        let widget = |version: &str| json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget"});
        let split = |objects: &[Value]| {
            let all = objects.iter().cloned().map(found).collect();
            let catalog = Catalog::of(vec![Resource::known(
                "apiextensions.k8s.io",
                "v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
            )]);
            let (first, rest) = definitions_first(all, &catalog);
            (first.len(), rest.len())
        };
        assert_eq!(split(&[widget("v1"), definition.clone()]), (1, 1));
        // A version that is not served, or a kind that nobody installs: nothing is done.
        assert_eq!(split(&[widget("v2"), definition.clone()]), (0, 2));
        assert_eq!(
            split(&[widget("v1"), definition.clone(), json!({"kind": "X"})]),
            (0, 3)
        );
        // A definition by itself is as any other object.
        assert_eq!(split(&[definition]), (0, 1));
    }

    #[test]
    fn what_became_of_an_object() {
        let object = |version: &str, replicas: i32, available: i32| {
            json!({"metadata": {"name": "web", "resourceVersion": version},
                   "spec": {"replicas": replicas}, "status": {"available": available}})
        };
        let before = object("1", 3, 0);
        let check = |before, after: &Value| outcome(before, after, StatusCode::OK);
        assert_eq!(check(None, &before), Outcome::Created);
        assert_eq!(check(Some(&before), &object("2", 3, 3)), Outcome::Unchanged);
        assert_eq!(
            check(Some(&before), &object("1", 4, 0)),
            Outcome::Configured
        );
    }
}
