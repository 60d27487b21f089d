//! The language of conditions: a small, total subset of [expr-lang](https://expr-lang.org), with the functions that Argo
//! Rollouts adds to it.
//!
//! Every program ends: there are no loops but those over a list that exists, each step is counted, and depth, length of the
//! text and steps have limits. An error says what is wrong and points at the place in the text.
//!
//! Absent on purpose: assignments, clocks, randomness, user functions, anything that could fail other than by an error.

mod eval;
mod functions;
mod lexer;
mod parser;
mod value;

use std::fmt;

pub use value::Value;

/// The longest text of a condition, in bytes.
pub const LONGEST: usize = 4096;
/// Steps that one evaluation may take. A list of a hundred thousand numbers can be looked at a few times.
pub const MOST_STEPS: u32 = 1_000_000;

/// A condition that has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    source: String,
    root: parser::Node,
}

impl Expression {
    /// Reads a condition. Names other than `result` are refused here already, and functions with the wrong number of arguments.
    ///
    /// # Errors
    /// What cannot be read, and where.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        let root = parser::parse(source).map_err(|fault| fault.of(source))?;
        Ok(Self {
            source: source.to_owned(),
            root,
        })
    }

    /// Whether the condition asks for one of these functions, or for `??`: then it says itself what unusual values mean.
    pub fn asks(&self, functions: &[&str]) -> bool {
        self.root.asks(functions)
    }

    /// The value for a result.
    ///
    /// # Errors
    /// What has no value, and where: an index beyond the list, text where a number must be, too many steps.
    pub fn evaluate(&self, result: &Value) -> Result<Value, ExpressionError> {
        eval::evaluate(&self.root, result).map_err(|fault| fault.of(&self.source))
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], and when the value is not true or false.
    pub fn holds(&self, result: &Value) -> Result<bool, ExpressionError> {
        match self.evaluate(result)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                let fault = Fault::new(self.root.at, format!("is {other}, not true or false"));
                Err(fault.of(&self.source))
            }
        }
    }
}

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ExpressionError {
    /// The sentence.
    pub message: String,
    /// The character in the text, from 1.
    pub column: usize,
    /// The text from there on, cut short.
    pub excerpt: String,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.excerpt.as_str() {
            "" => write!(f, "at its end: {}", self.message),
            excerpt => write!(
                f,
                "at column {} ({excerpt:?}): {}",
                self.column, self.message
            ),
        }
    }
}

/// An error inside of one text: the byte and the sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }

    fn of(self, source: &str) -> ExpressionError {
        const SHOWN: usize = 24;
        let before = source.get(..self.at).unwrap_or(source);
        let rest = source.get(self.at..).unwrap_or_default();
        ExpressionError {
            message: self.message,
            column: before.chars().count() + 1,
            excerpt: rest.chars().take(SHOWN).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
