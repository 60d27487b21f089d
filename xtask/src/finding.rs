//! What a chore found, and where.

use std::fmt;

/// Whether a finding fails the chore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Fails it.
    Error,
    /// Is told and passes.
    Warning,
}

/// One finding; its `Display` is `FILE:LINE: SEVERITY: MESSAGE`, which editors can jump to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the root of the repository, with `/` between its parts.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// Whether it fails the chore.
    pub(crate) severity: Severity,
    /// What is wrong and what to do about it.
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn error(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, file, line, message.into())
    }

    pub(crate) fn warning(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, file, line, message.into())
    }

    fn new(severity: Severity, file: &str, line: usize, message: String) -> Self {
        Self {
            file: file.to_owned(),
            line,
            severity,
            message,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{}:{}: {severity}: {}",
            self.file, self.line, self.message
        )
    }
}
