//! Who splits the requests of a canary: every router of the contract.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who splits the requests; several at once are set alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficRouting {
    /// Routes that steps may add, in order of precedence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_routes: Vec<ManagedRoute>,
    /// The sum of the weights; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_traffic_weight: Option<i32>,
    /// Istio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio: Option<IstioRouting>,
    /// Ingresses with the canary annotations of ingress-nginx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nginx: Option<NginxRouting>,
    /// AWS Application Load Balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alb: Option<serde_json::Value>,
    /// Service Mesh Interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smi: Option<serde_json::Value>,
    /// Ambassador.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ambassador: Option<AmbassadorRouting>,
    /// Traefik.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traefik: Option<TraefikRouting>,
    /// Apache APISIX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apisix: Option<ApisixRouting>,
    /// AWS App Mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_mesh: Option<serde_json::Value>,
    /// Plugins by name; `argoproj-labs/gatewayAPI` is built in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<String, serde_json::Value>,
}

/// A route that steps may add.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedRoute {
    /// The name.
    pub name: String,
}

/// Istio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioRouting {
    /// One VirtualService.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<IstioVirtualService>,
    /// Or several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub virtual_services: Vec<IstioVirtualService>,
    /// The subsets of the versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_rule: Option<IstioDestinationRule>,
}

/// A VirtualService and the routes in it that are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioVirtualService {
    /// The name.
    pub name: String,
    /// HTTP routes by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// TLS routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_routes: Vec<serde_json::Value>,
    /// TCP routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp_routes: Vec<serde_json::Value>,
}

/// The subsets of the versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioDestinationRule {
    /// The DestinationRule.
    pub name: String,
    /// The subset of the canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_subset_name: Option<String>,
    /// The subset of the stable version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_subset_name: Option<String>,
    /// Subsets of experiments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_subset_names: Vec<String>,
}

/// Ingresses with the canary annotations of ingress-nginx.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NginxRouting {
    /// The prefix of the annotations; `nginx.ingress.kubernetes.io` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation_prefix: Option<String>,
    /// The Ingress of the users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_ingress: Option<String>,
    /// Or several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stable_ingresses: Vec<String>,
    /// More annotations of the canary Ingress.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_ingress_annotations: BTreeMap<String, String>,
    /// More annotations of the canary Ingress, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub canary_ingress_annotations: BTreeMap<String, String>,
}

/// Ambassador.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AmbassadorRouting {
    /// The Mappings.
    pub mappings: Vec<String>,
}

/// Traefik.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TraefikRouting {
    /// The TraefikService.
    pub weighted_traefik_service_name: String,
}

/// Apache APISIX.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApisixRouting {
    /// The ApisixRoute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<ApisixRoute>,
}

/// The ApisixRoute and the rules in it that are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApisixRoute {
    /// The name.
    pub name: String,
    /// The rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}
