//! Objects from manifests, and settings, for the tests of this crate.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::names::ObjectName;
use crate::objects::{Objects, trim_pod};
use crate::proxy::Settings;
use crate::table::{Backend, PortRef};

/// Reads manifests of the kinds that the gateway knows. What is not given is in namespace `default`.
pub(crate) fn objects(manifests: &str) -> Objects {
    let mut objects = Objects::default();
    for document in manifests.split("---\n") {
        let value: Value = serde_saphyr::from_str(document).unwrap();
        if value.is_null() {
            continue;
        }
        let kind = value["kind"].as_str().unwrap().to_owned();
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or("default");
        let name = ObjectName::new(namespace, value["metadata"]["name"].as_str().unwrap());
        match kind.as_str() {
            "Service" => drop(objects.services.insert(name, typed(value))),
            "EndpointSlice" => drop(objects.slices.insert(name, typed(value))),
            "Ingress" => drop(objects.ingresses.insert(name, typed(value))),
            "GatewayClass" => drop(objects.classes.insert(name, typed(value))),
            "Gateway" => drop(objects.gateways.insert(name, typed(value))),
            "Namespace" => drop(objects.namespaces.insert(name, typed(value))),
            "HTTPRoute" => drop(objects.routes.insert(name, typed(value))),
            "Secret" => drop(objects.secrets.insert(name, typed(value))),
            "ReferenceGrant" => drop(objects.grants.insert(name, typed(value))),
            "VirtualService" => drop(objects.virtual_services.insert(name, typed(value))),
            "DestinationRule" => drop(objects.destination_rules.insert(name, typed(value))),
            "Pod" => {
                let mut pod = typed(value);
                trim_pod(&mut pod);
                objects.pods.insert(name, pod);
            }
            other => panic!("kind {other}"),
        }
    }
    objects
}

fn typed<K: DeserializeOwned>(mut value: Value) -> K {
    let map = value.as_object_mut().unwrap();
    let kind = map["kind"].as_str().unwrap().to_owned();
    let api = match kind.as_str() {
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Ingress" => "networking.k8s.io/v1",
        "HTTPRoute" | "Gateway" | "GatewayClass" => "gateway.networking.k8s.io/v1",
        "ReferenceGrant" => "gateway.networking.k8s.io/v1beta1",
        "VirtualService" | "DestinationRule" => "networking.istio.io/v1",
        _ => "v1",
    };
    map.insert("apiVersion".into(), api.into());
    serde_json::from_value(value).unwrap()
}

/// `NAME:PORT*WEIGHT`.
pub(crate) fn shown_backend(backend: &Backend) -> String {
    let port = match &backend.port {
        PortRef::Number(number) => number.to_string(),
        PortRef::Name(name) => name.clone(),
        PortRef::First => "first".into(),
    };
    let subset = backend.subset.iter().map(|subset| format!("/{subset}"));
    let subset: String = subset.collect();
    let name = &backend.service.name;
    format!("{name}{subset}:{port}*{}", backend.weight)
}

/// A gateway over plain HTTP that is patient.
pub(crate) fn settings() -> Settings {
    Settings {
        hold: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(2),
        head_timeout: Duration::from_secs(60),
        client_idle: Duration::from_secs(60),
        max_held: 100,
        proxy_protocol: false,
        trusted_hops: 0,
        writes_forwarded: false,
        https_port: None,
        redirects_all: false,
        observers: Arc::default(),
        trace_share: None,
        body_idle: Duration::from_secs(20),
        rest_after: Duration::from_secs(20),
        max_connections: 1_000,
        sync_until: None,
    }
}
