//! What an address of the API means: a kind, and one object, a part of one, or many.

use std::sync::Arc;

use crate::registry::Registry;
use crate::resource::Resource;
use crate::status::{Refusal, Subject};
use crate::store::{Key, prefix};

/// The parts of an object that have addresses of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object itself.
    Main,
    Status,
    Scale,
    /// Of a Namespace: what holds it until it is empty.
    Finalize,
    /// Of a Pod.
    Log,
    /// Of a Pod.
    Eviction,
    /// Of a Pod.
    Binding,
    /// Of a ServiceAccount.
    Token,
    /// Of a Pod.
    Exec,
    /// Of a Pod.
    PortForward,
}

impl Part {
    /// The name of the part in addresses; empty for the object itself.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
            Self::Log => "log",
            Self::Eviction => "eviction",
            Self::Binding => "binding",
            Self::Token => "token",
            Self::Exec => "exec",
            Self::PortForward => "portforward",
        }
    }
}

/// An address below `/api/v1` or `/apis/GROUP/VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Resource>,
    /// `None`: all namespaces, or an object of the cluster.
    pub(crate) namespace: Option<String>,
    /// `None`: all objects of the kind.
    pub(crate) name: Option<String>,
    pub(crate) part: Part,
    /// Whether the address is of the old form `/watch/…`.
    pub(crate) watch: bool,
}

impl Target {
    /// Reads the part of a path after `/api/v1/` or `/apis/GROUP/VERSION/`.
    pub(crate) fn parse(
        registry: &Registry,
        group: &str,
        version: &str,
        rest: &str,
    ) -> Result<Self, Refusal> {
        let decoded = segments(rest)
            .ok_or_else(|| Refusal::bad_request("the path has a broken percent encoding"))?;
        let mut segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let watch = segments.first() == Some(&"watch");
        if watch {
            segments.remove(0);
        }
        let (namespace, plural, name, part) =
            split(group, &segments).ok_or_else(Refusal::no_page)?;
        let found = registry.plural(group, version, plural);
        let kind = found.ok_or_else(Refusal::no_page)?;
        let target = Self {
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            part: part_of(&kind, part).ok_or_else(Refusal::no_page)?,
            watch,
            kind,
        };
        let misplaced = target.namespace.is_some() != target.kind.namespaced
            && (target.name.is_some() || target.namespace.is_some());
        if misplaced {
            Err(Refusal::no_page())
        } else {
            Ok(target)
        }
    }

    /// The target for one object of the same kind in the same namespace.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> Self {
        Self {
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: Some(name.to_owned()),
            part: Part::Main,
            ..self.clone()
        }
    }

    /// The target of a stored object; `None` when its kind is not served any more.
    pub(crate) fn of_key(registry: &Registry, key: &Key) -> Option<Self> {
        let kind = registry.stored(key.group(), key.plural())?;
        Some(Self {
            namespace: kind.namespaced.then(|| key.namespace().to_owned()),
            name: Some(key.name().to_owned()),
            part: Part::Main,
            watch: false,
            kind,
        })
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn key(&self) -> Key {
        Key::new(
            &self.kind.group,
            &self.kind.plural,
            self.namespace(),
            self.name(),
        )
    }

    /// The start of the keys of all objects of this target.
    pub(crate) fn prefix(&self) -> String {
        prefix(
            &self.kind.group,
            &self.kind.plural,
            self.namespace.as_deref(),
        )
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            group: &self.kind.group,
            kind: &self.kind.kind,
            plural: &self.kind.plural,
            name: self.name(),
        }
    }
}

pub(crate) type Parts<'a> = (Option<&'a str>, &'a str, Option<&'a str>, Option<&'a str>);

/// The parts of a path; `None` when an encoding in it is broken.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').map(decode).collect()
}

/// Namespace, plural, name and subresource.
pub(crate) fn split<'a>(group: &str, segments: &[&'a str]) -> Option<Parts<'a>> {
    if segments.iter().any(|s| s.is_empty()) {
        return None;
    }
    Some(match *segments {
        // A namespace is an object too, and has parts.
        ["namespaces", name, part @ ("status" | "finalize")] if group.is_empty() => {
            (None, "namespaces", Some(name), Some(part))
        }
        ["namespaces", namespace, plural] => (Some(namespace), plural, None, None),
        ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name), None),
        ["namespaces", namespace, plural, name, part] => {
            (Some(namespace), plural, Some(name), Some(part))
        }
        [plural] => (None, plural, None, None),
        [plural, name] => (None, plural, Some(name), None),
        [plural, name, part] => (None, plural, Some(name), Some(part)),
        _ => return None,
    })
}

fn part_of(kind: &Resource, part: Option<&str>) -> Option<Part> {
    let pod = kind.group.is_empty() && kind.plural == "pods";
    match part {
        None => Some(Part::Main),
        Some("finalize") if kind.group.is_empty() && kind.plural == "namespaces" => {
            Some(Part::Finalize)
        }
        Some("status") if kind.has_status => Some(Part::Status),
        Some("scale") if kind.scale.is_some() => Some(Part::Scale),
        Some("log") if pod => Some(Part::Log),
        Some("eviction") if pod => Some(Part::Eviction),
        Some("binding") if pod => Some(Part::Binding),
        Some("token") if kind.is("", "ServiceAccount") => Some(Part::Token),
        Some("exec") if pod => Some(Part::Exec),
        Some("portforward") if pod => Some(Part::PortForward),
        Some(_) => None,
    }
}

/// Undoes percent encoding.
pub(crate) fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (code, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The target of an address among the built-in kinds.
    pub(crate) fn target(group: &str, version: &str, rest: &str) -> Target {
        Target::parse(&Registry::default(), group, version, rest).unwrap()
    }

    #[test]
    fn addresses() {
        let core = |rest| {
            Target::parse(&Registry::default(), "", "v1", rest)
                .map(|t| (t.key().to_string(), t.part, t.watch))
                .ok()
        };
        let apps = |rest| {
            Target::parse(&Registry::default(), "apps", "v1", rest)
                .map(|t| (t.key().to_string(), t.part, t.watch))
                .ok()
        };
        let some = |key: &str, part, watch| Some((key.to_owned(), part, watch));
        assert_eq!(core("pods"), some("/pods//", Part::Main, false));
        assert_eq!(core("namespaces"), some("/namespaces//", Part::Main, false));
        assert_eq!(
            core("namespaces/a"),
            some("/namespaces//a", Part::Main, false)
        );
        assert_eq!(
            core("namespaces/a/finalize"),
            some("/namespaces//a", Part::Finalize, false)
        );
        assert_eq!(
            core("namespaces/a/status"),
            some("/namespaces//a", Part::Status, false)
        );
        assert_eq!(
            core("namespaces/a/pods/b/log"),
            some("/pods/a/b", Part::Log, false)
        );
        assert_eq!(
            core("namespaces/a/pods/b%2Dc"),
            some("/pods/a/b-c", Part::Main, false)
        );
        assert_eq!(
            core("watch/namespaces/a/pods"),
            some("/pods/a/", Part::Main, true)
        );
        assert_eq!(
            apps("namespaces/a/deployments/b/scale"),
            some("apps/deployments/a/b", Part::Scale, false)
        );
        for wrong in [
            "pods/b",
            "namespaces/a/namespaces",
            "namespaces/a/pods/b/nope",
            "nope",
            "",
            "namespaces//pods",
            "namespaces/a/nodes/b",
            "pods/%zz",
        ] {
            assert_eq!(core(wrong), None, "{wrong}");
        }
        assert_eq!(apps("namespaces/a/deployments/b/log"), None);
    }
}
