//! The JSON paths of printer columns: `.spec.size`, `.status.conditions[?(@.type=="Ready")].status`, `.spec.list[0].x`.

use serde_json::Value;

/// A path that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// From 0; below 0 from the end.
    Index(i64),
    All,
    /// The elements in which the value at the path is this.
    Where(JsonPath, Value),
}

impl JsonPath {
    /// Reads a path; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        rest = rest
            .strip_prefix('{')
            .and_then(|r| r.strip_suffix('}'))
            .unwrap_or(rest);
        rest = rest.strip_prefix('$').unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after)?;
                let (inside, after) = after.split_at_checked(end)?;
                steps.push(bracket(inside)?);
                rest = after.strip_prefix(']')?;
                continue;
            }
            let after = rest.strip_prefix('.')?;
            let (name, after) = field(after);
            match name.as_str() {
                "" => return None,
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
            rest = after;
        }
        (!steps.is_empty()).then_some(Self(steps))
    }

    /// The first value at the path.
    pub(super) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.all(object).into_iter().next()
    }

    fn all<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![object], |found, step| {
            found.into_iter().flat_map(|at| step.from(at)).collect()
        })
    }
}

impl Step {
    fn from<'a>(&self, at: &'a Value) -> Vec<&'a Value> {
        let elements = || at.as_array().into_iter().flatten();
        match self {
            Self::Field(name) => at.get(name).into_iter().collect(),
            Self::Index(index) => {
                let length = at.as_array().map_or(0, Vec::len);
                let place = if *index < 0 {
                    i64::try_from(length).unwrap_or(i64::MAX) + index
                } else {
                    *index
                };
                let place = usize::try_from(place).ok();
                place.and_then(|place| at.get(place)).into_iter().collect()
            }
            Self::All => match at {
                Value::Object(map) => map.values().collect(),
                _ => elements().collect(),
            },
            Self::Where(path, wanted) => elements()
                .filter(|element| path.first(element) == Some(wanted))
                .collect(),
        }
    }
}

/// The name at the start, in which a backslash takes the meaning of the next character.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            _ => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket that is open ends.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(inside) {
        return Some(Step::Field(name));
    }
    let condition = inside.strip_prefix("?(").and_then(|i| i.strip_suffix(')'));
    let Some(condition) = condition else {
        return inside.parse().ok().map(Step::Index);
    };
    let (path, value) = condition.split_once("==")?;
    let path = JsonPath::parse(path.trim().strip_prefix('@')?)?;
    let value = value.trim();
    let value = match quoted(value) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(value).ok()?,
    };
    Some(Step::Where(path, value))
}

fn quoted(text: &str) -> Option<String> {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    let inside = inside('\'').or_else(|| inside('"'))?;
    Some(inside.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_their_values() {
        let object = json!({"spec": {"size": 3, "list": [{"x": 1}, {"x": 2}], "a.b": "dot", "m": {"k/x": "slash"}},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let table = [
            (".spec.size", Some(json!(3))),
            ("{.spec.size}", Some(json!(3))),
            ("$.spec.list[1].x", Some(json!(2))),
            (".spec.list[-1].x", Some(json!(2))),
            (".spec.list[*].x", Some(json!(1))),
            (r".spec.a\.b", Some(json!("dot"))),
            (".spec['a.b']", Some(json!("dot"))),
            (".spec.m['k/x']", Some(json!("slash"))),
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                Some(json!("True")),
            ),
            (".status.conditions[?(@.type == 'Nope')].status", None),
            (".nope.x", None),
        ];
        for (path, want) in table {
            let path = JsonPath::parse(path).unwrap();
            assert_eq!(path.first(&object), want.as_ref(), "{path:?}");
        }
        for wrong in ["", "spec", ".", ".a[", ".a[x]", ".a[?(@.b=1)]", "..a"] {
            assert_eq!(JsonPath::parse(wrong), None, "{wrong}");
        }
    }
}
