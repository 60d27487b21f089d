//! The rules of a schema in the Common Expression Language (`x-kubernetes-validations`), with a limit on what they may cost.

use kube_cel::cel::common::ast::{Expr, IdedExpr};
use kube_cel::{CompilationError, CompiledSchema, ErrorKind, ValidationError, Validator};
use serde_json::Value;
use serin_api::{FieldPath, Problem};

use super::fields;

/// What all rules of a schema may cost on one object, in steps of expressions; the limit of a cluster has the same size.
const MOST: u64 = 10_000_000;
/// A longer rule is refused, in bytes.
const MOST_BYTES: usize = 4096;
/// A rule with more brackets inside one another is refused before it is read.
const MOST_BRACKETS: usize = 64;
/// For reading rules, in bytes: the reader goes down some levels for each part of a rule. Only what is used takes memory.
const STACK: usize = 64 << 20;
/// A rule whose parts are nested deeper is refused, for it is walked by recursion.
const MOST_DEPTH: usize = 250;
/// Functions that make a list out of a text, which can be as long as that.
const SPLITTING: [&str; 2] = ["split", "findAll"];

/// The rules of one schema.
#[derive(Debug)]
pub(super) enum Rules {
    /// There are none.
    Absent,
    /// They cannot be read, so nothing can be said to hold.
    Unreadable,
    /// They were read; single ones may be broken.
    Compiled(Box<CompiledSchema>),
}

impl Rules {
    /// Reads the rules of a schema. Those that cannot be read are told by [`Rules::problems`].
    pub(super) fn compile(schema: &Value) -> Self {
        let rules = texts(schema);
        if rules.is_empty() {
            return Self::Absent;
        }
        if rules.into_iter().any(|rule| why_unreadable(rule).is_some()) {
            return Self::Unreadable;
        }
        let read = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let thread = thread.spawn_scoped(scope, || kube_cel::compile_schema(schema));
            thread.ok()?.join().ok()
        });
        read.map_or(Self::Unreadable, |schema| Self::Compiled(Box::new(schema)))
    }

    /// The rules that cannot be read, under the path of their schema.
    pub(super) fn problems(&self, path: &FieldPath) -> Vec<Problem> {
        let mut out = Vec::new();
        if let Self::Compiled(schema) = self {
            unreadable(schema, path, &mut out);
        }
        out
    }

    /// The rules that an object breaks. Rules about a change are asked when there is an old one.
    pub(super) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Problem> {
        let schema = match self {
            Self::Absent => return Vec::new(),
            Self::Unreadable => {
                let why = "the rules of its definition cannot be read";
                return vec![Problem::forbidden(FieldPath::root(), why)];
            }
            Self::Compiled(schema) => schema,
        };
        let cost = cost_of(schema, object);
        if cost > MOST {
            let why = format!(
                "the rules of its definition would take {cost} steps, and {MOST} are allowed: make its lists shorter"
            );
            return vec![Problem::forbidden(FieldPath::root(), &why)];
        }
        let broken = Validator::new().validate_compiled(schema, object, old);
        let broken = broken
            .err()
            .into_iter()
            .flat_map(|errors| errors.into_vec());
        broken.map(|error| problem(&error)).collect()
    }
}

/// Why a rule is not even read; `None` when it is.
pub(super) fn why_unreadable(rule: &str) -> Option<String> {
    if rule.len() > MOST_BYTES {
        return Some(format!("Too long: may not be more than {MOST_BYTES} bytes"));
    }
    let (mut open, mut most) = (0usize, 0usize);
    for byte in rule.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    (most > MOST_BRACKETS).then(|| format!("may have {MOST_BRACKETS} brackets inside one another"))
}

/// The texts of all rules of a schema, and of those that make their messages.
fn texts(schema: &Value) -> Vec<&str> {
    let own = schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    let own = own.into_iter().flatten().flat_map(|rule| {
        let names = ["rule", "messageExpression"].into_iter();
        names.filter_map(|name| rule.get(name)?.as_str())
    });
    let below: Vec<&str> = match schema {
        Value::Object(map) => map.values().flat_map(texts).collect(),
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    };
    own.chain(below).collect()
}

