//! Who the parts of a platform are to its API: each a user of its own, with a role that lets it do its work and nothing else.

use futures::future::try_join_all;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use serin_api::keys::FIELD_MANAGER;
use serin_apiserver::User;

use crate::rights;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A part that asks the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Controllers,
    Node,
    Gateway,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Controllers, Self::Node, Self::Gateway];

    /// Of its user, and of its role.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Controllers => "system:serin:controllers",
            Self::Node => "system:serin:node",
            Self::Gateway => "system:serin:gateway",
        }
    }

    /// Who it is.
    pub(crate) fn user(self) -> User {
        User {
            name: self.name().to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            ..User::default()
        }
    }

    fn rules(self) -> Vec<Value> {
        match self {
            Self::Controllers => rights::of_controllers(),
            Self::Node => rights::of_node(),
            // Where it speaks TLS is its own setting, which may change while this platform runs.
            Self::Gateway => {
                let mut rules = serin_gateway::rights::rules();
                rules.push(serin_gateway::rights::of_certificates());
                rules
            }
        }
    }
}

/// Gives each part its role, in the place of what may have become of it.
pub(crate) async fn give_roles(client: &Client) -> Result<(), kube::Error> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let each = Part::ALL.map(async |part| {
        let name = part.name();
        let metadata = json!({"name": name, "labels": {"app.kubernetes.io/name": "serin"}});
        let role = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": part.rules(),
        });
        let binding = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": name}],
        });
        roles.patch(name, &params, &Patch::Apply(&role)).await?;
        bindings.patch(name, &params, &Patch::Apply(&binding)).await?;
        Ok(())
    });
    try_join_all(each).await.map(drop)
}
