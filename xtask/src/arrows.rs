//! Who may depend on whom: the arrows of ARCHITECTURE.md.
//!
//! A dependency that is only for tests is free, with one exception: `api` stands on nothing, in its tests too.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::finding::Finding;
use crate::rust_source::{mask, production_lines};
use crate::tree::{self, SourceFile};

/// Each crate of the workspace with the crates of the workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("serin-api", &[]),
    ("serin-engine", &["serin-api"]),
    ("serin-apiserver", &["serin-api"]),
    ("serin-controllers", &["serin-api", "serin-engine"]),
    ("serin-node", &["serin-api"]),
    ("serin-gateway", &["serin-api"]),
    ("serin-metrics", &["serin-api"]),
    (
        CLI,
        &[
            "serin-api",
            "serin-engine",
            "serin-apiserver",
            "serin-controllers",
            "serin-node",
            "serin-gateway",
            "serin-metrics",
        ],
    ),
    ("xtask", &[]),
];

const CLI: &str = "serin";
const API: &str = "serin-api";

/// Names of crates that belong to nobody: a helper lives with its first user.
const HOMELESS_NAMES: [&str; 6] = ["common", "utils", "util", "core", "shared", "helpers"];

/// Crates that only the command line may use, each with the reason.
const CLI_ONLY: [(&str, &str); 4] = [
    ("clap", "only the command line reads arguments"),
    ("clap_complete", "only the command line reads arguments"),
    ("anstream", "only the command line prints"),
    ("anstyle", "only the command line prints"),
];

/// Crates that a crate of ours must not use itself, each list with the reason.
const BANNED: [(&str, &[&str], &str); 2] = [
    (
        "serin-engine",
        &[
            "tokio",
            "futures",
            "kube",
            "rand",
            "fastrand",
            "getrandom",
            "uuid",
            "hyper",
            "rusqlite",
            "tracing",
        ],
        "the engine does no IO, is never async, knows no client and draws no random number",
    ),
    (
        API,
        &["tokio", "hyper", "axum", "rusqlite", "tracing"],
        "the types do no IO",
    ),
];

/// Macros that write to the terminal.
const PRINTS: [&str; 4] = ["println!", "print!", "eprintln!", "eprint!"];

/// Every arrow that is not allowed and every print outside the command line, in the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = read_metadata(root)?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = SourceFile {
            path: relative(root, &package.manifest_path),
            text: std::fs::read_to_string(&package.manifest_path)
                .with_context(|| format!("cannot read {}", package.manifest_path))?,
        };
        let known: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
        findings.extend(package_rules(package, &known, &manifest));
    }
    for file in tree::read(root)? {
        findings.extend(print_rule(&file));
    }
    Ok(findings)
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Absent for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

