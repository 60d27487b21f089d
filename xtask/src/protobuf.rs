//! The table by which the API server reads objects in the wire form of Protocol Buffers: made of the public sources of Kubernetes.
//!
//! Two sources say it together: `generated.proto` has the numbers and the types of fields, `types.go` their names in JSON, which of them
//! are inlined, and which are there even when they are empty.
//!
//! Absent on purpose: comments, options and every form of a definition that those files do not use; such a line is an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The groups with kinds that the server has.
const GROUPS: [&str; 13] = [
    "core/v1",
    "apps/v1",
    "batch/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "networking/v1",
    "policy/v1",
    "discovery/v1",
    "coordination/v1",
    "rbac/v1",
    "authorization/v1",
    "authentication/v1",
    "events/v1",
];
/// What stands in the body of a request beside those kinds.
const OPTIONS: [&str; 1] = ["meta.v1.DeleteOptions"];
/// Messages with a form of their own in JSON, with their short names.
const SPECIAL: [(&str, &str); 7] = [
    ("meta.v1.Time", "Time"),
    ("meta.v1.MicroTime", "MicroTime"),
    ("meta.v1.FieldsV1", "FieldsV1"),
    (
        "k8s.io.apimachinery.pkg.util.intstr.IntOrString",
        "IntOrString",
    ),
    ("k8s.io.apimachinery.pkg.api.resource.Quantity", "Quantity"),
    (
        "k8s.io.apimachinery.pkg.runtime.RawExtension",
        "RawExtension",
    ),
    ("k8s.io.apimachinery.pkg.runtime.Unknown", "Unknown"),
];
const SCALARS: [&str; 6] = ["string", "bytes", "bool", "int32", "int64", "double"];

/// What `types.go` says of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    /// The name in JSON; `-` when the fields of the message stand in its place.
    json: String,
    /// Whether an empty value is written too.
    kept: bool,
}

type Tags = BTreeMap<(String, u32), Tag>;
type Messages = BTreeMap<String, Vec<(u32, String, String)>>;

/// The table, of the unpacked Go modules `k8s.io/api` and `k8s.io/apimachinery`.
pub(crate) fn table(api: &Path, machinery: &Path) -> Result<String> {
    let mut messages = Messages::new();
    let mut tags = Tags::new();
    let meta = machinery.join("pkg/apis/meta/v1");
    let packages = GROUPS
        .iter()
        .map(|group| (api.join(group), group.replace('/', ".")));
    for (folder, package) in packages.chain([(meta, "meta.v1".to_owned())]) {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        read_proto(&read("generated.proto")?, &package, &mut messages)?;
        read_go(&read("types.go")?, &package, &mut tags);
    }
    let mut out = String::from(
        "# Messages of Kubernetes by their names; below each its fields: number, name in JSON (- for inlined), type.\n\
         # [] marks a list, map: a map from text, * a field that is there even when it is empty,\n\
         # and a field called [] a message that is a bare list in JSON. Made by `cargo xtask protobuf`.\n",
    );
    for name in reachable(&messages) {
        write!(out, "\n{name}\n")?;
        for (number, field, type_) in messages.get(&name).into_iter().flatten() {
            let known = tags.get(&(name.clone(), *number));
            let of_a_list = (field == "items").then_some("[]");
            let json = of_a_list.with_context(|| format!("{name}: {field} has no tag in types.go"));
            let (json, mark) = known.map_or_else(
                || json.map(|json| (json, "")),
                |tag| Ok((tag.json.as_str(), if tag.kept { "*" } else { "" })),
            )?;
            writeln!(out, "{number} {json} {mark}{type_}")?;
        }
    }
    Ok(out)
}

/// The kinds, which are the messages with metadata, and the questions; and everything in them.
fn reachable(messages: &Messages) -> BTreeSet<String> {
    let is_kind = |fields: &[(u32, String, String)]| {
        fields
            .iter()
            .any(|(number, _, type_)| *number == 1 && type_ == "meta.v1.ObjectMeta")
    };
    let kinds = messages.iter().filter(|(_, fields)| is_kind(fields));
    let mut found: BTreeSet<String> = kinds.map(|(name, _)| name.clone()).collect();
    found.extend(OPTIONS.map(str::to_owned));
    let mut queue: VecDeque<String> = found.iter().cloned().collect();
    while let Some(name) = queue.pop_front() {
        for (_, _, type_) in messages.get(&name).into_iter().flatten() {
            let base = type_.trim_start_matches("[]").trim_start_matches("map:");
            if messages.contains_key(base) && !is_special(base) && found.insert(base.to_owned()) {
                queue.push_back(base.to_owned());
            }
        }
    }
    found
}

fn is_special(name: &str) -> bool {
    SPECIAL.iter().any(|(long, _)| *long == name)
}

