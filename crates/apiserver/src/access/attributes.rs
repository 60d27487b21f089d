//! What a request asks for, in the words in which rights are given.

use http::{Method, Uri};

use crate::options::Parameters;
use crate::server::split_path;
use crate::target;

/// A verb on something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Such as `list`.
    pub(crate) verb: String,
    pub(crate) asked: Asked,
}

/// What a verb is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Objects, or a part of one.
    Resource {
        /// Empty for the core group.
        group: String,
        /// Such as `pods`.
        resource: String,
        /// Such as `log`; empty for the object itself.
        subresource: String,
        /// Empty for all namespaces, and for objects of the cluster.
        namespace: String,
        /// Empty for all objects.
        name: String,
    },
    /// Any other address.
    Url(String),
}

impl Attributes {
    /// What a request asks for. An address that is not below that of a version stands for itself; one that is, and cannot be
    /// read, is of a resource without a name, which only who has rights on all of them may ask for.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        match split_path(uri.path()) {
            Some((group, version, rest)) if !version.is_empty() && !rest.is_empty() => {
                let unreadable = || Self::on(&plain_verb(method), group, "", "");
                of_objects(method, uri, group, rest).unwrap_or_else(unreadable)
            }
            _ => Self {
                verb: plain_verb(method),
                asked: Asked::Url(uri.path().to_owned()),
            },
        }
    }

    /// The same verb on a resource of the cluster.
    pub(crate) fn on(verb: &str, group: &str, resource: &str, name: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            asked: Asked::Resource {
                group: group.to_owned(),
                resource: resource.to_owned(),
                subresource: String::new(),
                namespace: String::new(),
                name: name.to_owned(),
            },
        }
    }

    /// The same in a namespace.
    #[must_use]
    pub(crate) fn within(mut self, inside: &str) -> Self {
        if let Asked::Resource { namespace, .. } = &mut self.asked {
            inside.clone_into(namespace);
        }
        self
    }

    /// The same on a part of the object; `whole` is `resource/part`.
    #[must_use]
    pub(crate) fn part_of(mut self, whole: &str) -> Self {
        if let Asked::Resource {
            resource,
            subresource,
            ..
        } = &mut self.asked
        {
            let (main, part) = whole.split_once('/').unwrap_or((whole, ""));
            main.clone_into(resource);
            part.clone_into(subresource);
        }
        self
    }

    /// The namespace that is asked for; empty when none is.
    pub(crate) fn namespace(&self) -> &str {
        match &self.asked {
            Asked::Resource { namespace, .. } => namespace,
            Asked::Url(_) => "",
        }
    }
}

/// A resource, or a part of one, as rights and refusals name it: `pods`, `pods/log`.
pub(crate) fn whole_name(resource: &str, subresource: &str) -> String {
    match subresource {
        "" => resource.to_owned(),
        part => format!("{resource}/{part}"),
    }
}

fn of_objects(method: &Method, uri: &Uri, group: &str, rest: &str) -> Option<Attributes> {
    let segments = target::segments(rest)?;
    let mut segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let watch = segments.first() == Some(&"watch");
    if watch {
        segments.remove(0);
    }
    let (namespace, resource, name, part) = target::split(group, &segments)?;
    let parameters = Parameters::parse(uri).unwrap_or_default();
    let main = part.is_none();
    let watch = main && *method == Method::GET && (watch || parameters.is_on("watch"));
    let verb = match *method {
        _ if matches!(part, Some("exec" | "attach" | "portforward" | "proxy")) => "create",
        _ if watch => "watch",
        Method::GET | Method::HEAD if name.is_some() => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_some() => "delete",
        Method::DELETE => "deletecollection",
        _ => return None,
    };
    // A namespace is in itself, so that rights within it can be rights on it.
    let is_namespace = group.is_empty() && resource == "namespaces";
    let namespace = if is_namespace { name } else { namespace };
    let name = name.map(str::to_owned);
    let name = name.or_else(|| selected_name(verb, &parameters));
    Some(Attributes {
        verb: verb.to_owned(),
        asked: Asked::Resource {
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: part.unwrap_or_default().to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name.unwrap_or_default(),
        },
    })
}

/// A list of the one object of a name may be asked by who has rights on that name only.
fn selected_name(verb: &str, parameters: &Parameters) -> Option<String> {
    if !matches!(verb, "list" | "watch" | "deletecollection") {
        return None;
    }
    let mut wanted = parameters.get("fieldSelector")?.split(',');
    let name = wanted.find_map(|w| w.strip_prefix("metadata.name="))?;
    let name = name.strip_prefix('=').unwrap_or(name);
    let is_plain = !name.is_empty() && !name.contains(['\\', '=']);
    is_plain.then(|| name.to_owned())
}

