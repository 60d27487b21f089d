//! The objects that the table is lowered from, as the watches last saw them, without what nobody here reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use serin_api::istio::{DestinationRule, VirtualService};
use serin_api::keys::condition;

use crate::names::{ObjectName, Source, SourceKind};

/// One picture of the world. Every map is ordered by name, so the same objects always give the same table.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Services.
    pub services: BTreeMap<ObjectName, Service>,
    /// The endpoints of the Services.
    pub slices: BTreeMap<ObjectName, EndpointSlice>,
    /// Ingresses of every class.
    pub ingresses: BTreeMap<ObjectName, Ingress>,
    /// GatewayClasses of every controller, which are in no namespace: that of their names says nothing.
    pub classes: BTreeMap<ObjectName, GatewayClass>,
    /// Gateways of every class.
    pub gateways: BTreeMap<ObjectName, Gateway>,
    /// Namespaces, whose labels say which routes a listener takes; as with classes that of their names says nothing.
    pub namespaces: BTreeMap<ObjectName, Namespace>,
    /// HTTPRoutes.
    pub routes: BTreeMap<ObjectName, HTTPRoute>,
    /// What lets HTTPRoutes refer to Services, and Gateways to Secrets, of other namespaces.
    pub grants: BTreeMap<ObjectName, ReferenceGrant>,
    /// VirtualServices.
    pub virtual_services: BTreeMap<ObjectName, VirtualService>,
    /// DestinationRules.
    pub destination_rules: BTreeMap<ObjectName, DestinationRule>,
    /// Secrets of type `kubernetes.io/tls`.
    pub secrets: BTreeMap<ObjectName, TlsSecret>,
    /// Pods, of which only identity, labels and end are kept.
    pub pods: BTreeMap<ObjectName, PodLife>,
    /// The Leases of the gateways behind the same Service.
    pub replicas: BTreeMap<ObjectName, Lease>,
    /// Kinds of which nothing could be read. Their rules in the table before stay.
    pub unread: BTreeSet<SourceKind>,
    /// Objects of which nothing could be read. Their rules in the table before stay.
    pub unreadable: BTreeSet<Source>,
}

/// A Secret of type `kubernetes.io/tls`. Its certificate is read once, however often it is asked for.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSecret {
    /// The name and what comes with it.
    pub metadata: ObjectMeta,
    /// `tls.crt` and `tls.key`.
    pub data: Option<BTreeMap<String, ByteString>>,
    #[serde(skip)]
    pub(crate) read: OnceLock<Result<Pem, String>>,
}

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub(crate) struct Pem {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl TlsSecret {
    /// Certificate and key, if they can be used; else what is wrong with them.
    pub(crate) fn pem(&self) -> Result<&Pem, &str> {
        let read = || self.read();
        self.read.get_or_init(read).as_ref().map_err(String::as_str)
    }

    fn read(&self) -> Result<Pem, String> {
        let field = |name: &str| -> Result<&ByteString, String> {
            let data = self.data.as_ref().and_then(|data| data.get(name));
            data.ok_or_else(|| format!("the Secret has no {name}"))
        };
        let (chain, key) = (field("tls.crt")?, field("tls.key")?);
        crate::tls::certified(&chain.0, &key.0)?;
        let text = |bytes: &ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
        Ok(Pem {
            chain: text(chain),
            key: text(key),
        })
    }
}

impl std::fmt::Debug for TlsSecret {
    /// Without what is in it: what is printed ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.metadata.name;
        f.debug_struct("TlsSecret")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

impl kube::Resource for TlsSecret {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> std::borrow::Cow<'_, str> {
        "Secret".into()
    }
    fn group(_: &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }
    fn version(_: &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> std::borrow::Cow<'_, str> {
        "secrets".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the gateway must know of a Pod. It is deserialized straight from the Pod, so the rest is never held in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodLife {
    /// The name, the uid, the labels and the deletion time; annotations are dropped.
    pub metadata: ObjectMeta,
    /// Only the conditions; `None` when the Pod has no status yet.
    pub status: Option<PodLifeStatus>,
}

/// The part of a Pod's status that the gateway reads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodLifeStatus {
    /// The conditions, of which only ours is kept after [`trim`].
    pub conditions: Option<Vec<PodLifeCondition>>,
}

/// A condition of a Pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodLifeCondition {
    /// The type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

impl PodLife {
    /// The uid; empty when the object has none.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether the Pod was asked to go.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether the gateway has already said that nothing goes to this Pod any more.
    pub fn is_drained(&self) -> bool {
        let conditions = self.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == condition::DRAINED && c.status == "True")
    }
}

impl kube::Resource for PodLife {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> std::borrow::Cow<'_, str> {
        "Pod".into()
    }
    fn group(_: &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }
    fn version(_: &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> std::borrow::Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Drops what every object carries and nothing here reads.
pub fn trim(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.owner_references = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Drops all of a Pod but identity, labels, end and our own condition. An empty list of conditions stays a list, because a patch
/// that adds to it must know that it is there.
pub fn trim_pod(pod: &mut PodLife) {
    trim(&mut pod.metadata);
    pod.metadata.annotations = None;
    let conditions = pod.status.as_mut().and_then(|s| s.conditions.as_mut());
    if let Some(conditions) = conditions {
        conditions.retain(|c| c.type_ == condition::DRAINED);
        conditions.shrink_to_fit();
    }
}

/// When an object was made; an object without a time counts as the youngest.
pub(crate) fn created(meta: &ObjectMeta) -> Timestamp {
    match &meta.creation_timestamp {
        Some(Time(at)) => *at,
        None => Timestamp::MAX,
    }
}
