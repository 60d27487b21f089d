//! The controller of EndpointSlices and Endpoints.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use serin_api::keys::label;
use serin_engine::endpoints::{self, Observed};

use crate::shell::{self, Cache, Error, Hub, Next, Reconcile};
use crate::workload::owner;

pub(crate) fn start(hub: &mut Hub, services: &Cache<Service>, pods: &Cache<Pod>) {
    let slices = hub.watch::<EndpointSlice>();
    let legacy = hub.watch::<Endpoints>();
    let controller = Controller {
        client: hub.client.clone(),
        pods: pods.clone(),
        slices: slices.clone(),
        legacy: legacy.clone(),
    };
    let (main, pods) = (services.clone(), pods.clone());
    hub.run(controller, services, move || {
        let candidates = main.clone();
        vec![
            pods.triggers(&main, move |pod| selecting(&candidates, &pod.metadata)),
            slices.triggers(&main, |slice| owner(&slice.metadata).into_iter().collect()),
            legacy.triggers(&main, |endpoints| {
                owner(&endpoints.metadata).into_iter().collect()
            }),
        ]
    });
}

/// The Services that select a pod.
fn selecting(services: &Cache<Service>, pod: &ObjectMeta) -> Vec<ObjectRef<Service>> {
    let labels = pod.labels.clone().unwrap_or_default();
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let own = services.select(namespace, |service| endpoints::selects(service, &labels));
    own.iter()
        .map(|service| ObjectRef::from_obj(&**service))
        .collect()
}

struct Controller {
    client: Client,
    pods: Cache<Pod>,
    slices: Cache<EndpointSlice>,
    legacy: Cache<Endpoints>,
}

impl Reconcile for Controller {
    type Object = Service;
    const NAME: &'static str = "endpoints";

    async fn reconcile(&self, service: Arc<Service>) -> Result<Next, Error> {
        let uid = service.metadata.uid.as_deref().unwrap_or_default();
        if !self.slices.is_current(uid) || !self.legacy.is_current(uid) {
            return Ok(Next::OwnWrites);
        }
        let Some(selector) = endpoints::selector(&service) else {
            return Ok(Next::Change);
        };
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let no_labels = std::collections::BTreeMap::new();
        let selected =
            |pod: &Pod| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&no_labels));
        let of_service = |slice: &EndpointSlice| {
            let labels = slice.metadata.labels.as_ref();
            labels
                .and_then(|l| l.get(label::SERVICE_NAME))
                .map(String::as_str)
                == Some(name)
        };
        let pods = self.pods.select(namespace, selected);
        let slices = self.slices.select(namespace, of_service);
        let observed = Observed {
            pods: pods.iter().map(|p| (**p).clone()).collect(),
            slices: slices.iter().map(|s| (**s).clone()).collect(),
            endpoints: self.legacy.get(namespace, name).map(|e| (*e).clone()),
        };
        self.apply(uid, namespace, endpoints::plan(&service, &observed))
            .await?;
        Ok(Next::Change)
    }
}

impl Controller {
    async fn apply(&self, uid: &str, namespace: &str, plan: endpoints::Plan) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        for slice in &plan.apply {
            let written = if slice.metadata.resource_version.is_some() {
                Some(shell::replace(&api, slice).await?)
            } else {
                shell::create(&api, slice).await?
            };
            if let Some(slice) = written {
                self.slices.wrote(uid, &slice);
            }
        }
        for stale in &plan.delete {
            if let Some(slice) = shell::delete(&api, &stale.name, &stale.uid).await? {
                self.slices.wrote(uid, &slice);
            }
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), namespace);
        if let Some(endpoints) = &plan.endpoints {
            let written = if endpoints.metadata.resource_version.is_some() {
                Some(shell::replace(&api, endpoints).await?)
            } else {
                shell::create(&api, endpoints).await?
            };
            if let Some(endpoints) = written {
                self.legacy.wrote(uid, &endpoints);
            }
        }
        Ok(())
    }
}