fn problem(error: &ValidationError) -> Problem {
    let path = FieldPath::new(error.field_path.as_str());
    if error.kind != ErrorKind::ValidationFailure {
        let why = format!(
            "rule {:?} cannot be evaluated: {}",
            error.rule, error.message
        );
        return Problem::invalid(path, "\"object\"", &why);
    }
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => Problem::forbidden(path, &error.message),
        Some("FieldValueRequired") => Problem::required(path, &error.message),
        Some("FieldValueDuplicate") => Problem::duplicate(path, &error.message),
        _ => Problem::invalid(path, "\"object\"", &error.message),
    }
}

fn unreadable(schema: &CompiledSchema, path: &FieldPath, out: &mut Vec<Problem>) {
    for (index, rule) in schema.validations.iter().enumerate() {
        let at = path.field("x-kubernetes-validations").index(index);
        let error = match rule {
            Ok(rule) if depth(rule.program.expression()) > MOST_DEPTH => {
                let why = format!("may be nested {MOST_DEPTH} deep");
                out.push(Problem::forbidden(at.field("rule"), &why));
                continue;
            }
            Ok(_) => continue,
            Err(error) => error,
        };
        let (name, source) = match error {
            CompilationError::Parse { rule, .. } => ("rule", rule.clone()),
            CompilationError::MessageExpressionParse {
                message_expression, ..
            } => ("messageExpression", message_expression.clone()),
            _ => ("rule", String::new()),
        };
        let why = format!("compilation failed: {error}").replace('\n', " ");
        out.push(Problem::invalid(
            at.field(name),
            format!("{source:?}"),
            &why,
        ));
    }
    let mut names: Vec<_> = schema.properties.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    for (name, child) in names {
        unreadable(child, &path.field("properties").key(name), out);
    }
    if let Some(items) = &schema.items {
        unreadable(items, &path.field("items"), out);
    }
    if let Some(additional) = &schema.additional_properties {
        unreadable(additional, &path.field("additionalProperties"), out);
    }
}

/// How deep the parts of an expression are nested; found without recursion.
fn depth(expression: &IdedExpr) -> usize {
    let mut left = vec![(expression, 1)];
    let mut deepest = 0;
    while let Some((expression, depth)) = left.pop() {
        deepest = deepest.max(depth);
        left.extend(
            children(&expression.expr)
                .into_iter()
                .map(|c| (c, depth + 1)),
        );
    }
    deepest
}

/// An upper bound of the steps that the rules of a schema take on a value.
fn cost_of(schema: &CompiledSchema, value: &Value) -> u64 {
    let rules = schema.validations.iter().flatten();
    let mut cost = rules.fold(0u64, |cost, rule| {
        let breadth = |splits| breadth(value, splits);
        cost.saturating_add(price(rule.program.expression(), &breadth))
    });
    for (name, child) in fields(value) {
        let known = schema.properties.get(name);
        if let Some(schema) = known.or(schema.additional_properties.as_deref()) {
            cost = cost.saturating_add(cost_of(schema, child));
        }
    }
    if let (Some(items), Some(list)) = (&schema.items, value.as_array()) {
        cost = list
            .iter()
            .fold(cost, |cost, item| cost.saturating_add(cost_of(items, item)));
    }
    let choices = [&schema.all_of, &schema.any_of, &schema.one_of];
    choices.into_iter().flatten().fold(cost, |cost, choice| {
        cost.saturating_add(cost_of(choice, value))
    })
}

/// The most elements that a list or a map in the value has; with `texts`, a text counts by its length.
fn breadth(value: &Value, texts: bool) -> u64 {
    let (own, inside) = match value {
        Value::Array(list) => (list.len(), list.iter().map(|v| breadth(v, texts)).max()),
        Value::Object(map) => (map.len(), map.values().map(|v| breadth(v, texts)).max()),
        Value::String(text) if texts => (text.len(), None),
        _ => (1, None),
    };
    (own as u64).max(inside.unwrap_or(1))
}

