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

    fn rules(self, tls: Tls) -> Vec<Value> {
        match self {
            Self::Controllers => rights::of_controllers(),
            Self::Node => rights::of_node(),
            Self::Gateway => {
                let certificates =
                    (tls == Tls::Spoken).then(serin_gateway::rights::of_certificates);
                let rules = serin_gateway::rights::rules().into_iter();
                rules.chain(certificates).collect()
            }
        }
    }
}

/// Whether the gateway speaks TLS. Only then it uses certificates, and only then it may read Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Spoken,
    Absent,
}

/// Gives each part its role, in the place of what may have become of it.
pub(crate) async fn give_roles(client: &Client, tls: Tls) -> Result<(), kube::Error> {
    let each = Part::ALL.map(|part| give_role(client, part, tls));
    try_join_all(each).await.map(drop)
}

/// Gives one part its role.
pub(crate) async fn give_role(client: &Client, part: Part, tls: Tls) -> Result<(), kube::Error> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let name = part.name();
    let metadata = json!({"name": name, "labels": {"app.kubernetes.io/name": "serin"}});
    let role = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": part.rules(tls),
    });
    let binding = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": name}],
    });
    roles.patch(name, &params, &Patch::Apply(&role)).await?;
    bindings
        .patch(name, &params, &Patch::Apply(&binding))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serin_apiserver::{ApiServer, Store};

    use super::*;

    #[tokio::test]
    async fn the_gateway_may_read_secrets_only_while_it_speaks_tls() {
        let client = Client::new(ApiServer::new(Store::in_memory()).router(), "default");
        let roles: Api<ClusterRole> = Api::all(client.clone());
        let reads = async || {
            let role = roles.get(Part::Gateway.name()).await.unwrap();
            let resources = role.rules.unwrap().into_iter().filter_map(|r| r.resources);
            let all: Vec<String> = resources.flatten().collect();
            assert!(all.iter().any(|resource| resource == "services"));
            all.iter().any(|resource| resource == "secrets")
        };
        give_roles(&client, Tls::Absent).await.unwrap();
        assert!(!reads().await);
        give_role(&client, Part::Gateway, Tls::Spoken)
            .await
            .unwrap();
        assert!(reads().await);
        // The platform of before may have had a gateway with TLS.
        give_roles(&client, Tls::Absent).await.unwrap();
        assert!(!reads().await);
    }
}
