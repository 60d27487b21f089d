//! A transcript: commands, what they tell, and where versions of kubectl differ. Kept in a file that a person can read.
//!
//! ```text
//! # A heading
//!
//! $ kubectl get nope
//! error: the server doesn't have a resource type "nope"
//! exit code 1
//!
//! $ kubectl label …
//! ~ 1.27, 1.28
//! what these tell
//! ~ 1.29
//! what this one tells
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

/// A transcript in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The versions of kubectl that were asked, such as `1.33`.
    pub versions: Vec<String>,
    pub sections: Vec<Section>,
}

/// Commands under one heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    pub title: String,
    pub entries: Vec<Entry>,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// For a shell.
    pub command: String,
    /// What it tells, by version; the last line is `exit code N` unless N is 0.
    pub told: BTreeMap<String, String>,
}

impl Transcript {
    pub fn parse(text: &str) -> Self {
        let mut transcript = Self::default();
        let mut of: Vec<String> = Vec::new();
        for line in text.lines() {
            if let Some(versions) = line.strip_prefix("kubectl: ") {
                transcript.versions = split(versions);
            } else if let Some(title) = line.strip_prefix("# ") {
                transcript.sections.push(Section {
                    title: title.to_owned(),
                    entries: Vec::new(),
                });
            } else if let Some(command) = line.strip_prefix("$ ") {
                of = transcript.versions.clone();
                let entries = &mut transcript.sections.last_mut().unwrap().entries;
                entries.push(Entry {
                    command: command.to_owned(),
                    told: of.iter().map(|v| (v.clone(), String::new())).collect(),
                });
            } else if let Some(versions) = line.strip_prefix("~ ") {
                of = split(versions);
            } else if let Some(told) = line.strip_prefix("  ").or((line == " ").then_some("")) {
                let entry = transcript.sections.last_mut().unwrap().entries.last_mut();
                let entry = entry.unwrap();
                for version in &of {
                    writeln!(entry.told.get_mut(version).unwrap(), "{told}").unwrap();
                }
            }
        }
        transcript
    }

    pub fn render(&self) -> String {
        let mut out = format!("kubectl: {}\n", self.versions.join(", "));
        for section in &self.sections {
            writeln!(out, "\n# {}", section.title).unwrap();
            for entry in &section.entries {
                writeln!(out, "\n$ {}", entry.command).unwrap();
                let groups = entry.groups();
                for (told, versions) in &groups {
                    if groups.len() > 1 {
                        writeln!(out, "~ {}", versions.join(", ")).unwrap();
                    }
                    for line in told.lines() {
                        writeln!(out, "  {line}").unwrap();
                    }
                }
            }
        }
        out
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.sections.iter().flat_map(|section| &section.entries)
    }
}

impl Entry {
    /// What is told, each with the versions that tell it, in the order of the versions.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for (version, told) in &self.told {
            match groups.iter_mut().find(|(known, _)| known == told) {
                Some((_, versions)) => versions.push(version),
                None => groups.push((told, vec![version])),
            }
        }
        groups
    }

    /// The exit code that a version ends with.
    pub fn exit_code(&self, version: &str) -> &str {
        let last = self.told.get(version).and_then(|told| told.lines().last());
        last.and_then(|line| line.strip_prefix("exit code "))
            .unwrap_or("0")
    }
}

fn split(versions: &str) -> Vec<String> {
    versions.split(", ").map(str::to_owned).collect()
}
