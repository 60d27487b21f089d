//! A structural schema: every place of an object has one type, so that fields can be pruned and filled in.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use serin_api::{FieldPath, Problem};

use super::fields;
use super::rules::why_unreadable;
use crate::tree::Tree;

/// Schemas nested deeper than this are refused, for they are walked by recursion.
const DEEPEST: usize = 64;
/// A pattern may take no more memory than this, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// One place of an object.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// `None`: a value of any type.
    pub(super) type_: Option<Type>,
    pub(super) int_or_string: bool,
    pub(super) nullable: bool,
    /// Whether fields that are not known stay.
    pub(super) preserve: bool,
    /// Whether it is an object with `apiVersion`, `kind` and `metadata` of its own.
    pub(super) embedded: bool,
    pub(super) properties: BTreeMap<String, Node>,
    /// What the values of other fields look like.
    pub(super) additional: Option<Box<Node>>,
    pub(super) items: Option<Box<Node>>,
    pub(super) default: Option<Value>,
    pub(super) list: ListType,
    /// Whether server-side apply takes the object as one value.
    pub(super) atomic_map: bool,
    pub(super) limits: Limits,
    pub(super) all_of: Vec<Node>,
    pub(super) any_of: Vec<Node>,
    pub(super) one_of: Vec<Node>,
    pub(super) not: Option<Box<Node>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// How a list takes in another in server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// It is replaced.
    #[default]
    Atomic,
    /// Its values are a set.
    Set,
    /// Its elements are told apart by these fields.
    Map(Vec<String>),
}

/// What a value must be besides its type.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(super) required: Vec<String>,
    pub(super) words: Option<Vec<Value>>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) above_minimum: bool,
    pub(super) below_maximum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) pattern: Option<Regex>,
    pub(super) format: String,
    /// Characters of a text.
    pub(super) length: Bounds,
    /// Elements of a list.
    pub(super) count: Bounds,
    /// Fields of an object.
    pub(super) size: Bounds,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(super) least: Option<u64>,
    pub(super) most: Option<u64>,
}

const TYPES: [(&str, Type); 6] = [
    ("array", Type::Array),
    ("boolean", Type::Boolean),
    ("integer", Type::Integer),
    ("number", Type::Number),
    ("object", Type::Object),
    ("string", Type::String),
];

impl Type {
    pub(super) fn name(self) -> &'static str {
        let found = TYPES.iter().find(|(_, type_)| *type_ == self);
        found.map_or("", |(name, _)| name)
    }
}

impl Node {
    /// Reads a schema that stands at `path`; what does not make sense is told and left out.
    pub(super) fn compile(source: &Value, path: &FieldPath, out: &mut Vec<Problem>) -> Self {
        Compiler { out, depth: 0 }.structural(source, path)
    }

    /// The rule of the list at a path of field names, without the places in lists between them.
    pub(super) fn list_at(&self, path: &[String]) -> Option<&ListType> {
        let node = self.at(path)?;
        (node.type_ == Some(Type::Array)).then_some(&node.list)
    }

    /// The node at a path of field names, without the places in lists between them.
    pub(super) fn at(&self, path: &[String]) -> Option<&Self> {
        let mut node = self;
        for name in path {
            while let Some(items) = &node.items {
                node = items;
            }
            let known = node.properties.get(name);
            node = known.or(node.additional.as_deref())?;
        }
        Some(node)
    }
}

struct Compiler<'a> {
    out: &'a mut Vec<Problem>,
    depth: usize,
}

