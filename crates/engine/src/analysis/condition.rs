//! Conditions on a measured value, in the expr language, and what a value means under them.

use expr::{Context, Environment, Value};
use serin_api::analysis::{AnalysisPhase, Metric};

/// What a provider found.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// One number.
    Number(f64),
    /// A list of numbers, as a query with several series gives.
    List(Vec<f64>),
    /// Nothing to judge, and why: too few requests, say.
    NoData(String),
}

impl MetricValue {
    /// As text, for the measurement.
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Number(number) => Some(number.to_string()),
            Self::List(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(f64::to_string).collect();
                Some(format!("[{}]", numbers.join(",")))
            }
            Self::NoData(_) => None,
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Number(number) => number.is_finite(),
            Self::List(numbers) => !numbers.is_empty() && numbers.iter().all(|n| n.is_finite()),
            Self::NoData(_) => false,
        }
    }
}

/// What a value means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// `Successful`, `Failed`, `Inconclusive` or `Error`.
    pub phase: AnalysisPhase,
    /// Why, when it is not plain from the value.
    pub message: Option<String>,
}

impl Judgement {
    fn plain(phase: AnalysisPhase) -> Self {
        Self {
            phase,
            message: None,
        }
    }

    fn because(phase: AnalysisPhase, message: impl Into<String>) -> Self {
        Self {
            phase,
            message: Some(message.into()),
        }
    }
}

/// Judges a value by the conditions of its metric. A value that is no finite number is inconclusive, never good, unless a
/// condition says itself what it means by asking `isNaN` or `isInf`, or by giving a `default`.
pub fn judge(metric: &Metric, value: &MetricValue) -> Judgement {
    if let MetricValue::NoData(why) = value {
        return Judgement::because(AnalysisPhase::Inconclusive, why.clone());
    }
    if !value.is_finite() && !says_what_it_means(metric, value) {
        let shown = value.shown().unwrap_or_default();
        return Judgement::because(
            AnalysisPhase::Inconclusive,
            format!("{shown} is not a finite number"),
        );
    }
    match (
        holds(metric.success_condition.as_ref(), value),
        holds(metric.failure_condition.as_ref(), value),
    ) {
        (Err(message), _) | (_, Err(message)) => Judgement::because(AnalysisPhase::Error, message),
        (Ok(_), Ok(Some(true))) => Judgement::plain(AnalysisPhase::Failed),
        (Ok(Some(true) | None), Ok(_)) => Judgement::plain(AnalysisPhase::Successful),
        (Ok(Some(false)), Ok(None)) => Judgement::plain(AnalysisPhase::Failed),
        (Ok(Some(false)), Ok(Some(false))) => Judgement::because(
            AnalysisPhase::Inconclusive,
            "neither the success nor the failure condition holds",
        ),
    }
}

/// Whether the conditions themselves say what a value means that is no finite number. An empty list is only good when the
/// success condition says so.
fn says_what_it_means(metric: &Metric, value: &MetricValue) -> bool {
    let asks = |condition: &Option<String>, words: &[&str]| {
        let text = condition.as_deref().unwrap_or_default();
        words.iter().any(|word| text.contains(word))
    };
    let (good, bad) = (&metric.success_condition, &metric.failure_condition);
    match value {
        MetricValue::List(numbers) if numbers.is_empty() => {
            asks(good, &["len(", "default", "isNil"])
        }
        _ => [good, bad]
            .into_iter()
            .any(|condition| asks(condition, &["isNaN", "isInf", "default"])),
    }
}

/// Whether a condition holds; `None` without a condition.
fn holds(condition: Option<&String>, value: &MetricValue) -> Result<Option<bool>, String> {
    let Some(condition) = condition.filter(|c| !c.trim().is_empty()) else {
        return Ok(None);
    };
    let mut context = Context::default();
    match value {
        MetricValue::Number(number) => context.insert("result", *number),
        MetricValue::List(numbers) => context.insert(
            "result",
            Value::Array(numbers.iter().map(|n| Value::Float(*n)).collect()),
        ),
        MetricValue::NoData(_) => context.insert("result", Value::Nil),
    }
    let outcome = environment()
        .eval(condition, &context)
        .map_err(|e| format!("condition `{condition}`: {e}"))?;
    let truth = outcome
        .as_bool()
        .ok_or_else(|| format!("condition `{condition}` gives {outcome:?}, not true or false"))?;
    Ok(Some(truth))
}

