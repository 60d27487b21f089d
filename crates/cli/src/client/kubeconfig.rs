//! Which kubeconfig a command uses, and what to say when it cannot be used.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

/// Where the address and the token of the API come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KubeconfigChoice {
    /// `--kubeconfig`.
    Flag(PathBuf),
    /// `$KUBECONFIG`: the files are merged, as kubectl does.
    Environment(Vec<PathBuf>),
    /// The platform of the state directory.
    Home(PathBuf),
    /// The service account of the pod that this runs in.
    InCluster,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    /// The platform of this directory has never run.
    #[error("no platform in {}", home.display())]
    NoPlatform {
        /// The state directory.
        home: PathBuf,
    },
    /// A file that was named cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// The pod has no service account that can be used.
    #[error("cannot use the service account of this pod")]
    ServiceAccount(#[source] kube::config::InClusterError),
}

impl KubeconfigChoice {
    /// `--kubeconfig` wins, then a `--home` on the command line, then `$KUBECONFIG`, then the default state directory; where
    /// that has no platform and this is a pod, its service account.
    pub(crate) fn new(
        flag: Option<&Path>,
        home_by_flag: bool,
        environment: Option<&std::ffi::OsStr>,
        home_kubeconfig: PathBuf,
        in_cluster: bool,
    ) -> Self {
        if let Some(path) = flag {
            return Self::Flag(path.to_path_buf());
        }
        let named: Vec<PathBuf> = environment
            .map(|list| std::env::split_paths(list).collect())
            .unwrap_or_default();
        let named: Vec<PathBuf> = named
            .into_iter()
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if named.is_empty() && !home_by_flag && in_cluster && !home_kubeconfig.exists() {
            Self::InCluster
        } else if home_by_flag || named.is_empty() {
            Self::Home(home_kubeconfig)
        } else {
            Self::Environment(named)
        }
    }

    /// Reads it. Files of `$KUBECONFIG` that are not there are passed over, as kubectl does, unless none is.
    pub(crate) async fn load(&self) -> Result<kube::Config, KubeconfigError> {
        let (config, path) = match self {
            Self::Flag(path) => (read(path)?, path),
            Self::Home(path) => {
                if !path.exists() {
                    return Err(KubeconfigError::NoPlatform {
                        home: path.parent().unwrap_or(path).to_path_buf(),
                    });
                }
                (read(path)?, path)
            }
            Self::Environment(paths) => merged(paths)?,
            Self::InCluster => {
                return kube::Config::incluster().map_err(KubeconfigError::ServiceAccount);
            }
        };
        kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .map_err(|source| KubeconfigError::Unusable {
                path: path.clone(),
                source,
            })
    }
}

fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    Kubeconfig::read_from(path).map_err(|source| KubeconfigError::Unusable {
        path: path.to_path_buf(),
        source,
    })
}

/// All files that are there, the first value of each name winning; and the path to blame.
fn merged(paths: &[PathBuf]) -> Result<(Kubeconfig, &PathBuf), KubeconfigError> {
    let there: Vec<&PathBuf> = paths.iter().filter(|path| path.exists()).collect();
    let to_read = if there.is_empty() {
        paths.iter().collect()
    } else {
        there
    };
    let mut all = Kubeconfig::default();
    let mut blamed = None;
    for path in to_read {
        blamed.get_or_insert(path);
        let next = read(path)?;
        all = all
            .merge(next)
            .map_err(|source| KubeconfigError::Unusable {
                path: path.clone(),
                source,
            })?;
    }
    match blamed {
        Some(path) => Ok((all, path)),
        None => Err(KubeconfigError::NoPlatform {
            home: PathBuf::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flag: Option<&str>, home_by_flag: bool, env: Option<&str>) -> KubeconfigChoice {
        KubeconfigChoice::new(
            flag.map(Path::new),
            home_by_flag,
            env.map(std::ffi::OsStr::new),
            "/home/kubeconfig".into(),
            false,
        )
    }

    #[test]
    fn the_more_explicit_choice_wins() {
        let home = KubeconfigChoice::Home("/home/kubeconfig".into());
        assert_eq!(
            chosen(Some("/f"), true, Some("/e")),
            KubeconfigChoice::Flag("/f".into())
        );
        assert_eq!(chosen(None, true, Some("/e")), home);
        assert_eq!(
            chosen(None, false, Some("/e:/g")),
            KubeconfigChoice::Environment(vec!["/e".into(), "/g".into()])
        );
        assert_eq!(chosen(None, false, Some("")), home);
        assert_eq!(chosen(None, false, None), home);
        let in_pod = |flag: Option<&str>, by_flag| {
            let home = "/nowhere/kubeconfig".into();
            KubeconfigChoice::new(flag.map(Path::new), by_flag, None, home, true)
        };
        assert_eq!(in_pod(None, false), KubeconfigChoice::InCluster);
        assert_eq!(
            in_pod(Some("/f"), false),
            KubeconfigChoice::Flag("/f".into())
        );
        assert!(matches!(in_pod(None, true), KubeconfigChoice::Home(_)));
    }
}