impl Compiler<'_> {
    /// A place of the object itself, which must have a type.
    fn structural(&mut self, source: &Value, path: &FieldPath) -> Node {
        if self.depth > DEEPEST {
            let why = format!("a schema may be nested {DEEPEST} deep");
            self.out.push(Problem::forbidden(path.clone(), &why));
            return Node::default();
        }
        self.depth += 1;
        let mut node = self.value(source, path);
        node.type_ = self.type_of(source, path, &node);
        self.children(&mut node, source, path);
        self.list(&mut node, source, path);
        self.not_supported(source, path);
        self.default(&node, path);
        self.depth -= 1;
        node
    }

    fn type_of(&mut self, source: &Value, path: &FieldPath, node: &Node) -> Option<Type> {
        let at = path.field("type");
        match source.at("/type") {
            Value::String(name) => {
                let found = TYPES.iter().find(|(known, _)| known == name);
                if found.is_none() {
                    let names = TYPES.map(|(name, _)| name);
                    self.out.push(Problem::not_supported(at, name, &names));
                }
                found.map(|(_, type_)| *type_)
            }
            Value::Null => {
                if !node.int_or_string && !node.preserve {
                    let why = match path.as_str() {
                        "" => "must not be empty at the root",
                        p if p.ends_with("openAPIV3Schema") => "must not be empty at the root",
                        p if p.ends_with("items") => "must not be empty for specified array items",
                        _ => "must not be empty for specified object fields",
                    };
                    self.out.push(Problem::required(at, why));
                }
                None
            }
            other => {
                let found = other.to_string();
                self.out.push(Problem::wrong_type(at, "string", &found));
                None
            }
        }
    }

    fn children(&mut self, node: &mut Node, source: &Value, path: &FieldPath) {
        let properties = source.at("/properties");
        for (name, child) in fields(properties) {
            let at = path.field("properties").key(name);
            node.properties
                .insert(name.clone(), self.structural(child, &at));
        }
        let additional = path.field("additionalProperties");
        match source.at("/additionalProperties") {
            Value::Null => {}
            Value::Bool(false) => {
                let why = "additionalProperties cannot be set to false";
                self.out.push(Problem::forbidden(additional, why));
            }
            Value::Bool(true) => {
                node.additional = Some(Box::new(Node {
                    preserve: true,
                    ..Node::default()
                }));
            }
            _ if properties.as_object().is_some_and(|p| !p.is_empty()) => {
                let why = "additionalProperties and properties are mutual exclusive";
                self.out.push(Problem::forbidden(additional, why));
            }
            child => node.additional = Some(Box::new(self.structural(child, &additional))),
        }
        let items = path.field("items");
        match source.at("/items") {
            Value::Null if node.type_ == Some(Type::Array) => {
                self.out.push(Problem::required(items, "must be specified"));
            }
            Value::Null => {}
            Value::Array(_) => {
                let why = "items must be a schema object and not an array";
                self.out.push(Problem::forbidden(items, why));
            }
            child => node.items = Some(Box::new(self.structural(child, &items))),
        }
    }

    fn list(&mut self, node: &mut Node, source: &Value, path: &FieldPath) {
        let keys: Vec<String> = texts(source.at("/x-kubernetes-list-map-keys"));
        let at = path.field("x-kubernetes-list-type");
        node.list = match source.at("/x-kubernetes-list-type").as_str() {
            None | Some("atomic") => ListType::Atomic,
            Some("set") => ListType::Set,
            Some("map") => {
                self.map_keys(node, &keys, path);
                ListType::Map(keys)
            }
            Some(other) => {
                let known = ["atomic", "set", "map"];
                self.out.push(Problem::not_supported(at, other, &known));
                ListType::Atomic
            }
        };
    }

    fn map_keys(&mut self, node: &Node, keys: &[String], path: &FieldPath) {
        let at = path.field("x-kubernetes-list-map-keys");
        if keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            self.out.push(Problem::required(at.clone(), why));
        }
        let Some(items) = &node.items else {
            return;
        };
        for (index, key) in keys.iter().enumerate() {
            let known = items.properties.get(key);
            let always =
                known.is_some_and(|k| k.default.is_some()) || items.limits.required.contains(key);
            if known.is_none() || !always {
                let why = "entries must all be names of item properties that are required or have a default";
                let problem = Problem::invalid(at.index(index), format!("{key:?}"), why);
                self.out.push(problem);
            }
        }
    }

    /// A default is an object like any other.
    fn default(&mut self, node: &Node, path: &FieldPath) {
        if let Some(default) = &node.default {
            let at = path.field("default");
            self.out.extend(super::check::check(node, default, &at));
        }
    }

    fn not_supported(&mut self, source: &Value, path: &FieldPath) {
        for name in [
            "$ref",
            "definitions",
            "dependencies",
            "deprecated",
            "discriminator",
            "id",
            "patternProperties",
            "readOnly",
            "writeOnly",
            "xml",
            "additionalItems",
        ] {
            if !source[name].is_null() {
                let why = format!("{name} is not supported");
                self.out.push(Problem::forbidden(path.field(name), &why));
            }
        }
        if source.at("/uniqueItems") == true {
            let why =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            let at = path.field("uniqueItems");
            self.out.push(Problem::forbidden(at, why));
        }
    }

    /// What a value must be, wherever the schema stands: at a place of the object or inside `allOf` and its like.
    fn value(&mut self, source: &Value, path: &FieldPath) -> Node {
        if !source.is_object() {
            let found = source.to_string();
            self.out
                .push(Problem::wrong_type(path.clone(), "object", &found));
        }
        let preserve = "x-kubernetes-preserve-unknown-fields";
        if source[preserve] == false {
            let at = path.field(preserve);
            let why = "must be true or undefined";
            self.out.push(Problem::invalid(at, false, why));
        }
        self.rules(source, path);
        let default = source.at("/default");
        Node {
            int_or_string: source["x-kubernetes-int-or-string"] == true,
            nullable: source.at("/nullable") == true,
            atomic_map: source["x-kubernetes-map-type"] == "atomic",
            preserve: source[preserve] == true,
            embedded: source["x-kubernetes-embedded-resource"] == true,
            default: (!default.is_null()).then(|| default.clone()),
            limits: self.limits(source, path),
            all_of: self.choices(source, "allOf", path),
            any_of: self.choices(source, "anyOf", path),
            one_of: self.choices(source, "oneOf", path),
            not: source
                .get("not")
                .map(|not| Box::new(self.condition(not, &path.field("not")))),
            ..Node::default()
        }
    }

    /// What is said of rules here is that they can be read at all.
    fn rules(&mut self, source: &Value, path: &FieldPath) {
        let rules = source["x-kubernetes-validations"].as_array();
        for (index, rule) in rules.into_iter().flatten().enumerate() {
            let at = path.field("x-kubernetes-validations").index(index);
            for name in ["rule", "messageExpression"] {
                let text = rule[name].as_str().unwrap_or_default();
                if let Some(why) = why_unreadable(text) {
                    let at = at.field(name);
                    self.out.push(Problem::invalid(at, "(not shown)", &why));
                }
            }
        }
    }

    fn choices(&mut self, source: &Value, name: &str, path: &FieldPath) -> Vec<Node> {
        let list = source[name].as_array().into_iter().flatten();
        let path = path.field(name);
        list.enumerate()
            .map(|(index, choice)| self.condition(choice, &path.index(index)))
            .collect()
    }

    /// A condition beside the structure: it says more of places that have their type elsewhere.
    fn condition(&mut self, source: &Value, path: &FieldPath) -> Node {
        if self.depth > DEEPEST {
            let why = format!("a schema may be nested {DEEPEST} deep");
            self.out.push(Problem::forbidden(path.clone(), &why));
            return Node::default();
        }
        self.depth += 1;
        let mut node = self.value(source, path);
        let name = source.at("/type").as_str();
        let found = TYPES.iter().find(|(known, _)| Some(*known) == name);
        node.type_ = found.map(|(_, type_)| *type_);
        for (name, child) in fields(source.at("/properties")) {
            let at = path.field("properties").key(name);
            node.properties
                .insert(name.clone(), self.condition(child, &at));
        }
        for (slot, name) in [
            (&mut node.items, "items"),
            (&mut node.additional, "additionalProperties"),
        ] {
            let child = source.get(name).filter(|child| child.is_object());
            *slot = child.map(|child| Box::new(self.condition(child, &path.field(name))));
        }
        // Beside the structure nothing is unknown.
        node.preserve = true;
        self.depth -= 1;
        node
    }

    fn limits(&mut self, source: &Value, path: &FieldPath) -> Limits {
        let bounds = |least: &str, most: &str| Bounds {
            least: source[least].as_u64(),
            most: source[most].as_u64(),
        };
        Limits {
            required: texts(source.at("/required")),
            words: source.at("/enum").as_array().cloned(),
            minimum: source.at("/minimum").as_f64(),
            maximum: source.at("/maximum").as_f64(),
            above_minimum: source.at("/exclusiveMinimum") == true,
            below_maximum: source.at("/exclusiveMaximum") == true,
            multiple_of: source.at("/multipleOf").as_f64().filter(|n| *n > 0.0),
            pattern: self.pattern(source, path),
            format: source.at("/format").as_str().unwrap_or_default().to_owned(),
            length: bounds("minLength", "maxLength"),
            count: bounds("minItems", "maxItems"),
            size: bounds("minProperties", "maxProperties"),
        }
    }

    fn pattern(&mut self, source: &Value, path: &FieldPath) -> Option<Regex> {
        let text = source.at("/pattern").as_str()?;
        let limited = regex::RegexBuilder::new(text)
            .size_limit(PATTERN_SIZE)
            .build();
        match limited {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                // Its text shows the pattern over several lines; the last one says what is wrong.
                let error = error.to_string();
                let error = error.lines().last().unwrap_or_default();
                let why = format!("must be a valid regular expression, but isn't: {error}");
                let at = path.field("pattern");
                self.out
                    .push(Problem::invalid(at, format!("{text:?}"), &why));
                None
            }
        }
    }
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}