impl Dependency {
    fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

fn read_metadata(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata wrote")
}

fn relative(root: &Path, path: &str) -> String {
    Path::new(path)
        .strip_prefix(root)
        .map_or_else(|_| path.to_owned(), |p| p.to_string_lossy().into_owned())
}

fn package_rules(package: &Package, known: &[&str], manifest: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let last_part = package.name.rsplit('-').next().unwrap_or_default();
    if HOMELESS_NAMES.contains(&last_part) {
        findings.push(Finding::error(
            &manifest.path,
            line_of(&manifest.text, "name"),
            format!("there is no crate '{last_part}': a helper lives with its first user"),
        ));
        return findings;
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        findings.push(Finding::error(
            &manifest.path,
            line_of(&manifest.text, "name"),
            format!(
                "'{}' has no arrows: a new crate needs a dependency that the others must not have, a process of its own or an \
                 unsafe island; then it gets its line in xtask/src/arrows.rs and in ARCHITECTURE.md",
                package.name
            ),
        ));
        return findings;
    };
    for dependency in &package.dependencies {
        let problem = if known.contains(&dependency.name.as_str()) {
            arrow_problem(package, allowed, dependency)
        } else {
            outside_problem(package, dependency)
        };
        findings.extend(problem.map(|message| {
            let line = line_of(&manifest.text, &dependency.name);
            Finding::error(&manifest.path, line, message)
        }));
    }
    findings
}

/// What is wrong with a dependency on a crate of the workspace.
fn arrow_problem(package: &Package, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let free = dependency.is_for_tests() && package.name != API;
    if free || allowed.contains(&dependency.name.as_str()) {
        return None;
    }
    let may = if allowed.is_empty() {
        "no crate of the workspace".to_owned()
    } else {
        allowed.join(", ")
    };
    Some(format!(
        "{} -> {} is not an arrow of the house; {} may depend on {may}",
        package.name, dependency.name, package.name
    ))
}

/// What is wrong with a dependency on a crate from elsewhere.
fn outside_problem(package: &Package, dependency: &Dependency) -> Option<String> {
    if dependency.is_for_tests() {
        return None;
    }
    let name = dependency.name.as_str();
    let cli_only = CLI_ONLY
        .iter()
        .filter(|_| package.name != CLI)
        .find(|(crate_name, _)| *crate_name == name)
        .map(|(_, reason)| *reason);
    let banned = BANNED
        .iter()
        .filter(|(owner, ..)| *owner == package.name)
        .find(|(_, crates, _)| crates.contains(&name))
        .map(|(.., reason)| *reason);
    cli_only
        .or(banned)
        .map(|reason| format!("{} must not use {name}: {reason}", package.name))
}

/// The line of a manifest that starts with the key, from 1; the first line when none does.
fn line_of(manifest: &str, key: &str) -> usize {
    let starts = |line: &str| {
        line.trim_start()
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(starts).map_or(1, |at| at + 1)
}

/// Prints in the code of crates other than the command line. The chores of xtask are a command line too.
fn print_rule(file: &SourceFile) -> Vec<Finding> {
    let checked = file.ending() == "rs"
        && file.path.starts_with("crates/")
        && file.path.contains("/src/")
        && !file.path.starts_with("crates/cli/");
    if !checked {
        return Vec::new();
    }
    let masked = mask(&file.text);
    production_lines(&masked)
        .into_iter()
        .filter_map(|(line, code)| {
            let print = PRINTS.iter().find(|print| calls(code, print))?;
            let message =
                format!("{print} outside the command line; return the value, or use tracing");
            Some(Finding::error(&file.path, line, message))
        })
        .collect()
}

fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code.get(..at).and_then(|s| s.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["serin-api", "serin-engine", "serin-node", "serin"];

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: "Cargo.toml".to_owned(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                })
                .collect(),
        }
    }

    #[track_caller]
    fn check(name: &str, dependencies: &[(&str, Option<&str>)], expected: &[&str]) {
        let manifest = SourceFile {
            path: "Cargo.toml".to_owned(),
            text: String::new(),
        };
        let findings = package_rules(&package(name, dependencies), &KNOWN, &manifest);
        let messages: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn the_arrows_of_the_house_are_allowed() {
        check(
            "serin-engine",
            &[
                ("serin-api", None),
                ("serde", None),
                ("proptest", Some("dev")),
            ],
            &[],
        );
        check(
            "serin",
            &[("serin-api", None), ("serin-node", None), ("clap", None)],
            &[],
        );
    }

    #[test]
    fn any_other_arrow_is_refused() {
        check(
            "serin-node",
            &[("serin-engine", None), ("serin-api", Some("build"))],
            &[
                "serin-node -> serin-engine is not an arrow of the house; serin-node may depend on serin-api",
            ],
        );
    }

    #[test]
    fn tests_may_depend_on_anything_but_those_of_the_api() {
        check("serin-node", &[("serin-engine", Some("dev"))], &[]);
        check(
            "serin-api",
            &[("serin-engine", Some("dev"))],
            &[
                "serin-api -> serin-engine is not an arrow of the house; serin-api may depend on no crate of the workspace",
            ],
        );
    }

    #[test]
    fn only_the_command_line_reads_arguments_and_the_engine_is_pure() {
        check(
            "serin-engine",
            &[("clap", None), ("tokio", None), ("tokio", Some("dev"))],
            &[
                "serin-engine must not use clap: only the command line reads arguments",
                "serin-engine must not use tokio: the engine does no IO, is never async, knows no client and draws no random number",
            ],
        );
    }

    #[test]
    fn a_crate_without_a_room_is_refused() {
        check(
            "serin-utils",
            &[],
            &["there is no crate 'utils': a helper lives with its first user"],
        );
        check(
            "serin-extra",
            &[],
            &[
                "'serin-extra' has no arrows: a new crate needs a dependency that the others must not have, a process of its own or an unsafe island; then it gets its line in xtask/src/arrows.rs and in ARCHITECTURE.md",
            ],
        );
    }

    #[test]
    fn a_dependency_is_found_in_its_manifest() {
        let manifest =
            "[package]\nname = \"a\"\n\n[dependencies]\nkube-core = \"1\"\nkube.workspace = true\n";
        assert_eq!(line_of(manifest, "kube"), 6);
        assert_eq!(line_of(manifest, "name"), 2);
        assert_eq!(line_of(manifest, "absent"), 1);
    }

    #[test]
    fn a_print_is_found_outside_the_command_line_only() {
        let text = "//! println!\nfn f() {\n    eprintln!(\"x\");\n    my_print!(1);\n}\n#[cfg(test)]\nmod tests {\n    fn g() { println!(); }\n}\n";
        let lines = |path: &str| {
            let file = SourceFile {
                path: path.to_owned(),
                text: text.to_owned(),
            };
            print_rule(&file).iter().map(|f| f.line).collect::<Vec<_>>()
        };
        assert_eq!(lines("crates/node/src/lib.rs"), [3]);
        assert_eq!(lines("crates/cli/src/main.rs"), [0_usize; 0]);
        assert_eq!(lines("crates/node/tests/it.rs"), [0_usize; 0]);
    }
}
