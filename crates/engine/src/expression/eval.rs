//! The value of a tree, step by step, with a limit on the steps.

use std::sync::Arc;

use super::functions;
use super::parser::{Node, NodeKind, Operator};
use super::{Fault, MOST_STEPS, Value};

/// The longest pattern of `matches`, compiled, in bytes.
const PATTERN_CAP: usize = 256 * 1024;

pub(super) fn evaluate(root: &Node, result: &Value) -> Result<Value, Fault> {
    let mut machine = Machine {
        steps: MOST_STEPS,
        names: vec![("result".to_owned(), result.clone())],
        elements: Vec::new(),
    };
    machine.value(root)
}

pub(super) struct Machine {
    steps: u32,
    names: Vec<(String, Value)>,
    elements: Vec<Value>,
}

impl Machine {
    /// Takes steps from what is left: one for a node, and one for every element or byte that is made.
    pub(super) fn spend(&mut self, at: usize, steps: usize) -> Result<(), Fault> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.steps = self.steps.checked_sub(steps).ok_or_else(|| {
            Fault::new(
                at,
                format!("the condition takes more than {MOST_STEPS} steps"),
            )
        })?;
        Ok(())
    }

    /// The value of a predicate for one element of a list.
    pub(super) fn with_element(&mut self, body: &Node, element: &Value) -> Result<Value, Fault> {
        self.elements.push(element.clone());
        let value = self.value(body);
        self.elements.pop();
        value
    }

    pub(super) fn value(&mut self, node: &Node) -> Result<Value, Fault> {
        self.spend(node.at, 1)?;
        let at = node.at;
        match &node.kind {
            NodeKind::Literal(value) => Ok(value.clone()),
            NodeKind::Name(name) => {
                let bound = self.names.iter().rev().find(|(known, _)| known == name);
                let unknown = || Fault::new(at, format!("there is no {name:?} here"));
                bound.map(|(_, value)| value.clone()).ok_or_else(unknown)
            }
            NodeKind::Element => {
                let element = self.elements.last().cloned();
                element.ok_or_else(|| Fault::new(at, "`#` has a meaning only in a predicate"))
            }
            NodeKind::List(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(|item| self.value(item)).collect();
                Ok(Value::List(items?.into()))
            }
            NodeKind::Not(inner) => self.truth(inner).map(|truth| Value::Bool(!truth)),
            NodeKind::Negative(inner) => negative(&self.value(inner)?, at),
            NodeKind::Binary(operator, left, right) => self.binary(*operator, left, right, at),
            NodeKind::Choice(condition, yes, no) => {
                let chosen = if self.truth(condition)? { yes } else { no };
                self.value(chosen)
            }
            NodeKind::Index {
                value,
                index,
                lenient,
            } => {
                let (value, index) = (self.value(value)?, self.value(index)?);
                element(&value, &index, *lenient, at)
            }
            NodeKind::Slice(value, first, last) => {
                let value = self.value(value)?;
                let mut bound = |node: &Option<Box<Node>>| {
                    node.as_deref().map(|node| self.value(node)).transpose()
                };
                let (first, last) = (bound(first)?, bound(last)?);
                let cut = slice(&value, first.as_ref(), last.as_ref(), at)?;
                self.spend(at, cut.len())?;
                Ok(Value::List(cut))
            }
            NodeKind::Field {
                value,
                name,
                lenient,
            } => {
                let value = self.value(value)?;
                element(&value, &Value::Text(name.as_str().into()), *lenient, at)
            }
            NodeKind::Call(function, args) => functions::call(self, function, args, at),
            NodeKind::Let(name, value, body) => {
                let value = self.value(value)?;
                self.names.push((name.clone(), value));
                let body = self.value(body);
                self.names.pop();
                body
            }
        }
    }

    pub(super) fn truth(&mut self, node: &Node) -> Result<bool, Fault> {
        match self.value(node)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(Fault::new(
                node.at,
                format!("is {other}, not true or false"),
            )),
        }
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Node,
        right: &Node,
        at: usize,
    ) -> Result<Value, Fault> {
        match operator {
            Operator::And => {
                return Ok(Value::Bool(self.truth(left)? && self.truth(right)?));
            }
            Operator::Or => {
                return Ok(Value::Bool(self.truth(left)? || self.truth(right)?));
            }
            Operator::Otherwise => {
                let value = self.value(left)?;
                return if value == Value::Nil {
                    self.value(right)
                } else {
                    Ok(value)
                };
            }
            _ => {}
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        match operator {
            Operator::Equal => Ok(Value::Bool(left.same(&right))),
            Operator::Different => Ok(Value::Bool(!left.same(&right))),
            Operator::In | Operator::NotIn => {
                self.spend(at, length(&right))?;
                let found = is_in(&left, &right, at)?;
                Ok(Value::Bool(found == (operator == Operator::In)))
            }
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => {
                let order = left.order(&right).map_err(|why| Fault::new(at, why))?;
                Ok(Value::Bool(order.is_some_and(|order| match operator {
                    Operator::Less => order.is_lt(),
                    Operator::LessOrEqual => order.is_le(),
                    Operator::Greater => order.is_gt(),
                    _ => order.is_ge(),
                })))
            }
            Operator::Contains | Operator::StartsWith | Operator::EndsWith | Operator::Matches => {
                self.spend(at, length(&left))?;
                of_texts(operator, &left, &right, at).map(Value::Bool)
            }
            Operator::Range => self.range(&left, &right, at),
            _ => {
                if let (Value::Text(a), Value::Text(b), Operator::Add) = (&left, &right, operator) {
                    self.spend(at, a.len() + b.len())?;
                    return Ok(Value::Text(format!("{a}{b}").into()));
                }
                arithmetic(operator, &left, &right, at)
            }
        }
    }

    fn range(&mut self, first: &Value, last: &Value, at: usize) -> Result<Value, Fault> {
        let (Value::Integer(first), Value::Integer(last)) = (first, last) else {
            return Err(Fault::new(at, "the ends of a range are whole numbers"));
        };
        let count = last.saturating_sub(*first).saturating_add(1).max(0);
        self.spend(at, usize::try_from(count).unwrap_or(usize::MAX))?;
        Ok(Value::List((*first..=*last).map(Value::Integer).collect()))
    }
}

