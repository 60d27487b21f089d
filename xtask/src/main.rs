//! Chores of the repository that cargo itself does not do: `cargo xtask CHORE...`.
//!
//! Responsible for: `arrows`, who may depend on whom, and `tidy`, what every file of the repository keeps to.
//!
//! `protobuf API MACHINERY` prints the table by which the API server reads Protocol Buffers, of two unpacked Go modules.
//!
//! Absent on purpose: nothing here is needed to build or to run Serin, and no chore changes a file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::finding::{Finding, Severity};

mod arrows;
mod finding;
mod markdown;
mod protobuf;
mod rust_source;
mod tidy;
mod tree;

const USAGE: &str = "\
usage: cargo xtask CHORE...

  arrows   check which crate may depend on which, and that only the command line prints
  tidy     check length, module docs, white space, leftovers, paths and links of every file

  protobuf API MACHINERY   print the table of messages of the unpacked Go modules k8s.io/api and k8s.io/apimachinery
";

fn main() -> ExitCode {
    let chores: Vec<String> = std::env::args().skip(1).collect();
    match run(&chores, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // Nothing is left to be done when even the error stream is closed.
            let _ = writeln!(std::io::stderr(), "xtask: {problem:#}");
            ExitCode::from(2)
        }
    }
}

/// Does the chores in their order and writes what they find to `out`; `false` when one of them found an error.
fn run(chores: &[String], out: &mut impl Write) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask does not lie in a workspace")?;
    if chores.is_empty() {
        out.write_all(USAGE.as_bytes())?;
        return Ok(true);
    }
    if let [chore, api, machinery] = chores
        && chore == "protobuf"
    {
        out.write_all(protobuf::table(Path::new(api), Path::new(machinery))?.as_bytes())?;
        return Ok(true);
    }
    let mut passed = true;
    for chore in chores {
        let findings = match chore.as_str() {
            "arrows" => arrows::check(root)?,
            "tidy" => tidy::check(root)?,
            other => bail!("there is no chore '{other}'\n{USAGE}"),
        };
        passed &= report(chore, findings, out)?;
    }
    Ok(passed)
}

fn report(chore: &str, mut findings: Vec<Finding>, out: &mut impl Write) -> Result<bool> {
    findings.sort();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    let warnings = findings.len() - errors;
    writeln!(out, "{chore}: {errors} errors, {warnings} warnings")?;
    Ok(errors == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chores are a part of the test run, so that a plain `cargo test` finds what they find.
    #[track_caller]
    fn passes(chore: &str) {
        let mut out = Vec::new();
        let passed = run(&[chore.to_owned()], &mut out).unwrap();
        assert!(passed, "\n{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn every_arrow_of_the_workspace_is_allowed() {
        passes("arrows");
    }

    #[test]
    fn the_repository_is_tidy() {
        passes("tidy");
    }

    #[test]
    fn an_unknown_chore_is_named() {
        let problem = run(&["sweep".to_owned()], &mut Vec::new()).unwrap_err();
        assert!(
            problem
                .to_string()
                .starts_with("there is no chore 'sweep'\nusage:"),
            "{problem}"
        );
    }

    #[test]
    fn warnings_alone_pass() {
        let mut out = Vec::new();
        let warning = Finding::warning("a.rs", 3, "long");
        assert!(report("tidy", vec![warning], &mut out).unwrap());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a.rs:3: warning: long\ntidy: 0 errors, 1 warnings\n"
        );
    }
}
