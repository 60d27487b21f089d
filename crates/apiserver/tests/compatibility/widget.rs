//! The kind that the scenario installs, and a controller that owns a ConfigMap for each of its objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::scenario::NAMESPACE;

/// What holds a Widget until its controller has let it go.
pub(crate) const HOLD: &str = "compat.serin.dev/hold";
const MANAGER: &str = "widget-controller";

/// So many of something.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "compat.serin.dev",
    version = "v1",
    kind = "Widget",
    namespaced,
    status = "WidgetStatus",
    shortname = "cwd",
    scale(
        spec_replicas_path = ".spec.size",
        status_replicas_path = ".status.size"
    )
)]
pub(crate) struct WidgetSpec {
    pub(crate) size: i32,
    pub(crate) note: Option<String>,
}

/// What its controller made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WidgetStatus {
    pub(crate) size: i32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("the finalizer: {0}")]
    Finalizer(#[source] Box<finalizer::Error<Error>>),
}

/// Runs the controller until the handle is aborted.
pub(crate) fn start(client: Client) -> JoinHandle<()> {
    let widgets: Api<Widget> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let controller =
        Controller::new(widgets, watcher::Config::default()).owns(maps, watcher::Config::default());
    let run = controller.run(
        reconcile,
        |_, _, _| Action::requeue(Duration::from_millis(200)),
        Arc::new(client),
    );
    tokio::spawn(run.for_each(|_| std::future::ready(())))
}

async fn reconcile(widget: Arc<Widget>, client: Arc<Client>) -> Result<Action, Error> {
    let widgets: Api<Widget> = Api::namespaced((*client).clone(), NAMESPACE);
    finalizer(&widgets, HOLD, widget, |event| async {
        match event {
            Event::Apply(widget) => apply(&client, &widget).await,
            Event::Cleanup(_) => Ok(Action::await_change()),
        }
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

async fn apply(client: &Client, widget: &Widget) -> Result<Action, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(widget.name_any()),
            owner_references: widget.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "size".into(),
            widget.spec.size.to_string(),
        )])),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(MANAGER).force();
    maps.patch(&widget.name_any(), &params, &Patch::Apply(&map))
        .await?;
    let widgets: Api<Widget> = Api::namespaced(client.clone(), NAMESPACE);
    let status = json!({"apiVersion": Widget::api_version(&()), "kind": Widget::kind(&()), "status": {"size": widget.spec.size}});
    widgets
        .patch_status(&widget.name_any(), &params, &Patch::Apply(&status))
        .await?;
    Ok(Action::await_change())
}
