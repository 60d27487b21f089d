//! What is to be said of an object in its status.

use serde::{Deserialize, Serialize};
use serin_api::gateway_api::ParentReference;

/// What the gateway says of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteVerdict {
    /// The generation that the verdict is about.
    pub generation: i64,
    /// Whether the route, as of that generation, is served. If not, its last good rules still are.
    pub accepted: Verdict,
    /// Whether all of its Services were found.
    pub resolved: Verdict,
    /// What of it is left out, when it is served in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partly: Option<String>,
    /// Its parents that are ours; none of an object that has no parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentVerdict>,
}

/// What a parent says of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentVerdict {
    /// The parent, as the route names it.
    pub parent: ParentReference,
    /// Why it does not take the route; `None` when it does, and what holds for the route holds there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Verdict>,
}

/// What the gateway says of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassVerdict {
    /// The generation that the verdict is about.
    pub generation: i64,
    /// Whether Gateways of the class are served.
    pub accepted: Verdict,
}

/// What the gateway says of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayVerdict {
    /// The generation that the verdict is about.
    pub generation: i64,
    /// Whether any of it can be served.
    pub accepted: Verdict,
    /// Whether any of it is served.
    pub programmed: Verdict,
    /// One for each listener, in their order.
    pub listeners: Vec<ListenerVerdict>,
}

/// What the gateway says of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerVerdict {
    /// Its name.
    pub name: String,
    /// Whether HTTPRoutes may attach to it.
    pub takes_http_routes: bool,
    /// How many routes are attached.
    pub attached: i32,
    /// Whether it can be served.
    pub accepted: Verdict,
    /// Whether it is served.
    pub programmed: Verdict,
    /// Whether its certificates and the kinds of its routes are there.
    pub resolved: Verdict,
    /// Whether another listener of the Gateway is in its way.
    pub conflicted: Verdict,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it holds.
    pub ok: bool,
    /// One word of Gateway API: `Accepted`, `UnsupportedValue`, `ResolvedRefs`, `BackendNotFound` …
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub(crate) fn yes(reason: &str, message: &str) -> Self {
        Self {
            ok: true,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// It does not.
    pub(crate) fn no(reason: &str, message: String) -> Self {
        Self {
            ok: false,
            reason: reason.into(),
            message,
        }
    }
}
