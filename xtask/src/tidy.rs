//! What every file of the repository keeps to, beyond what rustfmt and clippy check.
//!
//! Absent on purpose: there is no list of exceptions. A rule that needs one is the wrong rule.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::finding::Finding;
use crate::markdown;
use crate::rust_source::{mask, production_lines};
use crate::tree::{self, SourceFile};

/// Lines of code, tests left out, from which a file is asked to be split.
const LONG_FILE: usize = 600;
/// Lines of code, tests left out, beyond which a file is refused.
const TOO_LONG_FILE: usize = 900;

/// Folders whose files, unless they are Rust, are kept as somebody else wrote them.
const VERBATIM_FOLDERS: [&str; 3] = ["documents", "fixtures", "data"];

/// Words that mark unfinished work; put together here, so that this file does not hold them.
const LEFTOVERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Folders at the root of a machine that no source and no document may name a path in, each with whether a test may, as an
/// example that it never opens.
const FOREIGN_ROOTS: [(&str, bool); 3] = [("/work", false), ("/tmp", true), ("/home", true)];

/// Every finding in the repository at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = tree::read(root)?;
    let mut findings = Vec::new();
    for file in &files {
        if is_verbatim(file) {
            continue;
        }
        findings.extend(text_rules(file));
        match file.ending() {
            "rs" => findings.extend(rust_rules(file)),
            "md" => findings.extend(broken_links(file, |path| root.join(path).exists())),
            _ => {}
        }
    }
    findings.extend(changelog_rule(&files));
    Ok(findings)
}

fn is_verbatim(file: &SourceFile) -> bool {
    file.ending() != "rs"
        && file
            .folder()
            .split('/')
            .any(|part| VERBATIM_FOLDERS.contains(&part))
}

fn text_rules(file: &SourceFile) -> Vec<Finding> {
    let is_rust = file.ending() == "rs";
    let production = is_rust.then(|| production_numbers(file));
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut error = |message: String| {
            findings.push(Finding::error(&file.path, index + 1, message));
        };
        if line.contains('\t') && file.name() != "Makefile" {
            error("a tab; use spaces".to_owned());
        }
        // In Rust, rustfmt sees to it, and knows a literal from code.
        if line.ends_with([' ', '\t']) && !is_rust {
            error("white space at the end of the line".to_owned());
        }
        for word in LEFTOVERS {
            if has_word(line, word) {
                error(format!("{word}: finish it or open an issue"));
            }
        }
        let in_test = production
            .as_ref()
            .is_some_and(|lines| !lines.contains(&(index + 1)));
        for (root, free_in_tests) in FOREIGN_ROOTS {
            if names_path_in(line, root) && !(free_in_tests && in_test) {
                error(format!(
                    "a path in {root}: it exists on one machine only; use a relative path or a temporary folder made for it"
                ));
            }
        }
    }
    findings
}

/// The numbers of the lines that are not test code.
fn production_numbers(file: &SourceFile) -> BTreeSet<usize> {
    if is_test_file(file) {
        return BTreeSet::new();
    }
    production_lines(&mask(&file.text))
        .into_iter()
        .map(|(line, _)| line)
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// Whether the line names a path below the folder `root`; a longer path that only contains it, or the path of a URL, does not count.
fn names_path_in(line: &str, root: &str) -> bool {
    let continues_path = |c: char| c.is_alphanumeric() || "_.-~/*}$]>".contains(c);
    line.match_indices(root).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let mut after = line.get(at + root.len()..).unwrap_or_default().chars();
        let below = after.next() == Some('/')
            && after
                .next()
                .is_some_and(|c| c.is_alphanumeric() || c == '_');
        below && !before.is_some_and(continues_path)
    })
}

