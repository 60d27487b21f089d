//! Why a try gave no answer, and what comes after it.

use super::answer::Reason;
use super::body::UploadError;
use crate::series::Outcome;

/// Why a try gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before anything was sent.
    Unsent,
    /// It ended after something was sent.
    Lost,
    /// What came was no answer.
    Garbage,
    /// No answer in time.
    Timeout,
    /// The client's body broke off.
    Client,
    /// The client sent nothing of its body for too long.
    Stalled,
    /// An answer after which the rule has another try.
    Unwanted,
}

/// What comes after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another try, at another endpoint if there is one.
    Again,
    /// The end.
    GiveUp(Reason, Outcome),
}

pub(super) fn next(failure: Failure, is_repeatable: bool, rule_retries: bool) -> Next {
    match failure {
        Failure::Connect | Failure::Unsent | Failure::Unwanted => Next::Again,
        Failure::Lost | Failure::Garbage | Failure::Timeout if rule_retries => Next::Again,
        Failure::Lost if is_repeatable => Next::Again,
        Failure::Lost | Failure::Garbage => Next::GiveUp(Reason::Broken, Outcome::Broken),
        Failure::Timeout => Next::GiveUp(Reason::Timeout, Outcome::Timeout),
        Failure::Client => Next::GiveUp(Reason::BadRequest, Outcome::ClientGone),
        Failure::Stalled => Next::GiveUp(Reason::Stalled, Outcome::ClientGone),
    }
}

pub(super) fn classify(error: &hyper::Error) -> Failure {
    let stalled = || {
        let source = std::error::Error::source(error);
        let source = source.and_then(|source| source.downcast_ref::<UploadError>());
        matches!(source, Some(UploadError::Stalled))
    };
    if error.is_user() && stalled() {
        Failure::Stalled
    } else if error.is_user() {
        Failure::Client
    } else if error.is_parse() {
        Failure::Garbage
    } else {
        Failure::Lost
    }
}

pub(super) fn sentence(failure: Failure) -> &'static str {
    match failure {
        Failure::Timeout => "The instance did not answer in time.\n",
        Failure::Client => "The body of the request broke off.\n",
        Failure::Stalled => "Nothing of the body of the request came for too long.\n",
        Failure::Garbage => "The instance sent no HTTP answer.\n",
        Failure::Connect | Failure::Unsent | Failure::Lost | Failure::Unwanted => {
            "The connection to the instance broke before its answer.\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_repeated_only_when_that_is_safe() {
        let again = |failure, repeatable| next(failure, repeatable, false) == Next::Again;
        let safe = [
            Failure::Connect,
            Failure::Unsent,
            Failure::Lost,
            Failure::Garbage,
            Failure::Timeout,
            Failure::Client,
        ]
        .map(|failure| (again(failure, true), again(failure, false)));
        let expected = [
            (true, true),
            (true, true),
            (true, false),
            (false, false),
            (false, false),
            (false, false),
        ];
        assert_eq!(safe, expected);
    }
}
