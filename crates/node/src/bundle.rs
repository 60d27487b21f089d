//! What an image name means on a machine without container images: a bundle.
//!
//! A table, read from its top, maps patterns of image names to bundles. The user's rules come before the built-in ones.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Something that can be run in the place of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bundle {
    /// The machine itself: `command` is looked up in its PATH; there is no default command.
    Host,
    /// The demo application that is part of `serin`; the tag is its version.
    Demo {
        /// The version it always says it is; `None`: the tag of the image.
        version: Option<String>,
    },
}

const HOST: &str = "host";
const DEMO: &str = "serin.dev/demo";
/// The tag of an image that names none, as in Kubernetes.
const DEFAULT_TAG: &str = "latest";

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str(HOST),
            Self::Demo { version: None } => f.write_str(DEMO),
            Self::Demo {
                version: Some(version),
            } => write!(f, "{DEMO}:{version}"),
        }
    }
}

impl FromStr for Bundle {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let image = Image::parse(text);
        match (image.name, image.tag) {
            (HOST, None) => Ok(Self::Host),
            (DEMO, version) => Ok(Self::Demo {
                version: version.map(str::to_owned),
            }),
            _ => Err(BadRule::UnknownBundle(text.to_owned())),
        }
    }
}

/// Why a rule for an image was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRule {
    /// It has no `=`, or nothing on one side of it.
    #[error(
        "{0:?} is no rule for an image; write NAME=BUNDLE or NAME:TAG=BUNDLE, such as nginx={DEMO}"
    )]
    Shape(String),
    /// The right side is no bundle.
    #[error("{0:?} is no bundle; there are: {HOST}, {DEMO}, {DEMO}:VERSION")]
    UnknownBundle(String),
}

/// The table from image names to bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundles {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    /// `None`: any.
    tag: Option<String>,
    bundle: Bundle,
}

/// What to run for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The bundle.
    pub bundle: Bundle,
    /// The version that the bundle is asked for: the tag of the image, unless the rule fixes it.
    pub version: String,
}

/// No bundle stands for an image.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no bundle stands for image {image:?}; images of registries are not run by this node. Known: {known}. Name one with: serin up --image {name}=BUNDLE"
)]
pub struct NoBundle {
    image: String,
    name: String,
    known: String,
}

impl Default for Bundles {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Bundles {
    /// `host` and `serin.dev/demo` alone.
    pub fn builtin() -> Self {
        let rule = |name: &str, bundle| Rule {
            name: name.to_owned(),
            tag: None,
            bundle,
        };
        Self {
            rules: vec![
                rule(HOST, Bundle::Host),
                rule(DEMO, Bundle::Demo { version: None }),
            ],
        }
    }

