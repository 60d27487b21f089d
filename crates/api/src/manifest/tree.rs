//! The tree of values with positions, and its builder, which both readers feed with the same events.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{MOST_BYTES, MOST_DEPTH, MOST_NODES, Position};

/// Faults of one text that do not stop the reading; more are not told.
const MOST_FAULTS: usize = 100;

/// A value and where it begins. Aliases share what they stand for.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) content: Content,
    /// How many values it is, with those inside.
    size: Size,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

/// An entry of a map. Its place is that of its key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) value: Arc<Node>,
}

/// What reading a text has given.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The documents with their numbers, from 1.
    pub(super) documents: Vec<(usize, Arc<Node>)>,
    pub(super) faults: Vec<Fault>,
}

/// Something in the text that is not as it should be.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Position,
    /// The number of the document, from 1; 0 for the text as a whole.
    pub(super) document: usize,
    pub(super) message: String,
}

impl Parsed {
    pub(super) fn stopped(at: Position, message: String) -> Self {
        let fault = Fault {
            at,
            document: 0,
            message,
        };
        Self {
            documents: Vec::new(),
            faults: vec![fault],
        }
    }
}

impl Node {
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(|item| item.to_value()).collect(),
            Content::Map(entries) => {
                let entries = entries.iter().map(|e| (e.key.clone(), e.value.to_value()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl Content {
    /// What it is, for a person.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Scalar(Value::Null) => "nothing",
            Self::Scalar(Value::Bool(_)) => "a boolean",
            Self::Scalar(Value::Number(_)) => "a number",
            Self::Scalar(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

/// Whether a map is a list of objects, as `kubectl get -o yaml` writes it.
pub(super) fn is_list(entries: &[Entry]) -> bool {
    let kind = entries.iter().find(|entry| entry.key == "kind");
    let items = entries.iter().any(|entry| entry.key == "items");
    let kind = kind.and_then(|entry| match &entry.value.content {
        Content::Scalar(Value::String(text)) => Some(text.as_str()),
        _ => None,
    });
    items && kind.is_some_and(|kind| kind.ends_with("List"))
}

/// The place of the deepest value on a path in the notation of [`crate::FieldPath`].
pub(super) fn locate(root: &Node, path: &str) -> Position {
    let (mut node, mut at, mut rest) = (root, root.at, path);
    while !rest.is_empty() {
        let found = match &node.content {
            Content::Scalar(_) => None,
            Content::List(items) => element(items, rest).map(|(item, rest)| (item, item.at, rest)),
            Content::Map(entries) => {
                entry(entries, rest).map(|(entry, rest)| (&entry.value, entry.at, rest))
            }
        };
        let Some(found) = found else { break };
        (node, at, rest) = (found.0, found.1, found.2);
    }
    at
}

/// The element that a path begins with, and the rest of the path.
fn element<'a, 'p>(items: &'a [Arc<Node>], path: &'p str) -> Option<(&'a Arc<Node>, &'p str)> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((items.get(index.parse::<usize>().ok()?)?, rest))
}

/// The entry that a path begins with, and the rest of the path. Keys may contain dots and brackets: the longest one counts.
fn entry<'a, 'p>(entries: &'a [Entry], path: &'p str) -> Option<(&'a Entry, &'p str)> {
    let candidates = entries.iter().filter_map(|entry| {
        let rest = match path.strip_prefix('[') {
            Some(path) => path.strip_prefix(entry.key.as_str())?.strip_prefix(']')?,
            None => {
                let path = path.strip_prefix('.').unwrap_or(path);
                path.strip_prefix(entry.key.as_str())?
            }
        };
        let ends = rest.is_empty() || rest.starts_with(['.', '[']);
        ends.then_some((entry, rest))
    });
    candidates.max_by_key(|(entry, _)| entry.key.len())
}

/// How much a value is, with what aliases in it stand for.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Puts events together. A method fails when the reading must stop.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    /// What aliases may stand for; by the number of the anchor, which is above 0.
    anchors: BTreeMap<usize, Arc<Node>>,
    /// How much has been read.
    total: Size,
    document: usize,
    pub(super) parsed: Parsed,
}

/// A list or a map that has not ended yet.
struct Open {
    at: Position,
    anchor: usize,
    size: Size,
    inside: Inside,
}

enum Inside {
    List(Vec<Arc<Node>>),
    Map {
        entries: Vec<Entry>,
        /// Keys and where they stand.
        seen: BTreeMap<String, Position>,
        /// Values of merge keys.
        merged: Vec<Arc<Node>>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

enum Key {
    Plain(String, Position),
    Merge,
}

/// Why the reading must stop.
pub(super) type Stop = (Position, String);

impl Builder {
    /// A new document begins.
    pub(super) fn next_document(&mut self) {
        self.document += 1;
        self.open.clear();
        self.anchors.clear();
    }

    /// Whether the next value is the key of a map.
    pub(super) fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                inside: Inside::Map { key: None, .. },
                ..
            })
        )
    }

    /// Tells something that does not stop the reading.
    pub(super) fn fault(&mut self, at: Position, message: String) {
        if self.parsed.faults.len() < MOST_FAULTS {
            let document = self.document;
            self.parsed.faults.push(Fault {
                at,
                document,
                message,
            });
        }
    }

    pub(super) fn open_list(&mut self, at: Position, anchor: usize) -> Result<(), Stop> {
        self.open(at, anchor, Inside::List(Vec::new()))
    }

    pub(super) fn open_map(&mut self, at: Position, anchor: usize) -> Result<(), Stop> {
        let inside = Inside::Map {
            entries: Vec::new(),
            seen: BTreeMap::new(),
            merged: Vec::new(),
            key: None,
        };
        self.open(at, anchor, inside)
    }

    /// The key of the next value; `merge` for the merge key `<<`.
    pub(super) fn key(&mut self, text: &str, at: Position, merge: bool) -> Result<(), Stop> {
        self.spend(
            Size {
                nodes: 0,
                bytes: text.len(),
            },
            at,
        )?;
        let Some(Open {
            inside: Inside::Map { seen, key, .. },
            size,
            ..
        }) = self.open.last_mut()
        else {
            return Ok(());
        };
        size.add(Size {
            nodes: 0,
            bytes: text.len(),
        });
        if merge {
            *key = Some(Key::Merge);
            return Ok(());
        }
        *key = Some(Key::Plain(text.to_owned(), at));
        if let Some(first) = seen.insert(text.to_owned(), at) {
            let message = format!(
                "duplicate key {text:?}: it stands in line {} already",
                first.line
            );
            self.fault(at, message);
        }
        Ok(())
    }

    pub(super) fn scalar(&mut self, value: Value, at: Position, anchor: usize) -> Result<(), Stop> {
        let bytes = value.as_str().map_or(0, str::len);
        let size = Size { nodes: 1, bytes };
        self.spend(size, at)?;
        let node = Node {
            at,
            content: Content::Scalar(value),
            size,
        };
        self.put(Arc::new(node), anchor)
    }

    /// A value that stands elsewhere already. An alias to something around it is no value.
    pub(super) fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err((at, "an alias to a value that has not ended yet".to_owned()));
        };
        self.spend(node.size, at)?;
        if self.wants_key() {
            return match &node.content {
                Content::Scalar(Value::String(text)) => self.key(text, at, false),
                other => Err((at, format!("a key must be text, found {}", other.name()))),
            };
        }
        self.put(node, 0)
    }