fn read_proto(text: &str, package: &str, messages: &mut Messages) -> Result<()> {
    let mut message = None;
    let mut in_comment = false;
    for line in text.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if in_comment {
            in_comment = !line.ends_with("*/");
            continue;
        }
        let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
        match (words.as_slice(), &message) {
            ([], _) | (["package" | "import" | "option" | "syntax", ..], None) => {}
            ([first, ..], _) if first.starts_with("//") => {}
            (["message", name, "{"], None) => message = Some(format!("{package}.{name}")),
            (["}"], Some(_)) => message = None,
            (["optional" | "required", type_, field, "=", number], Some(name)) => {
                let field = (
                    number.parse()?,
                    (*field).to_owned(),
                    resolve(type_, package),
                );
                messages.entry(name.clone()).or_default().push(field);
            }
            (["repeated", type_, field, "=", number], Some(name)) => {
                let type_ = format!("[]{}", resolve(type_, package));
                let field = (number.parse()?, (*field).to_owned(), type_);
                messages.entry(name.clone()).or_default().push(field);
            }
            (["map<string,", type_, field, "=", number], Some(name)) => {
                let type_ = format!("map:{}", resolve(type_.trim_end_matches('>'), package));
                let field = (number.parse()?, (*field).to_owned(), type_);
                messages.entry(name.clone()).or_default().push(field);
            }
            _ => bail!("{package}: a line of an unknown form: {line}"),
        }
        if let Some(name) = &message {
            messages.entry(name.clone()).or_default();
        }
    }
    Ok(())
}

/// The short name of a type that a field of `package` names.
fn resolve(type_: &str, package: &str) -> String {
    if SCALARS.contains(&type_) {
        return type_.to_owned();
    }
    let absolute = type_.trim_start_matches('.');
    let short = if !absolute.starts_with("k8s.io.") {
        format!("{package}.{absolute}")
    } else if let Some(rest) = absolute.strip_prefix("k8s.io.api.") {
        rest.to_owned()
    } else if let Some(rest) = absolute.strip_prefix("k8s.io.apimachinery.pkg.apis.") {
        rest.to_owned()
    } else {
        absolute.to_owned()
    };
    let special = SPECIAL.iter().find(|(long, _)| *long == short);
    special.map_or(short, |(_, name)| (*name).to_owned())
}

fn read_go(text: &str, package: &str, tags: &mut Tags) {
    let mut name = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["type", type_, "struct", ..] => name = Some(format!("{package}.{type_}")),
            ["}"] => name = None,
            _ => {
                if let (Some(name), Some((number, tag))) = (&name, tag(line)) {
                    tags.insert((name.clone(), number), tag);
                }
            }
        }
    }
}

/// The tag of a field such as `Replicas *int32 "json:\"replicas,omitempty\" protobuf:\"varint,1,opt,name=replicas\""`.
fn tag(line: &str) -> Option<(u32, Tag)> {
    let (declared, tags) = line.split_once('`')?;
    if declared.trim_start().starts_with("//") {
        return None;
    }
    let value = |key: &str| {
        let (_, rest) = tags.split_once(&format!("{key}:\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let number = value("protobuf")?.split(',').nth(1)?.parse().ok()?;
    let (json, options) = value("json")?
        .split_once(',')
        .unwrap_or((value("json")?, ""));
    let inlined = options.split(',').any(|option| option == "inline");
    let is_pointer = declared.split_whitespace().last()?.starts_with('*');
    let kept = is_pointer || !options.split(',').any(|option| option == "omitempty");
    let json = if inlined { "-" } else { json };
    Some((
        number,
        Tag {
            json: json.to_owned(),
            kept: kept && !inlined,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let of = |line| tag(line).map(|(number, tag)| (number, tag.json, tag.kept));
        assert_eq!(
            of(
                "\tReplicas *int32 `json:\"replicas,omitempty\" protobuf:\"varint,1,opt,name=replicas\"`"
            ),
            Some((1, "replicas".to_owned(), true))
        );
        assert_eq!(
            of(
                "\tLocalObjectReference `json:\",inline\" protobuf:\"bytes,1,opt,name=localObjectReference\"`"
            ),
            Some((1, "-".to_owned(), false))
        );
        assert_eq!(
            of("\tPaused bool `json:\"paused,omitempty\" protobuf:\"varint,7,opt,name=paused\"`"),
            Some((7, "paused".to_owned(), false))
        );
        assert_eq!(
            of("\t// Old string `json:\"old\" protobuf:\"bytes,1,opt,name=old\"`"),
            None
        );
    }

    #[test]
    fn messages() {
        let text = "package k8s.io.api.apps.v1;\n// Said.\nmessage A {\n  // Said.\n  optional .k8s.io.apimachinery.pkg.apis.meta.v1.Time t = 3;\n  repeated B b = 4;\n  map<string, string> m = 5;\n}\n";
        let mut found = Messages::new();
        read_proto(text, "apps.v1", &mut found).unwrap();
        let field = |number, name: &str, type_: &str| (number, name.to_owned(), type_.to_owned());
        assert_eq!(
            found.get("apps.v1.A").unwrap(),
            &[
                field(3, "t", "Time"),
                field(4, "b", "[]apps.v1.B"),
                field(5, "m", "map:string")
            ]
        );
        assert!(read_proto("message A {\n  oneof x {\n", "p", &mut found).is_err());
    }
}