/// The functions that Argo Rollouts adds to the language.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.add_function("isNaN", |call| {
        Ok(number(call.args.first()).is_some_and(f64::is_nan).into())
    });
    environment.add_function("isInf", |call| {
        Ok(number(call.args.first())
            .is_some_and(f64::is_infinite)
            .into())
    });
    environment.add_function("isNil", |call| {
        Ok(call.args.first().is_none_or(Value::is_nil).into())
    });
    environment.add_function("asFloat", |call| {
        Ok(number(call.args.first()).map_or(Value::Nil, Value::Float))
    });
    environment.add_function("asInt", |call| {
        let number = number(call.args.first()).filter(|n| n.is_finite());
        // A float beyond the range of integers saturates: the comparison that follows still has the right outcome.
        Ok(number.map_or(Value::Nil, |n| Value::Integer(n as i64)))
    });
    environment.add_function("default", |call| {
        let mut args = call.args.iter();
        let (value, otherwise) = (args.next(), args.next());
        let missing = value.is_none_or(Value::is_nil) || number(value).is_some_and(f64::is_nan);
        Ok(if missing { otherwise } else { value }
            .cloned()
            .unwrap_or(Value::Nil))
    });
    environment
}

fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnalysisPhase::{Error, Failed, Inconclusive, Successful};

    fn phase(success: &str, failure: &str, value: MetricValue) -> AnalysisPhase {
        let condition = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let metric = Metric {
            success_condition: condition(success),
            failure_condition: condition(failure),
            ..Metric::default()
        };
        judge(&metric, &value).phase
    }

    #[test]
    fn the_conditions_of_public_templates() {
        let number = MetricValue::Number;
        let list = |numbers: &[f64]| MetricValue::List(numbers.to_vec());
        let table = [
            ("result < 0.01", "", number(0.009), Successful),
            ("result < 0.01", "", number(0.01), Failed),
            ("", "result > 0.01", number(0.02), Failed),
            ("", "result > 0.01", number(0.0), Successful),
            ("result >= 0.95", "result < 0.9", number(0.92), Inconclusive),
            (
                "result[0] < 0.95 && !isNaN(result[0])",
                "",
                list(&[0.5]),
                Successful,
            ),
            ("all(result, # > 0.9)", "", list(&[0.95, 0.8]), Failed),
            (
                "len(result) > 0 && result[0] >= 0.95",
                "",
                list(&[0.99]),
                Successful,
            ),
            (
                "default(result, 0) < 0.05",
                "",
                number(f64::NAN),
                Successful,
            ),
            (
                "isNaN(result) || result < 0.05",
                "",
                number(f64::NAN),
                Successful,
            ),
            (
                "asFloat(result) <= 1 && asInt(result) == 0",
                "",
                number(0.5),
                Successful,
            ),
            ("", "", number(3.0), Successful),
        ];
        for (success, failure, value, expected) in table {
            assert_eq!(
                phase(success, failure, value.clone()),
                expected,
                "{success} | {failure} | {value:?}"
            );
        }
    }

    #[test]
    fn what_is_not_a_finite_number_is_never_healthy() {
        let guarded = "len(result) > 0 && result[0] > 0.05";
        for list in [vec![f64::NAN], vec![]] {
            assert_eq!(phase("", guarded, MetricValue::List(list)), Inconclusive);
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(
                phase("", "result > 0.01", MetricValue::Number(value)),
                Inconclusive
            );
            assert_eq!(phase("", "", MetricValue::List(vec![value])), Inconclusive);
        }
        assert_eq!(
            phase("result[0] < 1", "", MetricValue::List(vec![])),
            Inconclusive
        );
        assert_eq!(
            phase(
                "result < 1",
                "",
                MetricValue::NoData("3 requests of 50".into())
            ),
            Inconclusive
        );
    }

    #[test]
    fn a_condition_that_cannot_be_evaluated_is_an_error() {
        assert_eq!(
            phase("result[0] < ", "", MetricValue::List(vec![1.0])),
            Error
        );
        assert_eq!(
            phase("result[3] < 1", "", MetricValue::List(vec![1.0])),
            Error
        );
        assert_eq!(phase("result + 1", "", MetricValue::Number(1.0)), Error);
        assert_eq!(
            phase("nothing(result)", "", MetricValue::Number(1.0)),
            Error
        );
    }
}
