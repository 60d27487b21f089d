//! The rules of a schema in the Common Expression Language (`x-kubernetes-validations`), with a limit on what they may cost.

use kube_cel::cel::common::ast::{Expr, IdedExpr};
use kube_cel::{CompilationError, CompiledSchema, ErrorKind, ValidationError, Validator};
use serde_json::Value;
use serin_api::{FieldPath, Problem};

use super::fields;

/// What all rules of a schema may cost on one object, in steps of expressions; the limit of a cluster has the same size.
const MOST: u64 = 10_000_000;
/// Functions that make a list out of a text, which can be as long as that.
const SPLITTING: [&str; 2] = ["split", "findAll"];

/// The rules of one schema.
#[derive(Debug)]
pub(super) struct Rules {
    /// `None`: there are no rules.
    compiled: Option<CompiledSchema>,
}

impl Rules {
    /// Reads the rules of a schema. Those that cannot be read are told by [`Rules::problems`].
    pub(super) fn compile(schema: &Value) -> Self {
        Self {
            compiled: has_rules(schema).then(|| kube_cel::compile_schema(schema)),
        }
    }

    /// The rules that cannot be read, under the path of their schema.
    pub(super) fn problems(&self, path: &FieldPath) -> Vec<Problem> {
        let mut out = Vec::new();
        if let Some(schema) = &self.compiled {
            unreadable(schema, path, &mut out);
        }
        out
    }

    /// The rules that an object breaks. Rules about a change are asked when there is an old one.
    pub(super) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Problem> {
        let Some(schema) = &self.compiled else {
            return Vec::new();
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

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("x-kubernetes-validations") || map.values().any(has_rules)
        }
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
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
        let Err(error) = rule else { continue };
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
    fn a_broken_rule_is_told_with_its_place() {
        let problems = rules("self.size >").problems(&FieldPath::new("schema"));
        let place = problems[0].path.as_str();
        assert_eq!(
            place,
            "schema.properties[spec].x-kubernetes-validations[0].rule"
        );
    }
}
