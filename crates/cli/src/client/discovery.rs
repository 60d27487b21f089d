//! Which kinds the server has: the words a person uses for them, and their paths.

use serde_json::Value;

use super::{Client, ClientError, escape};

/// Asks for all groups in one answer; older servers give the plain list, which has a longer way.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
     application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
/// Names farther than this from what was written are no suggestion.
const NEAR: f64 = 0.75;

/// One kind of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    /// The group; empty for the core.
    pub(crate) group: String,
    /// The version.
    pub(crate) version: String,
    /// The kind, `Deployment`.
    pub(crate) kind: String,
    /// The name in paths, `deployments`.
    pub(crate) plural: String,
    /// `deployment`.
    pub(crate) singular: String,
    /// `deploy`.
    pub(crate) short_names: Vec<String>,
    /// Words that stand for it among others, such as `all`.
    pub(crate) categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
}

impl Resource {
    /// A kind that is known without asking.
    pub(crate) fn known(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
        }
    }

    /// `deployment.apps`, as kubectl writes it.
    pub(crate) fn type_name(&self) -> String {
        let singular = self.kind.to_lowercase();
        if self.group.is_empty() {
            singular
        } else {
            format!("{singular}.{}", self.group)
        }
    }

    /// The path of all objects: of one namespace, or of all with `None`.
    pub(crate) fn list_path(&self, namespace: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// The path of one object.
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.list_path(Some(namespace)), escape(name))
    }

    fn answers_to(&self, word: &str) -> bool {
        let mut words = word.splitn(2, '.');
        let name = words.next().unwrap_or_default();
        let by_name = name == self.plural
            || name == self.singular
            || name == self.kind.to_lowercase()
            || self.short_names.iter().any(|short| short == name);
        by_name
            && words.next().is_none_or(|suffix| {
                suffix == self.group || suffix == format!("{}.{}", self.version, self.group)
            })
    }
}

/// Every kind of a server, in the server's order of preference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    resources: Vec<Resource>,
}

impl Catalog {
    /// These kinds.
    #[cfg(test)]
    pub(crate) fn of(resources: Vec<Resource>) -> Self {
        Self { resources }
    }

    /// Asks the server.
    pub(crate) async fn load(client: &Client) -> Result<Self, ClientError> {
        let mut resources = Vec::new();
        for root in ["/api", "/apis"] {
            let answer = client.get_as(root, AGGREGATED).await?.object;
            if answer.get("kind").and_then(Value::as_str) == Some("APIGroupDiscoveryList") {
                resources.extend(aggregated(&answer));
                continue;
            }
            for (group, version) in plain_versions(&answer) {
                let path = if group.is_empty() {
                    format!("/api/{version}")
                } else {
                    format!("/apis/{group}/{version}")
                };
                let list = client.get(&path).await?;
                resources.extend(plain(&group, &version, &list));
            }
        }
        Ok(Self { resources })
    }

    /// The kind for a word: plural, singular, kind or short name, each with a group behind a dot if there are several.
    pub(crate) fn by_word(&self, word: &str) -> Option<&Resource> {
        let word = word.to_lowercase();
        self.resources.iter().find(|r| r.answers_to(&word))
    }

    /// The kinds of a word that stands for several, such as `all`.
    pub(crate) fn by_category(&self, word: &str) -> Vec<&Resource> {
        let in_category = |r: &&Resource| r.categories.iter().any(|category| category == word);
        self.resources.iter().filter(in_category).collect()
    }

