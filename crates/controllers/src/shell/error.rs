//! What can go wrong between a plan and the API.

use std::error::Error as _;

/// An action that was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {why}")]
pub(crate) struct Error {
    kind: ErrorKind,
    doing: String,
    why: String,
    #[source]
    source: Option<Box<kube::Error>>,
}

/// What it means for whoever carries out a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The object is no longer as it was seen: look again.
    Conflict,
    /// An object of this name is there already.
    Exists,
    /// The object does not exist.
    Missing,
    /// The API does not take this: trying the same again does not help.
    Refused,
    /// The API did not answer, or not in time.
    Unavailable,
    /// A bug: the controller panicked.
    Panicked,
}

impl Error {
    /// `doing` completes "could not …": `create Pod shop/web-1`.
    pub(crate) fn api(doing: impl Into<String>, source: kube::Error) -> Self {
        let doing = doing.into();
        let (kind, why) = match &source {
            kube::Error::Api(status) => {
                let kind = match status.code {
                    404 => ErrorKind::Missing,
                    409 if status.is_already_exists() => ErrorKind::Exists,
                    409 => ErrorKind::Conflict,
                    // Asked too often, or too slow: that passes.
                    408 | 429 => ErrorKind::Unavailable,
                    400..=499 => ErrorKind::Refused,
                    _ => ErrorKind::Unavailable,
                };
                (kind, status.message.clone())
            }
            other => (ErrorKind::Unavailable, other.to_string()),
        };
        Self {
            kind,
            doing,
            why,
            source: Some(Box::new(source)),
        }
    }

    pub(crate) fn timeout(doing: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            doing: doing.into(),
            why: "no answer in time".into(),
            source: None,
        }
    }

    /// What was to be read or written is no longer as it was seen.
    pub(crate) fn changed(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Conflict,
            doing: doing.into(),
            why: why.into(),
            source: None,
        }
    }

    /// An object of this name is there already, and is somebody else's.
    pub(crate) fn taken(doing: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Exists,
            doing: doing.into(),
            why: "another object has this name".into(),
            source: None,
        }
    }

    pub(super) fn panicked(why: String) -> Self {
        Self {
            kind: ErrorKind::Panicked,
            doing: "look at the object".into(),
            why,
            source: None,
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the API said, without what was tried.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// With the causes below the one that is shown.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut below = self.source().and_then(|first| first.source());
        while let Some(cause) = below {
            let shown = cause.to_string();
            // An answer of the API is its own cause.
            if !shown.contains(&self.why) {
                text.push_str(": ");
                text.push_str(&shown);
            }
            below = cause.source();
        }
        text
    }
}
