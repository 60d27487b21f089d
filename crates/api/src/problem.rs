//! What is wrong with an object: a value with the path of the field, so that all problems of a file are told at once.

use std::fmt;

/// The place of a field in an object, in the notation of Kubernetes messages: `spec.containers[0].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// The object itself; its children have no leading dot.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// A path from text that already has the notation.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The field `name` of this object.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// The entry `name` of this map, whose keys are free text: `metadata.labels[app.kubernetes.io/name]`.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        Self(format!("{}[{name}]", self.0))
    }

    /// The element `index` of this list, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path as text; empty for the object itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a problem stops an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object is refused.
    Error,
    /// The object is taken with a warning, but nothing is done for it while the field stands: its behaviour is not built yet.
    Unbuilt,
    /// The object is taken; the person should know.
    Warning,
}

/// The class of a problem, with the reason words of a Kubernetes `Status` cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// A field that must be there is not.
    Required,
    /// A value outside what the field allows.
    Invalid,
    /// A value that is not one of a known set.
    NotSupported,
    /// A value that stands twice where it must be unique.
    Duplicate,
    /// A field that may not be set here or may not change.
    Forbidden,
    /// A field that the type does not have.
    Unknown,
    /// A value of the wrong type.
    Type,
}

impl ProblemKind {
    /// The `reason` of a cause in a Kubernetes `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::Unknown => "FieldValueUnknown",
            Self::Type => "FieldValueTypeInvalid",
        }
    }
}

/// One problem of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the object is refused.
    pub severity: Severity,
    /// The class.
    pub kind: ProblemKind,
    /// The field.
    pub path: FieldPath,
    /// The sentence behind the path, as Kubernetes words it: `Required value: must be set`.
    pub message: String,
}

impl Problem {
    /// `path: Required value`, with a remedy when `hint` is not empty.
    pub fn required(path: FieldPath, hint: &str) -> Self {
        let message = if hint.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {hint}")
        };
        Self {
            severity: Severity::Error,
            kind: ProblemKind::Required,
            path,
            message,
        }
    }

    /// `path: Invalid value: VALUE: why`.
    pub fn invalid(path: FieldPath, value: impl fmt::Display, why: &str) -> Self {
        Self {
            severity: Severity::Error,
            kind: ProblemKind::Invalid,
            path,
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    /// `path: Unsupported value: "VALUE": supported values: …`.
    pub fn not_supported(path: FieldPath, value: &str, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            severity: Severity::Error,
            kind: ProblemKind::NotSupported,
            path,
            message: format!("Unsupported value: {value:?}: supported values: {list}"),
        }
    }

    /// `path: Duplicate value: "VALUE"`.
    pub fn duplicate(path: FieldPath, value: &str) -> Self {
        Self {
            severity: Severity::Error,
            kind: ProblemKind::Duplicate,
            path,
            message: format!("Duplicate value: {value:?}"),
        }
    }

    /// `path: Forbidden: why`.
    pub fn forbidden(path: FieldPath, why: &str) -> Self {
        Self {
            severity: Severity::Error,
            kind: ProblemKind::Forbidden,
            path,
            message: format!("Forbidden: {why}"),
        }
    }

    /// `path: unknown field, did you mean "NEAREST"?`.
    pub fn unknown(path: FieldPath, nearest: Option<&str>) -> Self {
        let message = match nearest {
            Some(nearest) => format!("unknown field, did you mean {nearest:?}?"),
            None => "unknown field".to_owned(),
        };
        Self {
            severity: Severity::Error,
            kind: ProblemKind::Unknown,
            path,
            message,
        }
    }

    /// `path: expected WANT, found FOUND`.
    pub fn wrong_type(path: FieldPath, want: &str, found: &str) -> Self {
        Self {
            severity: Severity::Error,
            kind: ProblemKind::Type,
            path,
            message: format!("expected {want}, found {found}"),
        }
    }

    /// A problem that does not stop the object.
    pub fn warning(path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            kind: ProblemKind::Invalid,
            path,
            message: message.into(),
        }
    }

    /// A field that the contract has and we do not carry out yet; `instead` says what to use.
    pub fn unbuilt(path: FieldPath, instead: &str) -> Self {
        let message = format!("not carried out by this version of Serin; {instead}");
        Self {
            severity: Severity::Unbuilt,
            kind: ProblemKind::NotSupported,
            path,
            message,
        }
    }

    /// Whether the object is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_str().is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}