    /// The kind of an object.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.resources
            .iter()
            .find(|r| r.group == group && r.version == version && r.kind == kind)
    }

    /// The kind whose name is nearest to a word that none has.
    pub(crate) fn nearest(&self, word: &str) -> Option<&str> {
        let word = word.to_lowercase();
        self.resources
            .iter()
            .flat_map(|r| [r.plural.as_str(), r.singular.as_str()])
            .map(|name| (strsim::jaro_winkler(&word, name), name))
            .filter(|(near, _)| *near >= NEAR)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name)
    }
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    items(value, key)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The kinds of an `APIGroupDiscoveryList`.
fn aggregated(list: &Value) -> Vec<Resource> {
    let mut found = Vec::new();
    for group in items(list, "items") {
        let name = group
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        for version in items(group, "versions") {
            for resource in items(version, "resources") {
                found.push(Resource {
                    group: name.to_owned(),
                    version: text(version, "version"),
                    kind: text(resource.get("responseKind").unwrap_or(&Value::Null), "kind"),
                    plural: text(resource, "resource"),
                    singular: text(resource, "singularResource"),
                    short_names: texts(resource, "shortNames"),
                    categories: texts(resource, "categories"),
                    namespaced: text(resource, "scope") == "Namespaced",
                });
            }
        }
    }
    found
}

/// Groups and versions of an `APIVersions` or an `APIGroupList`, the preferred version of each group alone.
fn plain_versions(answer: &Value) -> Vec<(String, String)> {
    let core = texts(answer, "versions")
        .into_iter()
        .map(|version| (String::new(), version));
    let groups = items(answer, "groups").iter().filter_map(|group| {
        let version = group.pointer("/preferredVersion/version")?.as_str()?;
        Some((text(group, "name"), version.to_owned()))
    });
    core.chain(groups).collect()
}

/// The kinds of an `APIResourceList`, without subresources.
fn plain(group: &str, version: &str, list: &Value) -> Vec<Resource> {
    items(list, "resources")
        .iter()
        .filter(|resource| !text(resource, "name").contains('/'))
        .map(|resource| Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(resource, "kind"),
            plural: text(resource, "name"),
            singular: text(resource, "singularName"),
            short_names: texts(resource, "shortNames"),
            categories: texts(resource, "categories"),
            namespaced: resource.get("namespaced") == Some(&Value::Bool(true)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalog() -> Catalog {
        let list = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced",
                 "singularResource": "deployment", "shortNames": ["deploy"]}]}]},
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                {"resource": "namespaces", "responseKind": {"kind": "Namespace"}, "scope": "Cluster",
                 "singularResource": "namespace", "shortNames": ["ns"]}]}]}]});
        Catalog {
            resources: aggregated(&list),
        }
    }

    #[test]
    fn every_word_of_a_kind_finds_it() {
        let catalog = catalog();
        for word in [
            "deploy",
            "Deployment",
            "deployments",
            "deployments.apps",
            "deployments.v1.apps",
        ] {
            let found = catalog.by_word(word).map(Resource::type_name);
            assert_eq!(found.as_deref(), Some("deployment.apps"), "{word}");
        }
        assert_eq!(catalog.by_word("deployments.extensions"), None);
        assert_eq!(catalog.nearest("deploymnets"), Some("deployments"));
        assert_eq!(catalog.nearest("zebra"), None);
    }

    #[test]
    fn paths_follow_group_and_scope() {
        let catalog = catalog();
        let deployment = catalog.by_kind("apps/v1", "Deployment").unwrap();
        assert_eq!(
            deployment.path("shop", "web"),
            "/apis/apps/v1/namespaces/shop/deployments/web"
        );
        assert_eq!(deployment.list_path(None), "/apis/apps/v1/deployments");
        let namespace = catalog.by_word("ns").unwrap();
        assert_eq!(namespace.path("shop", "prod"), "/api/v1/namespaces/prod");
    }

    #[test]
    fn the_plain_list_gives_the_same() {
        let list = json!({"resources": [
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "shortNames": ["po"]},
            {"name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod"}]});
        let found = plain("", "v1", &list);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].type_name(), "pod");
        let versions = json!({"groups": [{"name": "apps", "preferredVersion": {"version": "v1"}}]});
        assert_eq!(plain_versions(&versions), [("apps".into(), "v1".into())]);
    }
}
