//! What a rollout command looks at: the workload, and everything that belongs to it.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serin_api::analysis::AnalysisRun;
use serin_api::keys::{annotation, label};
use serin_api::rollout::Rollout;

use crate::client::{Client, ClientError, Resource, escape};
use crate::error::CliError;

/// A workload that rolls out.
#[derive(Clone, Debug)]
pub(crate) enum Workload {
    /// Ours.
    Rollout(Box<Rollout>),
    /// Built in.
    Deployment(Box<Deployment>),
}

/// A workload with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    /// The workload.
    pub(crate) workload: Workload,
    /// Its ReplicaSets, perhaps with others of the same labels.
    pub(crate) replica_sets: Vec<ReplicaSet>,
    /// Their pods, perhaps with others.
    pub(crate) pods: Vec<Pod>,
    /// Its AnalysisRuns, perhaps with others.
    pub(crate) analysis_runs: Vec<AnalysisRun>,
}

/// What a person calls a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    kind: TargetKind,
    /// Its name.
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetKind {
    /// A Rollout, else a Deployment.
    Either,
    Rollout,
    Deployment,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (TargetKind::Either, text),
            Some((kind, name)) => match kind.to_lowercase().as_str() {
                "ro" | "rollout" | "rollouts" | "rollout.argoproj.io" | "rollouts.argoproj.io" => {
                    (TargetKind::Rollout, name)
                }
                "deploy" | "deployment" | "deployments" | "deployment.apps"
                | "deployments.apps" => (TargetKind::Deployment, name),
                _ => {
                    return Err(format!(
                        "{kind:?} does not roll out; use NAME, rollout/NAME or deploy/NAME"
                    ));
                }
            },
        };
        if name.is_empty() || name.contains('/') {
            return Err("the name is missing; use NAME, rollout/NAME or deploy/NAME".to_owned());
        }
        let name = name.to_owned();
        Ok(Self { kind, name })
    }
}

/// The kind `Rollout`.
pub(crate) fn rollouts() -> Resource {
    Resource::known("argoproj.io", "v1alpha1", "Rollout", "rollouts")
}

/// The kind `Deployment`.
pub(crate) fn deployments() -> Resource {
    Resource::known("apps", "v1", "Deployment", "deployments")
}

/// The kind `ReplicaSet`.
pub(crate) fn replica_sets() -> Resource {
    Resource::known("apps", "v1", "ReplicaSet", "replicasets")
}

/// The kind `Pod`.
pub(crate) fn pods() -> Resource {
    Resource::known("", "v1", "Pod", "pods")
}

/// The kind `AnalysisRun`.
pub(crate) fn analysis_runs() -> Resource {
    Resource::known("argoproj.io", "v1alpha1", "AnalysisRun", "analysisruns")
}

impl Workload {
    /// Asks for it.
    pub(crate) async fn fetch(client: &Client, target: &Target) -> Result<Self, CliError> {
        let namespace = client.namespace();
        if target.kind != TargetKind::Deployment {
            let found = client.get(&rollouts().path(namespace, &target.name)).await;
            match found {
                Ok(object) => return Ok(Self::Rollout(Box::new(typed(object)?))),
                Err(error) if error.is_not_found() && target.kind == TargetKind::Either => {}
                Err(error) if error.is_not_found() => return Err(absent(target, namespace)),
                Err(error) => return Err(error.into()),
            }
        }
        let path = deployments().path(namespace, &target.name);
        match client.get(&path).await {
            Ok(object) => Ok(Self::Deployment(Box::new(typed(object)?))),
            Err(error) if error.is_not_found() => Err(absent(target, namespace)),
            Err(error) => Err(error.into()),
        }
    }

    /// The path of the object.
    pub(crate) fn path(&self) -> String {
        let metadata = self.metadata();
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        self.resource().path(namespace, self.name())
    }

    /// The kind.
    pub(crate) fn resource(&self) -> Resource {
        match self {
            Self::Rollout(_) => rollouts(),
            Self::Deployment(_) => deployments(),
        }
    }

    /// Its `apiVersion` and `kind`.
    pub(crate) fn api(&self) -> (&'static str, &'static str) {
        match self {
            Self::Rollout(_) => ("argoproj.io/v1alpha1", "Rollout"),
            Self::Deployment(_) => ("apps/v1", "Deployment"),
        }
    }

    /// `rollout.argoproj.io/shop`.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.resource().type_name(), self.name())
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// The metadata.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Rollout(rollout) => &rollout.metadata,
            Self::Deployment(deployment) => &deployment.metadata,
        }
    }

    /// The pod template; `None` when the Rollout takes that of another workload.
    pub(crate) fn template(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::Rollout(rollout) => rollout.spec.template.as_ref(),
            Self::Deployment(deployment) => deployment.spec.as_ref().map(|spec| &spec.template),
        }
    }

    /// The selector of its pods.
    pub(crate) fn selector(&self) -> Option<&LabelSelector> {
        match self {
            Self::Rollout(rollout) => Some(&rollout.spec.selector),
            Self::Deployment(deployment) => deployment.spec.as_ref().map(|spec| &spec.selector),
        }
    }

    /// The instances that are wanted.
    pub(crate) fn desired(&self) -> i32 {
        match self {
            Self::Rollout(rollout) => rollout.spec.replicas,
            Self::Deployment(deployment) => deployment.spec.as_ref().and_then(|s| s.replicas),
        }
        .unwrap_or(1)
    }

    /// The annotation that holds the number of a revision of this kind.
    pub(crate) fn revision_key(&self) -> &'static str {
        match self {
            Self::Rollout(_) => annotation::ROLLOUT_REVISION,
            Self::Deployment(_) => annotation::DEPLOYMENT_REVISION,
        }
    }

    /// The label that holds the hash of a revision of this kind.
    pub(crate) fn hash_key(&self) -> &'static str {
        match self {
            Self::Rollout(_) => label::ROLLOUT_POD_TEMPLATE_HASH,
            Self::Deployment(_) => label::POD_TEMPLATE_HASH,
        }
    }

    /// Whether an object names this workload as its owner.
    pub(crate) fn owns(&self, metadata: &ObjectMeta) -> bool {
        owned_by(metadata, self.metadata())
    }
}