fn plain_verb(method: &Method) -> String {
    match *method {
        Method::HEAD => "get".to_owned(),
        _ => method.as_str().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn told(line: &str) -> String {
        let (method, uri) = line.split_once(' ').unwrap();
        let attributes = Attributes::of(&method.parse().unwrap(), &uri.parse().unwrap());
        let asked = match &attributes.asked {
            Asked::Resource {
                group,
                resource,
                subresource,
                namespace,
                name,
            } => format!("{group:?} {resource}/{subresource} in {namespace:?} named {name:?}"),
            Asked::Url(url) => format!("url {url}"),
        };
        format!("{line} -> {} {asked}", attributes.verb)
    }

    fn check(lines: &[&str], want: Expect) {
        let told: Vec<String> = lines.iter().map(|line| told(line)).collect();
        want.assert_eq(&told.join("\n"));
    }

    #[test]
    fn objects() {
        check(
            &[
                "GET /api/v1/pods",
                "HEAD /api/v1/namespaces/a/pods/p",
                "GET /api/v1/namespaces/a/pods?watch=true",
                "GET /api/v1/watch/namespaces/a/pods",
                "GET /api/v1/namespaces/a/pods/p?watch=1",
                "GET /api/v1/namespaces/a/pods/p/log?watch=1",
                "GET /api/v1/namespaces/a/pods?fieldSelector=status.phase%3DRunning%2Cmetadata.name%3Dp",
                "GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name!%3Dp",
                "POST /api/v1/namespaces/a/pods",
                "GET /api/v1/namespaces/a/pods/p/exec?command=sh",
                "PUT /apis/apps/v1/namespaces/a/deployments/d/scale",
                "PATCH /apis/apps/v1/namespaces/a/deployments/d%2Fe",
                "DELETE /apis/apps/v1/namespaces/a/deployments",
                "DELETE /apis/apps/v1/namespaces/a/deployments/d",
                "GET /api/v1/namespaces/a",
                "PUT /api/v1/namespaces/a/finalize",
                "POST /api/v1/namespaces",
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            ],
            expect![[r#"
                GET /api/v1/pods -> list "" pods/ in "" named ""
                HEAD /api/v1/namespaces/a/pods/p -> get "" pods/ in "a" named "p"
                GET /api/v1/namespaces/a/pods?watch=true -> watch "" pods/ in "a" named ""
                GET /api/v1/watch/namespaces/a/pods -> watch "" pods/ in "a" named ""
                GET /api/v1/namespaces/a/pods/p?watch=1 -> watch "" pods/ in "a" named "p"
                GET /api/v1/namespaces/a/pods/p/log?watch=1 -> get "" pods/log in "a" named "p"
                GET /api/v1/namespaces/a/pods?fieldSelector=status.phase%3DRunning%2Cmetadata.name%3Dp -> list "" pods/ in "a" named "p"
                GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name!%3Dp -> list "" pods/ in "a" named ""
                POST /api/v1/namespaces/a/pods -> create "" pods/ in "a" named ""
                GET /api/v1/namespaces/a/pods/p/exec?command=sh -> create "" pods/exec in "a" named "p"
                PUT /apis/apps/v1/namespaces/a/deployments/d/scale -> update "apps" deployments/scale in "a" named "d"
                PATCH /apis/apps/v1/namespaces/a/deployments/d%2Fe -> patch "apps" deployments/ in "a" named "d/e"
                DELETE /apis/apps/v1/namespaces/a/deployments -> deletecollection "apps" deployments/ in "a" named ""
                DELETE /apis/apps/v1/namespaces/a/deployments/d -> delete "apps" deployments/ in "a" named "d"
                GET /api/v1/namespaces/a -> get "" namespaces/ in "a" named "a"
                PUT /api/v1/namespaces/a/finalize -> update "" namespaces/finalize in "a" named "a"
                POST /api/v1/namespaces -> create "" namespaces/ in "" named ""
                POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews -> create "authorization.k8s.io" selfsubjectaccessreviews/ in "" named """#]],
        );
    }

    #[test]
    fn everything_else_stands_for_itself() {
        check(
            &[
                "GET /",
                "HEAD /healthz",
                "GET /api",
                "GET /api/v1",
                "GET /apis/apps",
                "GET /apis/apps/v1/",
                "GET /backup",
                "POST /whatever/nobody/thought/of",
            ],
            expect![[r#"
                GET / -> get url /
                HEAD /healthz -> get url /healthz
                GET /api -> get url /api
                GET /api/v1 -> get url /api/v1
                GET /apis/apps -> get url /apis/apps
                GET /apis/apps/v1/ -> get url /apis/apps/v1/
                GET /backup -> get url /backup
                POST /whatever/nobody/thought/of -> post url /whatever/nobody/thought/of"#]],
        );
    }

    /// Whoever may look at `/api/*` must not come by one of these to objects.
    #[test]
    fn what_looks_like_objects_is_never_a_mere_address() {
        for line in [
            "GET /api/v1//pods",
            "GET /api/v1/pods/%zz",
            "OPTIONS /api/v1/pods",
            "GET /api/v1/namespaces/a/pods/p/proxy/x/y",
            "GET /api/v1/watch",
        ] {
            let (method, uri) = line.split_once(' ').unwrap();
            let found = Attributes::of(&method.parse().unwrap(), &uri.parse().unwrap());
            let nameless = Attributes::on(&method.to_lowercase(), "", "", "");
            assert_eq!(found, nameless, "{line}");
        }
    }
}
