//! Where everything of a pod lies under the home directory.
//!
//! `run/pods/UID/pod.json` is the node's record of a pod; `run/pods/UID/CONTAINER/N/` is the directory of run N (socket, lock
//! and record of its shim); `run/pods/UID/CONTAINER/work/` is where it runs; `logs/UID/CONTAINER/N.log` is its output.

use std::path::{Path, PathBuf};

/// The directories of one home.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    home: PathBuf,
}

impl Dirs {
    /// The layout under `home`.
    pub(crate) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
        }
    }

    /// One directory per pod.
    pub(crate) fn pods(&self) -> PathBuf {
        self.home.join("run").join("pods")
    }

    /// Of one pod.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// The node's record of a pod.
    pub(crate) fn pod_record(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("pod.json")
    }

    /// Of one container, with a directory per run.
    pub(crate) fn container(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join(container)
    }

    /// Of one run.
    pub(crate) fn run(&self, uid: &str, container: &str, run: u32) -> PathBuf {
        self.container(uid, container).join(run.to_string())
    }

    /// The working directory of a container without one of its own.
    pub(crate) fn work(&self, uid: &str, container: &str) -> PathBuf {
        self.container(uid, container).join("work")
    }

    /// The logs of one pod.
    pub(crate) fn pod_logs(&self, uid: &str) -> PathBuf {
        self.home.join("logs").join(uid)
    }

    /// The logs of one container.
    pub(crate) fn logs(&self, uid: &str, container: &str) -> PathBuf {
        self.pod_logs(uid).join(container)
    }

    /// The log of one run.
    pub(crate) fn log(&self, uid: &str, container: &str, run: u32) -> PathBuf {
        self.logs(uid, container).join(format!("{run}.log"))
    }
}

/// Whether a name from outside can be one component of a path: nothing that leads elsewhere.
pub(crate) fn is_component(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
}

/// The numbers of the runs that have an entry in `dir`, ascending; `suffix` is what follows the number.
pub(crate) fn numbered(dir: &Path, suffix: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(suffix)?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_components() {
        for bad in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(!is_component(bad), "{bad:?}");
        }
        assert!(is_component("6f9d-uid"));
    }
}