    /// The innermost list or map ends.
    pub(super) fn close(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let Open {
            at,
            anchor,
            mut size,
            inside,
        } = open;
        let content = match inside {
            Inside::List(items) => Content::List(items),
            Inside::Map {
                mut entries,
                mut seen,
                merged,
                ..
            } => {
                for source in merged {
                    size.add(self.merge(&mut entries, &mut seen, &source)?);
                }
                Content::Map(entries)
            }
        };
        size.nodes = size.nodes.saturating_add(1);
        self.put(Arc::new(Node { at, content, size }), anchor)
    }

    fn open(&mut self, at: Position, anchor: usize, inside: Inside) -> Result<(), Stop> {
        if self.wants_key() {
            return Err((at, "a key must be text, found a list or a map".to_owned()));
        }
        if self.open.len() >= MOST_DEPTH {
            return Err((
                at,
                format!("more than {MOST_DEPTH} lists and maps inside one another"),
            ));
        }
        self.spend(Size { nodes: 1, bytes: 0 }, at)?;
        self.open.push(Open {
            at,
            anchor,
            size: Size::default(),
            inside,
        });
        Ok(())
    }

    fn spend(&mut self, size: Size, at: Position) -> Result<(), Stop> {
        self.total.add(size);
        if self.total.nodes > MOST_NODES {
            return Err((
                at,
                format!("more than {MOST_NODES} values, counting what aliases stand for"),
            ));
        }
        // Without aliases it cannot be more than the text itself.
        if self.total.bytes > 2 * MOST_BYTES {
            return Err((
                at,
                format!(
                    "more than {} bytes, counting what aliases stand for",
                    2 * MOST_BYTES
                ),
            ));
        }
        Ok(())
    }

    fn put(&mut self, node: Arc<Node>, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        let Some(open) = self.open.last_mut() else {
            self.parsed.documents.push((self.document, node));
            return Ok(());
        };
        open.size.add(node.size);
        match &mut open.inside {
            Inside::List(items) => items.push(node),
            Inside::Map {
                entries,
                merged,
                key,
                ..
            } => match key.take() {
                Some(Key::Plain(key, at)) => entries.push(Entry {
                    key,
                    at,
                    value: node,
                }),
                Some(Key::Merge) => merged.push(node),
                None => {
                    let message = format!("a key must be text, found {}", node.content.name());
                    return Err((node.at, message));
                }
            },
        }
        Ok(())
    }

    /// Entries of a merged map fill in keys that are not there; of several maps the first counts.
    fn merge(
        &mut self,
        entries: &mut Vec<Entry>,
        seen: &mut BTreeMap<String, Position>,
        source: &Node,
    ) -> Result<Size, Stop> {
        let mut size = Size::default();
        for added in maps(source)?.into_iter().flatten() {
            if seen.contains_key(&added.key) {
                continue;
            }
            let mut one = added.value.size;
            one.bytes = one.bytes.saturating_add(added.key.len());
            self.spend(one, source.at)?;
            size.add(one);
            seen.insert(added.key.clone(), added.at);
            entries.push(added.clone());
        }
        Ok(size)
    }
}

/// The maps that a merge key stands for.
fn maps(source: &Node) -> Result<Vec<&[Entry]>, Stop> {
    let list = match &source.content {
        Content::Map(entries) => return Ok(vec![entries]),
        Content::List(list) => list.as_slice(),
        Content::Scalar(_) => &[],
    };
    let maps: Vec<&[Entry]> = list
        .iter()
        .filter_map(|item| match &item.content {
            Content::Map(entries) => Some(entries.as_slice()),
            _ => None,
        })
        .collect();
    if maps.is_empty() || maps.len() < list.len() {
        let message = "the value of << must be a map or a list of maps".to_owned();
        return Err((source.at, message));
    }
    Ok(maps)
}
