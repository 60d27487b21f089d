//! The text files of the repository.

use std::path::Path;

use anyhow::{Context, Result};

/// Folders that are not part of the repository, or that hold what tools wrote.
const SKIPPED_FOLDERS: [&str; 3] = ["target", ".git", "proptest-regressions"];

/// Endings of the files that people write by hand.
const TEXT_ENDINGS: [&str; 12] = [
    "rs", "md", "toml", "yaml", "yml", "json", "sh", "sql", "html", "css", "js", "txt",
];

/// Files without an ending that people write by hand.
const TEXT_NAMES: [&str; 3] = ["Makefile", "Dockerfile", "run"];

/// One file of the repository.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Relative to the root, with `/` between the parts.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

impl SourceFile {
    /// The part of the name after its last dot; empty when it has none.
    pub(crate) fn ending(&self) -> &str {
        self.name()
            .rsplit_once('.')
            .map_or("", |(_, ending)| ending)
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The folder, relative to the root; empty for a file of the root.
    pub(crate) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// Every text file below `root`, in the order of their paths.
pub(crate) fn read(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let directory = root.join(&folder);
        let entries = std::fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let kind = entry
                .file_type()
                .with_context(|| format!("cannot look at {path}"))?;
            if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && is_text(&name) {
                let text = std::fs::read_to_string(root.join(&path))
                    .with_context(|| format!("cannot read {path} as UTF-8 text"))?;
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_text(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((_, ending)) => TEXT_ENDINGS.contains(&ending),
        None => TEXT_NAMES.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_by_its_name() {
        for (name, text) in [
            ("lib.rs", true),
            ("Makefile", true),
            ("Cargo.lock", false),
            ("LICENSE", false),
            ("picture.png", false),
        ] {
            assert_eq!(is_text(name), text, "{name}");
        }
    }

    #[test]
    fn a_path_has_folder_name_and_ending() {
        let file = SourceFile {
            path: "crates/api/src/lib.rs".to_owned(),
            text: String::new(),
        };
        assert_eq!(
            (file.folder(), file.name(), file.ending()),
            ("crates/api/src", "lib.rs", "rs")
        );
    }
}
