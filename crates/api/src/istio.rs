//! `VirtualService` and `DestinationRule` of `networking.istio.io`: where requests go, and how a Service is split into subsets.
//!
//! Written here because no bindings follow the client that we use. One object is served as v1, v1beta1 and v1alpha3. The fields
//! are those of Istio 1.26; what a mesh alone can do (TCP, TLS by SNI, delegates) is kept as it is and told as not carried out.

mod destination_rule;
mod virtual_service;

pub use destination_rule::*;
pub use virtual_service::*;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "networking.istio.io";

/// What the gateway says of a VirtualService or a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioStatus {
    /// `Accepted` and `ResolvedRefs`; their `observedGeneration` is the generation that is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation that the conditions are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl IstioStatus {
    /// The generation that our gateway serves; `None` before it has taken the object.
    fn acknowledged_generation(&self) -> Option<i64> {
        let accepted = crate::conditions::get(&self.conditions, "Accepted")?;
        let serves = accepted.status == "True";
        serves.then_some(accepted.observed_generation).flatten()
    }
}

impl VirtualService {
    /// The generation that our gateway serves; `None` before it has taken the object.
    pub fn acknowledged_generation(&self) -> Option<i64> {
        self.status.as_ref()?.acknowledged_generation()
    }
}

impl DestinationRule {
    /// The generation that our gateway serves; `None` before it has taken the object.
    pub fn acknowledged_generation(&self) -> Option<i64> {
        self.status.as_ref()?.acknowledged_generation()
    }
}
