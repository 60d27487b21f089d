//! The default ClusterAnalysisTemplates: a release can be watched with nothing written and nothing installed.
//!
//! A person may change or delete them. Which ones were ever made is kept in a ConfigMap, so that none comes back and none is
//! written over.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use serin_api::analysis::ClusterAnalysisTemplate;
use serin_api::keys::FIELD_MANAGER;
use serin_api::manifest;

const TEXT: &str = include_str!("../../../examples/analysis/templates.yaml");
/// Where it is kept which ones were made.
const RECORD: (&str, &str) = ("kube-system", "serin-analysis-templates");

/// The templates, as they are written.
pub(crate) fn manifests() -> impl Iterator<Item = Value> {
    let parsed = manifest::parse(TEXT, "templates.yaml");
    parsed.objects.into_iter().map(|document| document.object)
}

/// Makes those that were never made.
pub(crate) async fn install(client: Client) -> Result<(), kube::Error> {
    let (namespace, name) = RECORD;
    let records: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let record = records.get_opt(name).await?;
    let made = record.as_ref().and_then(|r| r.data.clone());
    let made = made.unwrap_or_default();
    let api: Api<ClusterAnalysisTemplate> = Api::all(client);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let mut fresh = BTreeMap::new();
    for object in manifests() {
        let template: ClusterAnalysisTemplate =
            serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        let name = template.name_any();
        if made.contains_key(&name) {
            continue;
        }
        match api.create(&params, &template).await {
            Ok(_) => {}
            // It is a person's own.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        fresh.insert(name, env!("CARGO_PKG_VERSION").to_owned());
    }
    if fresh.is_empty() {
        return Ok(());
    }
    if record.is_some() {
        let patch = Patch::Merge(json!({"data": fresh}));
        records.patch(name, &PatchParams::default(), &patch).await?;
        return Ok(());
    }
    let record = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(fresh),
        ..ConfigMap::default()
    };
    records.create(&params, &record).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::{DeleteParams, ListParams};
    use serin_apiserver::{ApiServer, Store};

    #[tokio::test]
    async fn a_changed_or_deleted_template_stays_as_a_person_left_it() {
        let server = ApiServer::new(Store::in_memory());
        let client = Client::new(server.router(), "default");
        let api: Api<ClusterAnalysisTemplate> = Api::all(client.clone());
        install(client.clone()).await.unwrap();
        let names = || async {
            let all = api.list(&ListParams::default()).await.unwrap();
            all.into_iter().map(|t| t.name_any()).collect::<Vec<_>>()
        };
        let all = ["serin-error-ratio", "serin-p95", "serin-p95-growth"];
        assert_eq!(names().await, all);
        let args = json!({"spec": {"args": [{"name": "max-seconds", "value": "2.0"}]}});
        api.patch("serin-p95", &PatchParams::default(), &Patch::Merge(args))
            .await
            .unwrap();
        api.delete("serin-error-ratio", &DeleteParams::default())
            .await
            .unwrap();
        install(client.clone()).await.unwrap();
        assert_eq!(names().await, all[1..]);
        let changed = api.get("serin-p95").await.unwrap();
        assert_eq!(changed.spec.args[0].value.as_deref(), Some("2.0"));
    }
}