fn negative(value: &Value, at: usize) -> Result<Value, Fault> {
    match value {
        Value::Integer(number) => number
            .checked_neg()
            .map(Value::Integer)
            .ok_or_else(|| Fault::new(at, "the number is too large")),
        Value::Float(number) => Ok(Value::Float(-number)),
        other => Err(Fault::new(at, format!("{} has no sign", other.kind()))),
    }
}

fn arithmetic(operator: Operator, left: &Value, right: &Value, at: usize) -> Result<Value, Fault> {
    let overflow = || Fault::new(at, "the number is too large");
    if let (Value::Integer(a), Value::Integer(b)) = (left, right) {
        let whole = match operator {
            Operator::Add => Some(a.checked_add(*b)),
            Operator::Subtract => Some(a.checked_sub(*b)),
            Operator::Multiply => Some(a.checked_mul(*b)),
            Operator::Remainder if *b == 0 => return Err(Fault::new(at, "a division by zero")),
            Operator::Remainder => Some(a.checked_rem(*b)),
            _ => None,
        };
        if let Some(whole) = whole {
            return whole.map(Value::Integer).ok_or_else(overflow);
        }
    }
    let (Some(a), Some(b)) = (left.number(), right.number()) else {
        let why = format!(
            "{} and {} cannot be calculated with",
            left.kind(),
            right.kind()
        );
        return Err(Fault::new(at, why));
    };
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Power => a.powf(b),
        _ => return Err(Fault::new(at, "a remainder is of whole numbers only")),
    }))
}

fn length(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        _ => 1,
    }
}

fn is_in(needle: &Value, hay: &Value, at: usize) -> Result<bool, Fault> {
    match hay {
        Value::List(items) => Ok(items.iter().any(|item| item.same(needle))),
        Value::Map(fields) => Ok(matches!(needle, Value::Text(key) if fields.contains_key(&**key))),
        Value::Nil => Ok(false),
        other => Err(Fault::new(at, format!("nothing is in {}", other.kind()))),
    }
}

fn of_texts(operator: Operator, left: &Value, right: &Value, at: usize) -> Result<bool, Fault> {
    let (Value::Text(text), Value::Text(part)) = (left, right) else {
        let why = format!("{} and {} are not two texts", left.kind(), right.kind());
        return Err(Fault::new(at, why));
    };
    Ok(match operator {
        Operator::Contains => text.contains(&**part),
        Operator::StartsWith => text.starts_with(&**part),
        Operator::EndsWith => text.ends_with(&**part),
        _ => {
            // The regex crate takes time linear in the text; only its compiled size needs a cap.
            let pattern = regex::RegexBuilder::new(part)
                .size_limit(PATTERN_CAP)
                .build();
            let pattern = pattern.map_err(|_| Fault::new(at, "the pattern cannot be read"))?;
            pattern.is_match(text)
        }
    })
}

fn element(value: &Value, index: &Value, lenient: bool, at: usize) -> Result<Value, Fault> {
    match (value, index) {
        (Value::Nil, _) if lenient => Ok(Value::Nil),
        (Value::List(items), Value::Integer(index)) => {
            let place = match usize::try_from(*index) {
                Ok(place) => Some(place),
                // -1 is the last one.
                Err(_) => usize::try_from(index.unsigned_abs())
                    .ok()
                    .and_then(|back| items.len().checked_sub(back)),
            };
            let found = place.and_then(|place| items.get(place)).cloned();
            found.ok_or_else(|| {
                let why = format!("there is no element {index}: the list has {}", items.len());
                Fault::new(at, why)
            })
        }
        // As in expr-lang: a key that is not there gives nil.
        (Value::Map(fields), Value::Text(key)) => {
            Ok(fields.get(&**key).cloned().unwrap_or(Value::Nil))
        }
        _ => {
            let why = format!("{} has no element {index}", value.kind());
            Err(Fault::new(at, why))
        }
    }
}

fn slice(
    value: &Value,
    first: Option<&Value>,
    last: Option<&Value>,
    at: usize,
) -> Result<Arc<[Value]>, Fault> {
    let Value::List(items) = value else {
        return Err(Fault::new(at, format!("{} has no part", value.kind())));
    };
    let bound = |bound: Option<&Value>, default: usize| match bound {
        None => Ok(default),
        Some(Value::Integer(n)) => {
            let n = if *n < 0 {
                n.saturating_add(items.len() as i64)
            } else {
                *n
            };
            Ok(usize::try_from(n).unwrap_or(0).min(items.len()))
        }
        Some(other) => Err(Fault::new(at, format!("{} is no index", other.kind()))),
    };
    let (first, last) = (bound(first, 0)?, bound(last, items.len())?);
    Ok(items.get(first..last).unwrap_or_default().into())
}
