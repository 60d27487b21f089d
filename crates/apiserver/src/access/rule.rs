//! One rule of a role, and what it lets pass.

use serde::{Deserialize, Serialize};

use super::attributes::{Asked, Attributes, whole_name};

const ALL: &str = "*";

/// A rule: these verbs, on these resources or addresses. An empty list of names stands for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) non_resource_urls: Vec<String>,
}

impl Rule {
    pub(crate) fn allows(&self, attributes: &Attributes) -> bool {
        has(&self.verbs, &attributes.verb) && self.is_about(&attributes.asked)
    }

    fn is_about(&self, asked: &Asked) -> bool {
        match asked {
            Asked::Url(url) => self.non_resource_urls.iter().any(|u| url_covers(u, url)),
            Asked::Resource {
                group,
                resource,
                subresource,
                name,
                ..
            } => {
                let whole = whole_name(resource, subresource);
                let named = || {
                    self.resource_names
                        .iter()
                        .any(|n| n == name && !n.is_empty())
                };
                has(&self.api_groups, group)
                    && self.resources.iter().any(|r| resource_covers(r, &whole))
                    && (self.resource_names.is_empty() || named())
            }
        }
    }

    /// The rule in its smallest parts: one verb on one resource, perhaps of one name, or on one address. Answers only as many
    /// as `most` and one more.
    pub(super) fn parts(&self, most: usize) -> Vec<Rule> {
        let one = |text: &String| vec![text.clone()];
        let names: Vec<Vec<String>> = if self.resource_names.is_empty() {
            vec![Vec::new()]
        } else {
            self.resource_names.iter().map(one).collect()
        };
        let names = &names;
        let resources = self.verbs.iter().flat_map(move |verb| {
            self.api_groups.iter().flat_map(move |group| {
                self.resources.iter().flat_map(move |resource| {
                    names.iter().map(move |names| Rule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: names.clone(),
                        non_resource_urls: Vec::new(),
                    })
                })
            })
        });
        let urls = self.verbs.iter().flat_map(move |verb| {
            self.non_resource_urls.iter().map(move |url| Rule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Rule::default()
            })
        });
        resources.chain(urls).take(most + 1).collect()
    }

    /// Whether it gives all that `other` gives.
    pub(super) fn covers(&self, other: &Rule) -> bool {
        let all = |own: &[String], others: &[String]| others.iter().all(|o| has(own, o));
        let named = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other
                    .resource_names
                    .iter()
                    .all(|n| self.resource_names.contains(n)));
        let resource = |r: &String| self.resources.iter().any(|own| resource_covers(own, r));
        let url = |u: &String| self.non_resource_urls.iter().any(|own| url_covers(own, u));
        all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(resource)
            && other.non_resource_urls.iter().all(url)
            && named
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

/// `pods`, `pods/log`, `*/log` or `*`.
fn resource_covers(own: &str, wanted: &str) -> bool {
    let of_any = own.strip_prefix("*/").zip(wanted.split_once('/'));
    own == ALL || own == wanted || of_any.is_some_and(|(own, (_, wanted))| own == wanted)
}

/// `/healthz`, `/healthz/*` or `*`.
fn url_covers(own: &str, wanted: &str) -> bool {
    let below = own.strip_suffix('*');
    own == wanted || below.is_some_and(|start| wanted.starts_with(start))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(rule: Value) -> Rule {
        serde_json::from_value(rule).unwrap()
    }

    fn on(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes::on(verb, group, resource, name).part_of(resource)
    }

    #[test]
    fn resources() {
        let pods = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        let named = rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
        );
        let logs = rule(json!({"verbs": ["*"], "apiGroups": [""], "resources": ["*/log"]}));
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        let urls = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}));
        for (rule, asked, want) in [
            (&pods, on("get", "", "pods", ""), true),
            (&pods, on("get", "", "pods", "a"), true),
            (&pods, on("list", "", "pods", ""), false),
            (&pods, on("get", "apps", "pods", ""), false),
            (&pods, on("get", "", "pods/log", "a"), false),
            (&pods, on("get", "", "podsx", "a"), false),
            (&named, on("get", "", "pods", "a"), true),
            (&named, on("get", "", "pods", "b"), false),
            (&named, on("list", "", "pods", ""), false),
            (&logs, on("get", "", "pods/log", "a"), true),
            (&logs, on("get", "", "pods", "a"), false),
            (&all, on("any", "any", "thing/at-all", "a"), true),
        ] {
            assert_eq!(rule.allows(&asked), want, "{rule:?} {asked:?}");
        }
        for (url, want) in [
            ("/metrics", true),
            ("/metrics/x", false),
            ("/logs/x", true),
            ("/logs", false),
        ] {
            let asked = Attributes {
                verb: "get".into(),
                asked: Asked::Url(url.into()),
            };
            assert_eq!(urls.allows(&asked), want, "{url}");
            assert!(!all.allows(&asked), "{url}");
        }
    }

    #[test]
    fn covering() {
        let rule = |verbs: &[&str], resources: &[&str], names: &[&str]| {
            rule(
                json!({"verbs": verbs, "apiGroups": [""], "resources": resources, "resourceNames": names}),
            )
        };
        let read = rule(&["get", "list"], &["pods", "services"], &[]);
        assert!(read.covers(&rule(&["get"], &["pods"], &["a"])));
        assert!(!read.covers(&rule(&["get", "watch"], &["pods"], &[])));
        assert!(!read.covers(&rule(&["*"], &["pods"], &[])));
        assert!(!read.covers(&rule(&["get"], &["*"], &[])));
        assert!(!rule(&["get"], &["pods"], &["a"]).covers(&rule(&["get"], &["pods"], &[])));
        assert!(rule(&["*"], &["*"], &[]).covers(&read));
        assert!(rule(&["get"], &["*/log"], &[]).covers(&rule(&["get"], &["pods/log"], &[])));
    }

    #[test]
    fn parts_are_bounded() {
        let many = Rule {
            verbs: (0..1000).map(|n| n.to_string()).collect(),
            api_groups: (0..1000).map(|n| n.to_string()).collect(),
            resources: (0..1000).map(|n| n.to_string()).collect(),
            ..Rule::default()
        };
        assert_eq!(many.parts(10).len(), 11);
        assert_eq!(Rule::default().parts(10).len(), 0);
    }
}