fn rust_rules(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let masked = mask(&file.text);
    for (index, line) in masked.lines().enumerate() {
        if has_word(line, "dbg") && line.contains(concat!("dbg", "!")) {
            let message = concat!("dbg", "! is for the desk only; use tracing");
            findings.push(Finding::error(&file.path, index + 1, message));
        }
    }
    if is_test_file(file) {
        return findings;
    }
    findings.extend(length_rule(file, production_lines(&masked).len()));
    if is_main_module(file) && !file.text.starts_with("//!") {
        let message = "no module doc; start the file with `//!`: what it is responsible for and what is absent from it";
        findings.push(Finding::error(&file.path, 1, message));
    }
    findings
}

fn length_rule(file: &SourceFile, lines: usize) -> Option<Finding> {
    let message = || {
        format!(
            "{lines} lines of code without tests; split by concern (asked from {LONG_FILE}, refused beyond {TOO_LONG_FILE})"
        )
    };
    if lines > TOO_LONG_FILE {
        Some(Finding::error(&file.path, 1, message()))
    } else if lines > LONG_FILE {
        Some(Finding::warning(&file.path, 1, message()))
    } else {
        None
    }
}

/// Whether the file holds nothing but tests or benches.
fn is_test_file(file: &SourceFile) -> bool {
    let in_folder = file
        .folder()
        .split('/')
        .any(|part| part == "tests" || part == "benches");
    in_folder || file.name() == "tests.rs" || file.name().ends_with("_tests.rs")
}

/// Whether the file is the root of a crate or a module that stands directly below it.
fn is_main_module(file: &SourceFile) -> bool {
    file.folder().ends_with("/src") || file.folder() == "src"
}

fn broken_links(file: &SourceFile, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    markdown::file_links(&file.text)
        .into_iter()
        .filter(|link| {
            let path = match link.path.strip_prefix('/') {
                Some(from_root) => from_root.to_owned(),
                None => format!("{}/{}", file.folder(), link.path),
            };
            !exists(path.trim_start_matches('/'))
        })
        .map(|link| {
            let message = format!("the link leads to {}, which does not exist", link.path);
            Finding::error(&file.path, link.line, message)
        })
        .collect()
}

