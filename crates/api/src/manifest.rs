//! Manifests: text with one or more objects, in YAML or JSON, read with every problem at once, each with its line and column.
//!
//! The text is read into a tree that knows positions; from it come the objects, and each problem of an object is told at the
//! deepest field of its path that stands in the text. Scalars are those of the YAML 1.2 core schema, with one exception for
//! file modes (`0644` is octal, as in kubectl). Every size has a cap, so that no text takes long or much memory.
//! Absent on purpose: files. The caller reads them, and names the source.

mod istio;
mod json;
mod kind;
mod scalar;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::kinds::Kind;
use crate::problem::ProblemKind;
use crate::{FieldPath, Problem, Severity, validate};
use tree::{Content, Node, Parsed};

/// Longer text is refused, in bytes.
pub const MOST_BYTES: usize = 3 * 1024 * 1024;
/// Lists and maps inside one another.
pub const MOST_DEPTH: usize = 100;
/// Values in one text, with those that aliases stand for.
pub const MOST_NODES: usize = 200_000;

/// More problems than these are not told.
const MOST_PROBLEMS: usize = 500;

/// What stands in a text.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects, in order; those with problems too.
    pub objects: Vec<Document>,
    /// Every problem and warning, in the order of the text; of very many the first ones.
    pub problems: Vec<Located>,
}

/// One object of a text.
#[derive(Debug)]
pub struct Document {
    /// The object as it is written.
    pub object: Value,
    /// Its kind; `None` when it is not built in.
    pub kind: Option<&'static Kind>,
    /// The line on which it begins, from 1.
    pub line: u32,
    /// The number of its document in the text, from 1; a `List` makes several objects of one document.
    pub document: usize,
    node: Arc<Node>,
}

/// A problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The name of the text, such as a file.
    pub source: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The number of the document in the text, from 1; 0 for a problem of the text as a whole.
    pub document: usize,
    /// Kind and name, such as `Deployment/web-app`; empty when there is no object.
    pub object: String,
    /// What is wrong.
    pub problem: Problem,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// Reads YAML or JSON. `source` is the name of the text in problems.
pub fn parse(text: &str, source: &str) -> Manifest {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reading = Reading {
        source,
        manifest: Manifest::default(),
    };
    let parsed = match unreadable(text) {
        Some((at, message)) => Parsed::stopped(at, message),
        None => read(text),
    };
    for (document, node) in &parsed.documents {
        reading.document(*document, node);
    }
    for fault in parsed.faults {
        let problem = syntax(fault.message);
        reading.tell(fault.at, fault.document, String::new(), problem);
    }
    reading.twice();
    reading.istio();
    let mut manifest = reading.manifest;
    manifest.problems.sort_by_key(|p| (p.line, p.column));
    manifest
}

/// The same for bytes that should be UTF-8.
pub fn parse_bytes(bytes: &[u8], source: &str) -> Manifest {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(text, source),
        Err(error) => error,
    };
    let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let at = end_of(&String::from_utf8_lossy(good));
    let message = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the text is UTF-16; save it as UTF-8",
        _ => "the text is not UTF-8 here",
    };
    Manifest {
        objects: Vec::new(),
        problems: vec![Located {
            source: source.to_owned(),
            line: at.line,
            column: at.column,
            document: 0,
            object: String::new(),
            problem: syntax(message.to_owned()),
        }],
    }
}

impl Manifest {
    /// Whether a problem refuses the text.
    pub fn is_refused(&self) -> bool {
        self.problems.iter().any(|p| p.problem.is_error())
    }
}

impl Document {
    /// Where a field stands in the text; a field that does not stand there has the place of the deepest one around it.
    pub fn position(&self, path: &FieldPath) -> Position {
        tree::locate(&self.node, path.as_str())
    }

    /// Kind and name, such as `Deployment/web-app`, as far as they are known.
    pub fn title(&self) -> String {
        let text = |pointer| self.object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or("object");
        match (text("/metadata/name"), text("/metadata/generateName")) {
            (Some(name), _) if !name.is_empty() => format!("{kind}/{name}"),
            (_, Some(prefix)) => format!("{kind}/{prefix}*"),
            _ => kind.to_owned(),
        }
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            line,
            column,
            object,
            ..
        } = self;
        write!(f, "{source}:{line}:{column}: ")?;
        if !object.is_empty() {
            write!(f, "{object}: ")?;
        }
        if self.problem.severity != Severity::Error {
            f.write_str("warning: ")?;
        }
        write!(f, "{}", self.problem)
    }
}

struct Reading<'s> {
    source: &'s str,
    manifest: Manifest,
}

