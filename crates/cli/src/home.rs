//! The directory that holds everything of one platform, `$SERIN_HOME`, and the names of the files in it.
//!
//! Absent on purpose: the contents of those files; each belongs to the part that writes it.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The state directory of one platform; an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// Nothing says where it is.
    #[error("no home directory: HOME, XDG_DATA_HOME and SERIN_HOME are all empty")]
    Unknown,
    /// A directory cannot be made, or a file in it cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the environment says about directories; a value, so that the choice can be tested.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirVariables {
    /// `SERIN_HOME`.
    pub(crate) serin_home: Option<OsString>,
    /// `XDG_DATA_HOME`.
    pub(crate) xdg_data_home: Option<OsString>,
    /// `HOME`.
    pub(crate) home: Option<OsString>,
}

impl DirVariables {
    /// As the process has them; an empty variable counts as absent.
    pub(crate) fn of_process() -> Self {
        let read = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            serin_home: read("SERIN_HOME"),
            xdg_data_home: read("XDG_DATA_HOME"),
            home: read("HOME"),
        }
    }
}

impl Home {
    /// The directory of `--home`, else of the environment, else the platform's data directory. Makes nothing.
    pub(crate) fn resolve(flag: Option<&Path>, vars: &DirVariables) -> Result<Self, HomeError> {
        let chosen = flag
            .map(Path::to_path_buf)
            .or_else(|| vars.serin_home.as_ref().map(PathBuf::from))
            .or_else(|| {
                vars.xdg_data_home
                    .as_ref()
                    .map(|dir| Path::new(dir).join("serin"))
            })
            .or_else(|| {
                vars.home
                    .as_ref()
                    .map(|dir| Path::new(dir).join(".local/share/serin"))
            })
            .ok_or(HomeError::Unknown)?;
        let root = std::path::absolute(&chosen).map_err(|source| HomeError::Unwritable {
            path: chosen,
            source,
        })?;
        Ok(Self { root })
    }

    /// Makes the directory and its folders, readable by their owner alone.
    pub(crate) fn prepare(&self) -> Result<(), HomeError> {
        for dir in [
            self.root.clone(),
            self.logs(),
            self.run(),
            self.keys(),
            self.root.join("gateway"),
        ] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|source| {
                let in_the_way = source.kind() == io::ErrorKind::AlreadyExists;
                let source = if in_the_way {
                    io::ErrorKind::NotADirectory.into()
                } else {
                    source
                };
                HomeError::Unwritable { path: dir, source }
            })?;
        }
        Ok(())
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The objects.
    pub(crate) fn state_db(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// How clients reach the API.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// What image names stand for.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images.json")
    }

    /// Held by the one control plane of this directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The logs of our own processes.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Sockets and addresses of living processes.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The token and the certificate of the API.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(flag: Option<&str>, vars: [Option<&str>; 3]) -> Option<String> {
        let [serin_home, xdg_data_home, home] = vars.map(|v| v.map(OsString::from));
        let vars = DirVariables {
            serin_home,
            xdg_data_home,
            home,
        };
        let home = Home::resolve(flag.map(Path::new), &vars).ok()?;
        Some(home.root().display().to_string())
    }

    #[test]
    fn the_most_specific_place_wins() {
        let all = [Some("/s"), Some("/x"), Some("/h")];
        assert_eq!(resolved(Some("/f"), all).as_deref(), Some("/f"));
        assert_eq!(resolved(None, all).as_deref(), Some("/s"));
        assert_eq!(
            resolved(None, [None, Some("/x"), Some("/h")]).as_deref(),
            Some("/x/serin")
        );
        assert_eq!(
            resolved(None, [None, None, Some("/h")]).as_deref(),
            Some("/h/.local/share/serin")
        );
        assert_eq!(resolved(None, [None, None, None]), None);
    }
}