/// Whether `child` names `owner` as an owner.
pub(crate) fn owned_by(child: &ObjectMeta, owner: &ObjectMeta) -> bool {
    owner.uid.as_ref().is_some_and(|uid| {
        child
            .owner_references
            .iter()
            .flatten()
            .any(|reference| reference.uid == *uid)
    })
}

impl Objects {
    /// Asks for the workload and everything that belongs to it.
    pub(crate) async fn fetch(client: &Client, target: &Target) -> Result<Self, CliError> {
        let workload = Workload::fetch(client, target).await?;
        Self::around(client, workload).await
    }

    /// Asks for everything that belongs to a workload.
    pub(crate) async fn around(client: &Client, workload: Workload) -> Result<Self, CliError> {
        let selector = workload.selector().map(selector_text).unwrap_or_default();
        let replica_sets = list(client, &replica_sets(), &selector).await?;
        let pods = list(client, &pods(), &selector).await?;
        let analysis_runs = match &workload {
            Workload::Rollout(_) => list(client, &analysis_runs(), "").await?,
            Workload::Deployment(_) => Vec::new(),
        };
        Ok(Self {
            workload,
            replica_sets,
            pods,
            analysis_runs,
        })
    }

    /// The ReplicaSets of the workload, newest revision first; those without a number at the end.
    pub(crate) fn revisions(&self) -> Vec<(Option<i64>, &ReplicaSet)> {
        let mut found: Vec<_> = self
            .replica_sets
            .iter()
            .filter(|set| self.workload.owns(&set.metadata))
            .map(|set| (self.revision_of(&set.metadata), set))
            .collect();
        found.sort_by(|a, b| {
            b.0.cmp(&a.0)
                .then_with(|| a.1.metadata.name.cmp(&b.1.metadata.name))
        });
        found
    }

    /// The number of the revision that an object belongs to.
    pub(crate) fn revision_of(&self, metadata: &ObjectMeta) -> Option<i64> {
        let annotations = metadata.annotations.as_ref()?;
        annotations.get(self.workload.revision_key())?.parse().ok()
    }

    /// The hash of the revision that an object belongs to.
    pub(crate) fn hash_of<'a>(&self, metadata: &'a ObjectMeta) -> Option<&'a str> {
        let labels = metadata.labels.as_ref()?;
        labels.get(self.workload.hash_key()).map(String::as_str)
    }
}

fn absent(target: &Target, namespace: &str) -> CliError {
    let what = match target.kind {
        TargetKind::Either => "rollout or deployment",
        TargetKind::Rollout => "rollout",
        TargetKind::Deployment => "deployment",
    };
    CliError::failed(format!(
        "no {what} {:?} in namespace {namespace:?}",
        target.name
    ))
    .hint("`serin get rollouts,deployments -A` lists what there is")
}

/// Puts a type on an object.
pub(crate) fn typed<T: DeserializeOwned>(object: Value) -> Result<T, ClientError> {
    serde_json::from_value(object).map_err(|error| ClientError::Malformed {
        what: error.to_string(),
    })
}

/// All objects of a kind in the namespace with these labels; none where the server does not have the kind.
async fn list<T: DeserializeOwned>(
    client: &Client,
    resource: &Resource,
    selector: &str,
) -> Result<Vec<T>, ClientError> {
    let mut path = resource.list_path(Some(client.namespace()));
    if !selector.is_empty() {
        path.push_str("?labelSelector=");
        path.push_str(&escape(selector));
    }
    let mut list = match client.get(&path).await {
        Ok(list) => list,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else {
        return Ok(Vec::new());
    };
    items.into_iter().map(typed).collect()
}

/// A selector as a query carries it: `app=shop,tier in (web,api),!legacy`.
pub(crate) fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let mut parts: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    for expression in selector.match_expressions.iter().flatten() {
        let key = &expression.key;
        let values = expression.values.as_deref().unwrap_or_default().join(",");
        parts.push(match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_kind_or_none() {
        let kind = |text: &str| text.parse::<Target>().map(|target| target.kind);
        assert_eq!(kind("shop"), Ok(TargetKind::Either));
        assert_eq!(kind("ro/shop"), Ok(TargetKind::Rollout));
        assert_eq!(kind("Deployment.apps/shop"), Ok(TargetKind::Deployment));
        assert!(kind("pod/shop").unwrap_err().contains("does not roll out"));
        assert!(kind("rollout/").is_err());
        assert!(kind("rollout/a/b").is_err());
    }

    #[test]
    fn a_selector_reads_as_in_a_query() {
        let selector: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"app": "shop"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["web", "api"]},
                {"key": "legacy", "operator": "DoesNotExist"}]}))
        .unwrap();
        assert_eq!(
            selector_text(&selector),
            "app=shop,tier in (web,api),!legacy"
        );
    }
}
