//! `images.json`: what image names stand for, kept from one `serin up` to the next.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serin_node::Bundles;

use super::files::{read_small, write_secret};
use crate::home::Home;

/// The rules of a state directory together with those of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    path: PathBuf,
    /// Bundles by image name; the name may have a tag.
    rules: BTreeMap<String, String>,
    /// Whether the file says something else.
    changed: bool,
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    /// A rule of the command line is wrong.
    #[error("{0}")]
    Given(String),
    /// The file cannot be understood.
    #[error("{} cannot be used: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Images {
    /// The kept rules; each of `given`, `NAME=BUNDLE`, replaces the one of the same name. Writes nothing.
    pub(crate) fn load(home: &Home, given: &[String]) -> Result<Self, ImagesError> {
        Bundles::with_rules(given).map_err(|error| ImagesError::Given(error.to_string()))?;
        let path = home.images();
        let kept = match read_small(&path) {
            Ok(None) => BTreeMap::new(),
            Ok(Some(bytes)) => parse(&bytes).map_err(|why| ImagesError::Corrupt {
                path: path.clone(),
                why,
            })?,
            // The start tells of a state directory that is none, and better.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => BTreeMap::new(),
            Err(source) => return Err(ImagesError::Io { path, source }),
        };
        let mut rules = kept.clone();
        let pairs = given.iter().filter_map(|rule| rule.split_once('='));
        rules.extend(pairs.map(|(name, bundle)| (name.to_owned(), bundle.to_owned())));
        Ok(Self {
            path,
            changed: rules != kept,
            rules,
        })
    }

    /// The table for the node: names without `*` before those with one, the longer before the shorter.
    pub(crate) fn bundles(&self) -> Result<Bundles, ImagesError> {
        bundles(&self.rules).map_err(ImagesError::Given)
    }

    /// Keeps the rules for the next start. Only for the holder of the state directory.
    pub(crate) fn save(&self) -> Result<(), ImagesError> {
        if !self.changed {
            return Ok(());
        }
        let failed = |source| ImagesError::Io {
            path: self.path.clone(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(&self.rules).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        write_secret(&self.path, &text).map_err(failed)
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let rules = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    bundles(&rules)?;
    Ok(rules)
}

fn bundles(rules: &BTreeMap<String, String>) -> Result<Bundles, String> {
    // The first rule that fits counts: the file has no order of its own, so the narrower name goes first.
    let mut rules: Vec<(&String, &String)> = rules.iter().collect();
    rules.sort_by_key(|(name, _)| (name.contains('*'), Reverse(name.len())));
    Bundles::with_rules(
        rules
            .iter()
            .map(|(name, bundle)| format!("{name}={bundle}")),
    )
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::DirVariables;
    use expect_test::expect;
    use std::os::unix::fs::PermissionsExt;

    fn home(dir: &tempfile::TempDir) -> Home {
        Home::resolve(Some(dir.path()), &DirVariables::default()).unwrap()
    }

    fn given(rules: &[&str]) -> Vec<String> {
        rules.iter().map(|rule| (*rule).to_owned()).collect()
    }

    #[test]
    fn rules_are_kept_and_replaced_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let first = given(&["nginx=host", "nginx:1=serin.dev/demo:v1", "web=host"]);
        Images::load(&home, &first).unwrap().save().unwrap();
        Images::load(&home, &given(&["web=serin.dev/demo"]))
            .unwrap()
            .save()
            .unwrap();
        expect![[r#"
            {
              "nginx": "host",
              "nginx:1": "serin.dev/demo:v1",
              "web": "serin.dev/demo"
            }
        "#]]
        .assert_eq(&std::fs::read_to_string(home.images()).unwrap());
        let mode = std::fs::metadata(home.images()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let images = Images::load(&home, &[]).unwrap();
        assert!(!images.changed);
        let found = images.bundles().unwrap().resolve("nginx:1").unwrap();
        assert_eq!(found.version, "v1");
    }

    #[test]
    fn nothing_is_written_before_save() {
        let dir = tempfile::tempdir().unwrap();
        Images::load(&home(&dir), &given(&["nginx=host"])).unwrap();
        assert!(!home(&dir).images().exists());
        Images::load(&home(&dir), &[]).unwrap().save().unwrap();
        assert!(!home(&dir).images().exists());
    }

    #[test]
    fn a_file_that_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        for text in ["{", "[]", r#"{"nginx": "httpd"}"#] {
            std::fs::write(home.images(), text).unwrap();
            let error = Images::load(&home, &[]).unwrap_err();
            assert!(matches!(error, ImagesError::Corrupt { .. }), "{error}");
        }
    }
}
