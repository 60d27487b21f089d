//! The functions of the language.

use std::ops::RangeInclusive;

use super::eval::Machine;
use super::parser::Node;
use super::{Fault, Value};

/// A function with its name.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) arguments: RangeInclusive<usize>,
    /// Whether the second argument is looked at once for each element of the first.
    pub(super) takes_predicate: bool,
}

pub(super) type Function = &'static Entry;

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn plain(name: &'static str, least: usize, most: usize) -> Entry {
    Entry {
        name,
        arguments: least..=most,
        takes_predicate: false,
    }
}

const fn predicate(name: &'static str, least: usize) -> Entry {
    Entry {
        name,
        arguments: least..=2,
        takes_predicate: true,
    }
}

/// Functions of numbers take at most this many arguments.
const MANY: usize = 16;

static FUNCTIONS: [Entry; 35] = [
    // What Argo Rollouts adds.
    plain("asInt", 1, 1),
    plain("asFloat", 1, 1),
    plain("isNaN", 1, 1),
    plain("isInf", 1, 1),
    plain("isNil", 1, 1),
    plain("default", 2, 2),
    // Of the language itself.
    predicate("all", 2),
    predicate("any", 2),
    predicate("one", 2),
    predicate("none", 2),
    predicate("map", 2),
    predicate("filter", 2),
    predicate("find", 2),
    predicate("findIndex", 2),
    predicate("count", 1),
    predicate("sum", 1),
    plain("len", 1, 1),
    plain("first", 1, 1),
    plain("last", 1, 1),
    plain("keys", 1, 1),
    plain("values", 1, 1),
    plain("mean", 1, MANY),
    plain("median", 1, MANY),
    plain("min", 1, MANY),
    plain("max", 1, MANY),
    plain("abs", 1, 1),
    plain("ceil", 1, 1),
    plain("floor", 1, 1),
    plain("round", 1, 1),
    plain("int", 1, 1),
    plain("float", 1, 1),
    plain("string", 1, 1),
    plain("trim", 1, 1),
    plain("lower", 1, 1),
    plain("upper", 1, 1),
];

pub(super) fn find(name: &str) -> Option<Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Calls a function. The parser has checked how many arguments there are.
pub(super) fn call(
    machine: &mut Machine,
    function: Function,
    args: &[Node],
    at: usize,
) -> Result<Value, Fault> {
    if function.takes_predicate {
        return over_list(machine, function.name, args, at);
    }
    let args: Result<Vec<_>, _> = args.iter().map(|arg| machine.value(arg)).collect();
    let args = args?;
    let first = args.first().unwrap_or(&Value::Nil);
    let fault = |why: String| Fault::new(at, why);
    match function.name {
        "isNil" => Ok(Value::Bool(*first == Value::Nil)),
        "isNaN" => Ok(Value::Bool(first.number().is_some_and(f64::is_nan))),
        "isInf" => Ok(Value::Bool(first.number().is_some_and(f64::is_infinite))),
        "default" => {
            let missing = *first == Value::Nil || first.number().is_some_and(f64::is_nan);
            let chosen = if missing { args.get(1) } else { Some(first) };
            Ok(chosen.cloned().unwrap_or(Value::Nil))
        }
        "asFloat" | "float" => to_float(first).map(Value::Float).map_err(fault),
        "asInt" | "int" => to_integer(first).map_err(fault),
        "len" => length(first).map_err(fault),
        "first" | "last" | "keys" | "values" => of_collection(function.name, first).map_err(fault),
        "mean" | "median" | "min" | "max" => {
            let numbers = numbers(&args).map_err(fault)?;
            machine.spend(at, numbers.len())?;
            statistic(function.name, numbers).map_err(fault)
        }
        "abs" | "ceil" | "floor" | "round" => rounded(function.name, first).map_err(fault),
        _ => {
            let text = of_text(function.name, first).map_err(fault)?;
            machine.spend(at, text.len())?;
            Ok(Value::Text(text.into()))
        }
    }
}