/// Every node of an expression costs a step, and what is done for each element costs it for each.
fn price(expression: &IdedExpr, breadth: &impl Fn(bool) -> u64) -> u64 {
    let elements = breadth(splits(expression));
    steps(expression, elements)
}

fn steps(expression: &IdedExpr, elements: u64) -> u64 {
    let each = match &expression.expr {
        Expr::Comprehension(inside) => {
            let once = [&inside.iter_range, &inside.accu_init, &inside.result];
            let often = [&inside.loop_cond, &inside.loop_step];
            let once = once.map(|e| steps(e, elements)).into_iter();
            let often = often.map(|e| steps(e, elements).saturating_mul(elements));
            once.chain(often).fold(0u64, u64::saturating_add)
        }
        other => children(other)
            .into_iter()
            .map(|child| steps(child, elements))
            .fold(0u64, u64::saturating_add),
    };
    each.saturating_add(1)
}

fn splits(expression: &IdedExpr) -> bool {
    let own = matches!(&expression.expr, Expr::Call(call) if SPLITTING.contains(&call.func_name.as_str()));
    own || children(&expression.expr).into_iter().any(splits)
}

fn children(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect(),
        Expr::Comprehension(inside) => vec![
            &inside.iter_range,
            &inside.accu_init,
            &inside.loop_cond,
            &inside.loop_step,
            &inside.result,
        ],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&*select.operand],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(rule: &str) -> Rules {
        Rules::compile(
            &json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"list": {"type": "array", "items": {"type": "integer"}}, "size": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": rule, "message": "it must be so"}]}}}),
        )
    }

    fn broken(rules: &Rules, object: &Value, old: Option<&Value>) -> Vec<String> {
        let problems = rules.check(object, old);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_held() {
        let small = json!({"spec": {"size": 1, "list": [1, 2]}});
        let large = json!({"spec": {"size": 9, "list": [1, 2]}});
        let limit = rules("self.size <= size(self.list)");
        assert_eq!(broken(&limit, &small, None), [""; 0]);
        let why = "spec: Invalid value: \"object\": it must be so";
        assert_eq!(broken(&limit, &large, None), [why]);
        let grows = rules("self.size >= oldSelf.size");
        assert_eq!(broken(&grows, &small, None), [""; 0]);
        assert_eq!(broken(&grows, &small, Some(&large)), [why]);
    }

    #[test]
    fn rules_that_would_take_too_long_are_not_begun() {
        let cubic = rules("self.list.all(a, self.list.all(b, self.list.all(c, a + b + c > 0)))");
        let list = |length: usize| json!({"spec": {"list": vec![1; length]}});
        assert_eq!(broken(&cubic, &list(20), None), [""; 0]);
        let told = broken(&cubic, &list(5000), None);
        assert!(told[0].contains("10000000 are allowed"), "{told:?}");
    }

    #[test]
    fn rules_that_are_too_deep_are_not_walked() {
        for rule in [
            format!("self{}", ".a".repeat(2000)),
            format!("1{} > 0", "+1".repeat(2000)),
        ] {
            let told = rules(&rule).problems(&FieldPath::new("schema"));
            assert_eq!(told.len(), 1, "{}", &rule[..20]);
        }
        for rule in [
            format!("{}1{} == 1", "(".repeat(2000), ")".repeat(2000)),
            format!("1{} > 0", "+1".repeat(1_000_000)),
        ] {
            assert!(why_unreadable(&rule).is_some());
            let rules = rules(&rule);
            assert!(matches!(rules, Rules::Unreadable));
            assert_eq!(rules.check(&json!({}), None).len(), 1, "nothing holds");
        }
    }

    #[test]
    fn a_broken_rule_is_told_with_its_place() {
        let problems = rules("self.size >").problems(&FieldPath::new("schema"));
        let place = problems[0].path.as_str();
        assert_eq!(
            place,
            "schema.properties[spec].x-kubernetes-validations[0].rule"
        );
    }
}
