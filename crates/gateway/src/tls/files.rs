//! Certificates in files, read again when a file changes.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Certificate, CertificateTable, certified};
use crate::config::CertificateFiles;

/// The files that the settings name, and what was last good in them.
#[derive(Debug, Default)]
pub(crate) struct Files {
    home: PathBuf,
    files: Vec<CertificateFiles>,
    /// When each file was last changed, as of the last reading.
    seen: Vec<Option<SystemTime>>,
    pub(crate) table: CertificateTable,
    /// What is wrong, as sentences.
    pub(crate) problems: Vec<String>,
}

impl Files {
    pub(crate) fn new(home: &Path, files: Vec<CertificateFiles>) -> Self {
        let mut all = Self {
            home: home.to_owned(),
            files,
            ..Self::default()
        };
        all.refresh();
        all
    }

    /// Reads again what has changed. Whether anything has.
    pub(crate) fn refresh(&mut self) -> bool {
        let changed = |path: &Path| {
            std::fs::metadata(self.home.join(path))
                .and_then(|m| m.modified())
                .ok()
        };
        let pairs = self.files.iter();
        let seen: Vec<_> = pairs
            .flat_map(|f| [changed(&f.certificate), changed(&f.key)])
            .collect();
        if seen == self.seen {
            return false;
        }
        self.seen = seen;
        self.problems.clear();
        for files in &self.files {
            let name = files.certificate.display().to_string();
            match self.read(files) {
                Ok(certificate) => {
                    self.table.certificates.insert(name, certificate);
                }
                Err(why) => {
                    let kept = self.table.certificates.contains_key(&name);
                    let kept = if kept {
                        "; the one before it is used on"
                    } else {
                        ""
                    };
                    self.problems
                        .push(format!("certificate {name}: {why}{kept}"));
                }
            }
        }
        true
    }

    fn read(&self, files: &CertificateFiles) -> Result<Certificate, String> {
        let text = |path: &Path| {
            let path = self.home.join(path);
            std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let (chain, key) = (text(&files.certificate)?, text(&files.key)?);
        certified(chain.as_bytes(), key.as_bytes())?;
        let hosts = files
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect();
        Ok(Certificate { hosts, chain, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_gets_worse_leaves_what_was_good() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        let signed = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        write("cert.pem", &signed.cert.pem());
        write("key.pem", &signed.signing_key.serialize_pem());
        let named = CertificateFiles {
            hosts: ["App.example.com".to_owned()].into(),
            certificate: "cert.pem".into(),
            key: "key.pem".into(),
        };
        let mut files = Files::new(home.path(), vec![named]);
        assert_eq!(files.problems, Vec::<String>::new());
        let good = files.table.clone();
        assert_eq!(
            good.certificates["cert.pem"].hosts,
            ["app.example.com".to_owned()].into()
        );
        assert!(!files.refresh());
        std::fs::remove_file(home.path().join("key.pem")).unwrap();
        assert!(files.refresh());
        assert_eq!(files.table, good);
        assert!(
            files.problems[0].ends_with("; the one before it is used on"),
            "{:?}",
            files.problems
        );
    }
}