impl Reading<'_> {
    fn tell(&mut self, at: Position, document: usize, object: String, problem: Problem) {
        if self.manifest.problems.len() >= MOST_PROBLEMS {
            return;
        }
        self.manifest.problems.push(Located {
            source: self.source.to_owned(),
            line: at.line,
            column: at.column,
            document,
            object,
            problem,
        });
    }

    /// An empty document is none; a `List` is its items.
    fn document(&mut self, number: usize, node: &Arc<Node>) {
        match &node.content {
            Content::Scalar(Value::Null) => {}
            Content::Map(entries) if tree::is_list(entries) => {
                let items = entries.iter().find(|entry| entry.key == "items");
                match items.map(|entry| &entry.value.content) {
                    Some(Content::List(items)) => {
                        items.iter().for_each(|item| self.document(number, item));
                    }
                    _ => self.object(number, node),
                }
            }
            Content::Map(_) => self.object(number, node),
            other => {
                let message = format!("expected an object, found {}", other.name());
                self.tell(node.at, number, String::new(), syntax(message));
            }
        }
    }

    fn object(&mut self, number: usize, node: &Arc<Node>) {
        let object = node.to_value();
        let (kind, problems) = match kind::of(&object) {
            Ok(Some(kind)) => (Some(kind), validate::check(kind, &object)),
            Ok(None) => (None, Vec::new()),
            Err(problems) => (None, problems),
        };
        let document = Document {
            object,
            kind,
            line: node.at.line,
            document: number,
            node: Arc::clone(node),
        };
        let title = document.title();
        for problem in problems {
            let at = document.position(&problem.path);
            self.tell(at, number, title.clone(), problem);
        }
        self.manifest.objects.push(document);
    }

    /// Of two objects with one name the second would silently replace the first.
    fn twice(&mut self) {
        let mut seen: BTreeMap<[String; 4], u32> = BTreeMap::new();
        let mut found = Vec::new();
        for document in &self.manifest.objects {
            let text = |pointer| document.object.pointer(pointer).and_then(Value::as_str);
            let Some(name) = text("/metadata/name") else {
                continue;
            };
            let names = [
                text("/apiVersion"),
                text("/kind"),
                text("/metadata/namespace"),
                Some(name),
            ];
            let key = names.map(|name| name.unwrap_or_default().to_owned());
            match seen.get(&key) {
                Some(first) => {
                    let path = FieldPath::new("metadata.name");
                    let at = document.position(&path);
                    let message =
                        format!("the same object stands in line {first}; the later one wins");
                    found.push((
                        at,
                        document.document,
                        document.title(),
                        Problem::warning(path, message),
                    ));
                }
                None => {
                    seen.insert(key, document.line);
                }
            }
        }
        for (at, document, title, problem) in found {
            self.tell(at, document, title, problem);
        }
    }

    /// What Istio's objects say of each other.
    fn istio(&mut self) {
        let objects: Vec<_> = self.manifest.objects.iter().map(|d| &d.object).collect();
        let found: Vec<_> = istio::check(&objects)
            .into_iter()
            .filter_map(|(index, problem)| {
                let document = self.manifest.objects.get(index)?;
                let at = document.position(&problem.path);
                Some((at, document.document, document.title(), problem))
            })
            .collect();
        for (at, document, title, problem) in found {
            self.tell(at, document, title, problem);
        }
    }
}

fn syntax(message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        kind: ProblemKind::Invalid,
        path: FieldPath::root(),
        message,
    }
}

/// JSON is YAML but for details of its strings, so text that looks like JSON is first read as such.
fn read(text: &str) -> Parsed {
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    if looks_like_json && let Some(parsed) = json::read(text) {
        return parsed;
    }
    yaml::read(text)
}

/// Why text is not even looked at, and where.
fn unreadable(text: &str) -> Option<(Position, String)> {
    if text.len() > MOST_BYTES {
        let message = format!(
            "the text has {} bytes, more than {MOST_BYTES}; split it",
            text.len()
        );
        return Some((Position { line: 1, column: 1 }, message));
    }
    let is_bad = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    let (index, bad) = text.char_indices().find(|(_, c)| is_bad(*c))?;
    let at = end_of(text.get(..index).unwrap_or_default());
    let message = format!("control character U+{:04X} in the text", u32::from(bad));
    Some((at, message))
}

/// The place right behind a text.
fn end_of(text: &str) -> Position {
    let lines = text.bytes().filter(|b| *b == b'\n').count();
    let last = text.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    Position {
        line: count(lines),
        column: count(last.chars().count()),
    }
}