    /// The rules of the user, `NAME=BUNDLE` or `NAME:TAG=BUNDLE` with `*` for any text, before the built-in ones. An earlier
    /// rule wins over a later one.
    ///
    /// # Errors
    /// The first rule that is none.
    pub fn with_rules<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> Result<Self, BadRule> {
        let mut all = rules
            .into_iter()
            .map(|rule| Rule::parse(rule.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        all.extend(Self::builtin().rules);
        Ok(Self { rules: all })
    }

    /// What to run for an image.
    ///
    /// # Errors
    /// A sentence with the image, the known bundles and the remedy.
    pub fn resolve(&self, image: &str) -> Result<Resolved, NoBundle> {
        let parsed = Image::parse(image);
        let tag = parsed.tag.unwrap_or(DEFAULT_TAG);
        let Some(rule) = self.rules.iter().find(|r| r.matches(parsed.name, tag)) else {
            return Err(self.unknown(image, parsed.name));
        };
        let version = match &rule.bundle {
            Bundle::Demo {
                version: Some(version),
            } => version.clone(),
            _ => tag.to_owned(),
        };
        Ok(Resolved {
            bundle: rule.bundle.clone(),
            version,
        })
    }

    fn unknown(&self, image: &str, name: &str) -> NoBundle {
        let known: Vec<_> = self.rules.iter().map(Rule::to_string).collect();
        NoBundle {
            image: image.to_owned(),
            name: name.to_owned(),
            known: known.join(", "),
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, BadRule> {
        let shape = || BadRule::Shape(text.to_owned());
        let (pattern, bundle) = text.split_once('=').ok_or_else(shape)?;
        let image = Image::parse(pattern);
        if image.name.is_empty() || bundle.is_empty() {
            return Err(shape());
        }
        Ok(Self {
            name: image.name.to_owned(),
            tag: image.tag.map(str::to_owned),
            bundle: bundle.parse()?,
        })
    }

    fn matches(&self, name: &str, tag: &str) -> bool {
        glob(&self.name, name) && self.tag.as_deref().is_none_or(|want| glob(want, tag))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if self.name != self.bundle.to_string() {
            write!(f, "={}", self.bundle)?;
        }
        Ok(())
    }
}

/// An image reference: name, tag. A digest is left out: a bundle has none.
#[derive(Debug, PartialEq, Eq)]
struct Image<'a> {
    name: &'a str,
    tag: Option<&'a str>,
}

impl<'a> Image<'a> {
    fn parse(reference: &'a str) -> Self {
        let (reference, _digest) = reference.split_once('@').unwrap_or((reference, ""));
        // A colon before the last slash belongs to the port of a registry.
        let (name, tag) = match reference.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (reference, None),
        };
        // The default registry may be left out, and so may its default folder.
        let name = name
            .strip_prefix("docker.io/library/")
            .or_else(|| name.strip_prefix("docker.io/"))
            .unwrap_or(name);
        Self { name, tag }
    }
}

/// Whether `text` has the shape of `pattern`, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(head) else {
        return false;
    };
    rest.char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .any(|at| rest.get(at..).is_some_and(|rest| glob(tail, rest)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(rules: &[&str], images: &[&str], want: Expect) {
        let bundles = Bundles::with_rules(rules).unwrap();
        let mut shown = String::new();
        for image in images {
            let line = match bundles.resolve(image) {
                Ok(found) => format!("{} at {}", found.bundle, found.version),
                Err(error) => error.to_string(),
            };
            shown += &format!("{image}: {line}\n");
        }
        want.assert_eq(&shown);
    }

    #[test]
    fn built_in_bundles() {
        check(
            &[],
            &[
                "host",
                "host:anything",
                "serin.dev/demo:v2",
                "serin.dev/demo",
                "nginx:1.20",
            ],
            expect![[r#"
                host: host at latest
                host:anything: host at anything
                serin.dev/demo:v2: serin.dev/demo at v2
                serin.dev/demo: serin.dev/demo at latest
                nginx:1.20: no bundle stands for image "nginx:1.20"; images of registries are not run by this node. Known: host, serin.dev/demo. Name one with: serin up --image nginx=BUNDLE
            "#]],
        );
    }

    #[test]
    fn rules_of_the_user_come_first_and_in_order() {
        check(
            &[
                "nginx:1.21=serin.dev/demo:v9",
                "nginx=serin.dev/demo",
                "shop/*:v*=host",
            ],
            &[
                "nginx:1.20",
                "nginx:1.21",
                "docker.io/library/nginx:1.22",
                "nginx@sha256:abc",
                "shop/web:v1",
                "shop/web:1",
                "registry:5000/nginx",
            ],
            expect![[r#"
                nginx:1.20: serin.dev/demo at 1.20
                nginx:1.21: serin.dev/demo:v9 at v9
                docker.io/library/nginx:1.22: serin.dev/demo at 1.22
                nginx@sha256:abc: serin.dev/demo at latest
                shop/web:v1: host at v1
                shop/web:1: no bundle stands for image "shop/web:1"; images of registries are not run by this node. Known: nginx:1.21=serin.dev/demo:v9, nginx=serin.dev/demo, shop/*:v*=host, host, serin.dev/demo. Name one with: serin up --image shop/web=BUNDLE
                registry:5000/nginx: no bundle stands for image "registry:5000/nginx"; images of registries are not run by this node. Known: nginx:1.21=serin.dev/demo:v9, nginx=serin.dev/demo, shop/*:v*=host, host, serin.dev/demo. Name one with: serin up --image registry:5000/nginx=BUNDLE
            "#]],
        );
    }

    #[test]
    fn bad_rules_say_what_is_right() {
        let error = |rule: &str| Bundles::with_rules([rule]).unwrap_err().to_string();
        expect![[r#"
            "nginx" is no rule for an image; write NAME=BUNDLE or NAME:TAG=BUNDLE, such as nginx=serin.dev/demo
            "=host" is no rule for an image; write NAME=BUNDLE or NAME:TAG=BUNDLE, such as nginx=serin.dev/demo
            "httpd" is no bundle; there are: host, serin.dev/demo, serin.dev/demo:VERSION"#]]
        .assert_eq(&[error("nginx"), error("=host"), error("nginx=httpd")].join("\n"));
    }
}