/// The functions that look at each element of a list.
fn over_list(machine: &mut Machine, name: &str, args: &[Node], at: usize) -> Result<Value, Fault> {
    let mut args = args.iter();
    let list = args.next().map(|list| machine.value(list)).transpose()?;
    let Some(Value::List(items)) = list else {
        let kind = list.unwrap_or(Value::Nil).kind();
        return Err(Fault::new(
            at,
            format!("{name} looks at a list, not at {kind}"),
        ));
    };
    let body = args.next();
    let mut kept = Vec::new();
    let mut places = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let value = match body {
            Some(body) => machine.with_element(body, item)?,
            None => item.clone(),
        };
        if matches!(name, "map" | "sum") {
            kept.push(value);
            continue;
        }
        let Value::Bool(holds) = value else {
            let why = format!("the predicate of {name} gives {value}, not true or false");
            return Err(Fault::new(body.map_or(at, |body| body.at), why));
        };
        match (name, holds) {
            ("all", false) | ("none", true) => return Ok(Value::Bool(false)),
            ("any", true) => return Ok(Value::Bool(true)),
            ("find", true) => return Ok(item.clone()),
            _ => {}
        }
        if holds {
            kept.push(item.clone());
            places.push(place as i64);
        }
    }
    let count = kept.len() as i64;
    Ok(match name {
        "all" | "none" => Value::Bool(true),
        "any" => Value::Bool(false),
        "one" => Value::Bool(count == 1),
        "count" => Value::Integer(count),
        "find" => Value::Nil,
        "findIndex" => places
            .first()
            .map_or(Value::Nil, |place| Value::Integer(*place)),
        "sum" => {
            let numbers = numbers(&[Value::List(kept.into())]);
            Value::Float(numbers.map_err(|why| Fault::new(at, why))?.iter().sum())
        }
        _ => Value::List(kept.into()),
    })
}

fn to_float(value: &Value) -> Result<f64, String> {
    let read = match value {
        Value::Text(text) => text.trim().parse().ok(),
        other => other.number(),
    };
    read.ok_or_else(|| format!("{value} is no number"))
}

/// A number beyond the range of whole numbers saturates: the comparison that follows still has the right outcome.
fn to_integer(value: &Value) -> Result<Value, String> {
    if let Value::Integer(_) = value {
        return Ok(value.clone());
    }
    let number = to_float(value)?;
    if number.is_nan() {
        return Err("NaN is no whole number".to_owned());
    }
    Ok(Value::Integer(number as i64))
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::List(items) => items.len(),
        Value::Map(fields) => fields.len(),
        Value::Text(text) => text.chars().count(),
        other => return Err(format!("{} has no length", other.kind())),
    };
    Ok(Value::Integer(length as i64))
}

fn of_collection(name: &str, value: &Value) -> Result<Value, String> {
    match (name, value) {
        ("first", Value::List(items)) => Ok(items.first().cloned().unwrap_or(Value::Nil)),
        ("last", Value::List(items)) => Ok(items.last().cloned().unwrap_or(Value::Nil)),
        ("keys", Value::Map(fields)) => {
            let keys = fields.keys().map(|key| Value::Text(key.as_str().into()));
            Ok(Value::List(keys.collect()))
        }
        ("values", Value::Map(fields)) => Ok(Value::List(fields.values().cloned().collect())),
        _ => Err(format!("{} has no {name}", value.kind())),
    }
}

/// All numbers of the arguments, those of lists too.
fn numbers(args: &[Value]) -> Result<Vec<f64>, String> {
    let mut out = Vec::new();
    for arg in args {
        let items = match arg {
            Value::List(items) => items,
            other => std::slice::from_ref(other),
        };
        for item in items {
            let number = item.number();
            out.push(number.ok_or_else(|| format!("{} is no number", item.kind()))?);
        }
    }
    Ok(out)
}

fn statistic(name: &str, mut numbers: Vec<f64>) -> Result<Value, String> {
    if numbers.is_empty() {
        return Err(format!("an empty list has no {name}"));
    }
    if numbers.iter().any(|n| n.is_nan()) {
        return Ok(Value::Float(f64::NAN));
    }
    numbers.sort_by(f64::total_cmp);
    let at = |place: usize| numbers.get(place).copied().unwrap_or(f64::NAN);
    let count = numbers.len();
    Ok(Value::Float(match name {
        "min" => at(0),
        "max" => at(count - 1),
        "mean" => numbers.iter().sum::<f64>() / count as f64,
        _ => (at((count - 1) / 2) + at(count / 2)) / 2.0,
    }))
}

fn rounded(name: &str, value: &Value) -> Result<Value, String> {
    match (name, value) {
        ("abs", Value::Integer(number)) => Ok(Value::Integer(number.saturating_abs())),
        (_, Value::Integer(_)) => Ok(value.clone()),
        (_, Value::Float(number)) => Ok(Value::Float(match name {
            "abs" => number.abs(),
            "ceil" => number.ceil(),
            "floor" => number.floor(),
            _ => number.round(),
        })),
        _ => Err(format!("{} is no number", value.kind())),
    }
}

fn of_text(name: &str, value: &Value) -> Result<String, String> {
    match (name, value) {
        ("string", Value::Text(text)) => Ok(text.to_string()),
        ("string", other) => Ok(other.to_string()),
        ("trim", Value::Text(text)) => Ok(text.trim().to_owned()),
        ("lower", Value::Text(text)) => Ok(text.to_lowercase()),
        ("upper", Value::Text(text)) => Ok(text.to_uppercase()),
        _ => Err(format!("{} is no text", value.kind())),
    }
}
