//! The page of the documentation that tells which commands were asked and how they ended.

use std::fmt::Write;

use crate::transcript::{Entry, Transcript};

const INTRODUCTION: &str = "\
# kubectl

The embedded API answers kubectl as a cluster does. This page is made from a test: every command below runs with every
version of kubectl named here, against a running Serin with real pods, and what it prints is compared with
[the transcript](../crates/cli/tests/data/kubectl/matrix.txt). It is a tested matrix, not a claim of conformance: `cp`, `top`,
`attach`, `debug`, `drain` and `proxy` are not in it.

`exec` speaks WebSocket with kubectl from 1.30 on and SPDY with older ones; `port-forward` speaks SPDY, from 1.31 on inside a WebSocket.

A tick stands for a command that does what it says; where a refusal is the right answer, its exit code stands in its place. Where
versions print different things, the transcript has each.
";

pub fn render(transcript: &Transcript) -> String {
    let mut out = INTRODUCTION.to_owned();
    for section in &transcript.sections {
        write!(out, "\n## {}\n\n| command |", section.title).unwrap();
        for version in &transcript.versions {
            write!(out, " {version} |").unwrap();
        }
        out.push_str("\n|---|");
        for _ in &transcript.versions {
            out.push_str("---|");
        }
        out.push('\n');
        for entry in &section.entries {
            out.push_str(&row(entry, &transcript.versions));
        }
    }
    out
}

fn row(entry: &Entry, versions: &[String]) -> String {
    let mut row = format!("| `{}` |", entry.command.replace('|', "\\|"));
    for version in versions {
        let mark = match entry.exit_code(version) {
            "0" => "✓",
            code => code,
        };
        write!(row, " {mark} |").unwrap();
    }
    row.push('\n');
    row
}
