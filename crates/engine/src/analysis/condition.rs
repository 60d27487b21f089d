//! What a measured value means under the conditions of its metric.

use std::fmt;

use serin_api::analysis::{AnalysisPhase, Metric};

use crate::expression::{Expression, Value};

/// What a provider found.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// One number.
    Number(f64),
    /// A list of numbers, as a query with several series gives.
    List(Vec<f64>),
    /// A JSON document, or a part of one.
    Document(serde_json::Value),
    /// Nothing to judge, and why: too few requests, say.
    NoData(String),
}

/// The longest text of a value that is kept with a measurement, in bytes.
const SHOWN_BYTES: usize = 1024;

impl MetricValue {
    /// As text, for the measurement; cut when it is long. `None` without data.
    pub fn shown(&self) -> Option<String> {
        let mut text = match self {
            Self::Number(number) => number.to_string(),
            Self::List(numbers) => format!("[{}]", Commas(numbers)),
            Self::Document(json) => json.to_string(),
            Self::NoData(_) => return None,
        };
        if text.len() > SHOWN_BYTES {
            let end = (0..=SHOWN_BYTES)
                .rev()
                .find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        Some(text)
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Number(number) => Value::Float(*number),
            Self::List(numbers) => Value::list_of(numbers),
            Self::Document(json) => Value::from_json(json),
            Self::NoData(_) => Value::Nil,
        }
    }
}

/// The first of a list; more than are shown anyway are not written out.
struct Commas<'a>(&'a [f64]);

impl fmt::Display for Commas<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.0.iter().take(SHOWN_BYTES).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{number}")?;
        }
        Ok(())
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

    /// With a reason.
    pub fn because(phase: AnalysisPhase, message: impl Into<String>) -> Self {
        Self {
            phase,
            message: Some(message.into()),
        }
    }
}

/// The conditions of a metric, read.
struct Conditions {
    success: Option<Expression>,
    failure: Option<Expression>,
}

impl Conditions {
    /// Reads them; the problems begin with the name of the field.
    fn parse(metric: &Metric) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut read = |field: &str, text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.trim().is_empty())?;
            let expression = Expression::parse(text);
            expression
                .map_err(|why| problems.push(format!("{field} `{text}`: {why}")))
                .ok()
        };
        let conditions = Self {
            success: read("successCondition", &metric.success_condition),
            failure: read("failureCondition", &metric.failure_condition),
        };
        if problems.is_empty() {
            Ok(conditions)
        } else {
            Err(problems)
        }
    }

    fn either_asks(&self, functions: &[&str]) -> bool {
        [&self.success, &self.failure]
            .into_iter()
            .flatten()
            .any(|condition| condition.asks(functions))
    }
}

/// What is wrong with the conditions of a metric whose arguments are filled in.
pub(super) fn problems(metric: &Metric) -> Vec<String> {
    Conditions::parse(metric).err().unwrap_or_default()
}

/// Judges a value by the conditions of its metric. A value that is no finite number is inconclusive, never good, unless a
/// condition says itself what it means by asking `isNaN`, `isInf` or `isNil`, or by giving a default.
pub fn judge(metric: &Metric, value: &MetricValue) -> Judgement {
    if let MetricValue::NoData(why) = value {
        return Judgement::because(AnalysisPhase::Inconclusive, why.clone());
    }
    let conditions = match Conditions::parse(metric) {
        Ok(conditions) => conditions,
        Err(problems) => return Judgement::because(AnalysisPhase::Error, problems.join("; ")),
    };
    if let Some(why) = means_nothing(&conditions, value) {
        return Judgement::because(AnalysisPhase::Inconclusive, why);
    }
    let value = value.to_value();
    let holds = |field: &str, condition: &Option<Expression>| {
        let outcome = condition.as_ref().map(|condition| condition.holds(&value));
        outcome.transpose().map_err(|why| format!("{field} {why}"))
    };
    match (
        holds("successCondition", &conditions.success),
        holds("failureCondition", &conditions.failure),
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

/// Why a value says nothing, unless the conditions themselves say what it means. An empty list is only good when the success
/// condition says so.
fn means_nothing(conditions: &Conditions, value: &MetricValue) -> Option<String> {
    const ODD_NUMBERS: [&str; 3] = ["isNaN", "isInf", "default"];
    const EMPTY: [&str; 3] = ["len", "default", "isNil"];
    let none = conditions.success.is_none() && conditions.failure.is_none();
    match value {
        MetricValue::List(numbers) if numbers.is_empty() => {
            let asks = conditions.success.as_ref().is_some_and(|c| c.asks(&EMPTY));
            (!asks).then(|| "the query found nothing".to_owned())
        }
        MetricValue::Number(number) => (!number.is_finite()
            && !conditions.either_asks(&ODD_NUMBERS))
        .then(|| format!("{number} is not a finite number")),
        MetricValue::List(numbers) => {
            let odd = numbers.iter().find(|number| !number.is_finite())?;
            (!conditions.either_asks(&ODD_NUMBERS))
                .then(|| format!("{odd} in the list is not a finite number"))
        }
        MetricValue::Document(serde_json::Value::Null) => {
            (!conditions.either_asks(&["isNil", "default"])).then(|| "the value is null".to_owned())
        }
        MetricValue::Document(serde_json::Value::String(_) | serde_json::Value::Bool(false)) => {
            none.then(|| "no condition says what this value means".to_owned())
        }
        MetricValue::Document(_) | MetricValue::NoData(_) => None,
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
    fn documents_are_judged_by_their_fields_and_null_or_text_alone_is_not_healthy() {
        let document = |json| MetricValue::Document(json);
        let (null, text) = (serde_json::json!(null), serde_json::json!("fine"));
        for (success, json, expected) in [
            ("", null.clone(), Inconclusive),
            ("result < 1", null.clone(), Inconclusive),
            ("isNil(result) || result < 1", null, Successful),
            ("", text.clone(), Inconclusive),
            ("result < 1", text.clone(), Error),
            ("result == 'fine'", text, Successful),
            (
                "result.rate >= 0.9",
                serde_json::json!({"rate": 0.95}),
                Successful,
            ),
            (
                "result.rate >= 0.9",
                serde_json::json!({"rate": null}),
                Error,
            ),
        ] {
            assert_eq!(phase(success, "", document(json)), expected, "{success}");
        }
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