fn changelog_rule(files: &[SourceFile]) -> Option<Finding> {
    let heading = |line: &str| {
        line.strip_prefix("## ")
            .is_some_and(|title| title.trim_matches(['[', ']']) == "Unreleased")
    };
    match files.iter().find(|file| file.path == "CHANGELOG.md") {
        Some(file) if file.text.lines().any(heading) => None,
        Some(_) => Some(Finding::error(
            "CHANGELOG.md",
            1,
            "no section '## [Unreleased]' for what comes next",
        )),
        None => Some(Finding::error(
            "CHANGELOG.md",
            1,
            "the file is missing; it keeps what changes, in the form of Keep a Changelog",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[track_caller]
    fn check_lines(findings: &[Finding], expected: &[(usize, &str)]) {
        let found: Vec<(usize, &str)> = findings
            .iter()
            .map(|f| (f.line, f.message.split([';', ':']).next().unwrap()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn white_space_and_leftovers_are_found_with_their_line() {
        let text = format!("a\n\tb\nc \n# {}: d\n", LEFTOVERS[0]);
        check_lines(
            &text_rules(&file("a.toml", &text)),
            &[
                (2, "a tab"),
                (3, "white space at the end of the line"),
                (4, LEFTOVERS[0]),
            ],
        );
        check_lines(&text_rules(&file("Makefile", "a:\n\tb\n")), &[]);
    }

    #[test]
    fn a_leftover_is_a_word_of_its_own() {
        let word = LEFTOVERS[2];
        assert!(has_word(&format!("{word}: x"), word));
        assert!(!has_word(&format!("serin.{word}{word}"), word));
        assert!(!has_word(&format!("MY_{word}"), word));
    }

    #[test]
    fn a_path_of_one_machine_is_told_from_one_that_contains_its_name() {
        for (before, after, found) in [
            ("cd ", "/x", true),
            ("\"", "/x\"", true),
            ("", "", false),
            ("mounted at ", " as", false),
            ("https://example.com", "/x", false),
            ("$ROOT", "/x", false),
            ("${ROOT}", "/x", false),
            ("var", "/x", false),
            ("", "s/x", false),
        ] {
            for (root, _) in FOREIGN_ROOTS {
                let line = format!("{before}{root}{after}");
                assert_eq!(names_path_in(&line, root), found, "{line}");
            }
        }
    }

    #[test]
    fn a_test_may_name_a_home_that_it_never_opens() {
        let source = |root: &str| {
            format!("//! A.\n#[cfg(test)]\nmod tests {{\n    const P: &str = \"{root}/x\";\n}}\n")
        };
        let path = "crates/a/src/lib.rs";
        for (root, free) in FOREIGN_ROOTS {
            let findings = text_rules(&file(path, &source(root)));
            assert_eq!(findings.is_empty(), free, "{root}");
            assert_eq!(text_rules(&file("a.md", &source(root))).len(), 1);
        }
    }

    #[test]
    fn what_others_wrote_is_left_as_it_is() {
        for (path, verbatim) in [
            ("crates/a/tests/data/a.yaml", true),
            ("crates/a/src/data/a.rs", false),
            ("docs/a.yaml", false),
        ] {
            assert_eq!(is_verbatim(&file(path, "")), verbatim, "{path}");
        }
    }

    #[test]
    fn a_left_dbg_is_found_in_code_only() {
        let text = concat!("//! A.\nlet a = dbg", "!(b);\n// dbg", "!(c)\n");
        check_lines(
            &rust_rules(&file("crates/a/src/lib.rs", text)),
            &[(2, concat!("dbg", "! is for the desk only"))],
        );
    }

    #[test]
    fn a_file_is_long_without_its_tests() {
        let code = "fn f() {}\n".repeat(LONG_FILE - 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
        let fits = format!("//! A.\n{code}{tests}");
        let path = "crates/a/src/lib.rs";
        assert_eq!(rust_rules(&file(path, &fits)), []);
        let long = format!("//! A.\nfn g() {{}}\n{code}{tests}");
        let longer = format!("//! A.\n{}", "fn f() {}\n".repeat(TOO_LONG_FILE));
        for (text, severity) in [
            (&long, crate::finding::Severity::Warning),
            (&longer, crate::finding::Severity::Error),
        ] {
            let found = rust_rules(&file(path, text));
            assert_eq!(found.first().map(|f| f.severity), Some(severity));
        }
        assert_eq!(rust_rules(&file("crates/a/tests/long.rs", &longer)), []);
    }

    #[test]
    fn the_modules_of_a_crate_have_a_doc() {
        for (path, missing) in [
            ("crates/a/src/lib.rs", true),
            ("crates/a/src/part.rs", true),
            ("crates/a/src/part/leaf.rs", false),
            ("crates/a/tests/it.rs", false),
        ] {
            let findings = rust_rules(&file(path, "fn f() {}\n"));
            assert_eq!(!findings.is_empty(), missing, "{path}");
        }
    }

    #[test]
    fn links_are_followed_from_the_folder_of_their_file() {
        let exists = |path: &str| ["docs/a.md", "README.md"].contains(&path);
        let text = "[a](a.md) [b](b.md)\n[root](/README.md)\n";
        check_lines(
            &broken_links(&file("docs/x.md", text), exists),
            &[(1, "the link leads to b.md, which does not exist")],
        );
    }

    #[test]
    fn the_changelog_has_a_place_for_what_comes_next() {
        assert!(changelog_rule(&[]).is_some());
        assert!(changelog_rule(&[file("CHANGELOG.md", "## [0.1.0]\n")]).is_some());
        assert_eq!(
            changelog_rule(&[file("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n")]),
            None
        );
    }
}
