//! Reads manifests from files, directories and stdin, and tells every problem of all of them before anything is done.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use serin_api::manifest;

use crate::error::{CliError, Exit};
use crate::printer::Printer;

/// One byte more than a manifest may have, so that a longer one is refused for its length.
const FILE_LIMIT_BYTES: u64 = manifest::MOST_BYTES as u64 + 1;
/// Files of a directory with these ends are manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// An object and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The object.
    pub(crate) object: Value,
    /// Its file, or `stdin`, and the line on which it begins.
    pub(crate) source: String,
    /// The warnings that have been told of it, without their places.
    pub(crate) warned: Vec<String>,
}

/// Reads all objects of `paths` (`-` for stdin). Prints every problem; fails when one of them stops an object.
pub(crate) fn read(printer: Printer, paths: &[PathBuf]) -> Result<Vec<Found>, CliError> {
    let mut found = Vec::new();
    let mut errors = 0;
    for path in files(paths)? {
        if let Some(bytes) = oversized(&path) {
            errors += 1;
            let most = manifest::MOST_BYTES;
            let path = path.display();
            printer.error(format!(
                "{path}: the file has {bytes} bytes, more than {most}; split it"
            ));
            continue;
        }
        let (source, text) = text(&path)?;
        let manifest = manifest::parse_bytes(&text, &source);
        for located in &manifest.problems {
            if located.problem.is_error() {
                errors += 1;
                printer.error(told(located));
            } else {
                printer.warning(told(located));
            }
        }
        let problems = manifest.problems;
        found.extend(manifest.objects.into_iter().map(|document| {
            Found {
                warned: problems
                    .iter()
                    .filter(|located| located.document == document.document)
                    .map(|located| located.problem.to_string())
                    .collect(),
                source: format!("{source}:{}", document.line),
                object: document.object,
            }
        }));
    }
    match errors {
        0 if found.is_empty() => Err(CliError::new(Exit::Manifest, "no object in what was given")),
        0 => Ok(found),
        1 => Err(CliError::new(Exit::Manifest, "1 error: nothing was done")),
        many => Err(CliError::new(
            Exit::Manifest,
            format!("{many} errors: nothing was done"),
        )),
    }
}

/// A problem behind its place; how bad it is, the printer says.
fn told(located: &manifest::Located) -> String {
    let manifest::Located {
        source,
        line,
        column,
        object,
        problem,
        ..
    } = located;
    if object.is_empty() {
        format!("{source}:{line}:{column}: {problem}")
    } else {
        format!("{source}:{line}:{column}: {object}: {problem}")
    }
}

/// Every file of `paths`; a directory stands for its manifests, in the order of their names, without folders in it.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" || !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = entries.map_err(|error| unreadable(path, &error))?;
        let mut inside: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
        inside.retain(|file| file.is_file() && is_manifest(file));
        inside.sort();
        if inside.is_empty() {
            let message = format!(
                "{}: no file that ends in .yaml, .yml or .json",
                path.display()
            );
            return Err(CliError::new(Exit::Manifest, message));
        }
        all.extend(inside);
    }
    Ok(all)
}

fn is_manifest(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// The size of a file that is too long to be read, in bytes.
fn oversized(path: &Path) -> Option<u64> {
    let file = std::fs::metadata(path).ok()?;
    let most = u64::try_from(manifest::MOST_BYTES).unwrap_or(u64::MAX);
    (path.as_os_str() != "-" && file.is_file() && file.len() > most).then_some(file.len())
}

fn text(path: &Path) -> Result<(String, Vec<u8>), CliError> {
    let (source, mut reader): (String, Box<dyn Read>) = if path.as_os_str() == "-" {
        ("stdin".to_owned(), Box::new(io::stdin().lock()))
    } else {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        (path.display().to_string(), Box::new(file))
    };
    let mut bytes = Vec::new();
    let mut limited = reader.by_ref().take(FILE_LIMIT_BYTES);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    Ok((source, bytes))
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.yaml");
        let file = File::create(&path).unwrap();
        file.set_len(FILE_LIMIT_BYTES + 6).unwrap();
        assert_eq!(oversized(&path), Some(FILE_LIMIT_BYTES + 6));
        file.set_len(FILE_LIMIT_BYTES - 1).unwrap();
        assert_eq!(oversized(&path), None);
    }

    #[test]
    fn a_directory_stands_for_its_manifests() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("deep.yaml")).unwrap();
        let found = files(&[dir.path().to_path_buf(), "-".into()]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|f| f.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.json", "b.yaml", "-"]);
    }
}
