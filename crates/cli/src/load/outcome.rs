//! What became of one request, and whose fault it was.

use std::time::Duration;

use serde::Serialize;

/// One request, counted once.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When it was due, since the start of the load.
    pub(crate) at: Duration,
    /// How long it took, until the end of its answer; from when it was due if every connection was busy then.
    pub(crate) latency: Duration,
    /// How it ended.
    pub(crate) ending: Ending,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A whole answer came back.
    Answer(Answer),
    /// No connection could be made.
    ConnectError { why: String },
    /// The connection broke before the end of the answer.
    Broken { why: String },
    /// There was no whole answer in time.
    Timeout,
}

/// What is kept of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Its `x-demo-version`; `None` without that header.
    pub(crate) version: Option<String>,
    /// Its `x-serin-gateway`: why the gateway answered in place of the application; `None` without that header.
    pub(crate) gateway_reason: Option<String>,
}

/// Why a request got no answer of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// No connection could be made.
    ConnectError,
    /// The connection broke before the end of the answer.
    Broken,
    /// There was no whole answer in time.
    Timeout,
    /// The gateway answered in place of the application.
    GatewayAnswer,
    /// The answer carries no version, though every answer of the application does.
    ForeignAnswer,
}

impl Ending {
    /// Why this request is lost to the delivery; `None` when the application answered it, with whatever status.
    pub(crate) fn fault(&self, expect_version: bool) -> Option<Fault> {
        match self {
            Self::ConnectError { .. } => Some(Fault::ConnectError),
            Self::Broken { .. } => Some(Fault::Broken),
            Self::Timeout => Some(Fault::Timeout),
            Self::Answer(answer) if answer.gateway_reason.is_some() => Some(Fault::GatewayAnswer),
            Self::Answer(answer) if expect_version && answer.version.is_none() => {
                Some(Fault::ForeignAnswer)
            }
            Self::Answer(_) => None,
        }
    }

    /// What there is to say about it, for people.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::ConnectError { why } | Self::Broken { why } => why.clone(),
            Self::Timeout => "no answer in time".to_owned(),
            Self::Answer(answer) => match &answer.gateway_reason {
                Some(reason) => format!("status {} by the gateway: {reason}", answer.status),
                None => format!("status {}", answer.status),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_application_can_answer_for_itself() {
        let answer = |status, version: Option<&str>, reason: Option<&str>| {
            Ending::Answer(Answer {
                status,
                version: version.map(str::to_owned),
                gateway_reason: reason.map(str::to_owned),
            })
        };
        let why = || "refused".to_owned();
        for (ending, with_versions, without) in [
            (answer(200, Some("v1"), None), None, None),
            (answer(500, Some("v1"), None), None, None),
            (answer(502, None, None), Some(Fault::ForeignAnswer), None),
            (
                answer(503, None, Some("no-endpoint")),
                Some(Fault::GatewayAnswer),
                Some(Fault::GatewayAnswer),
            ),
            (
                Ending::ConnectError { why: why() },
                Some(Fault::ConnectError),
                Some(Fault::ConnectError),
            ),
            (
                Ending::Broken { why: why() },
                Some(Fault::Broken),
                Some(Fault::Broken),
            ),
            (Ending::Timeout, Some(Fault::Timeout), Some(Fault::Timeout)),
        ] {
            assert_eq!(ending.fault(true), with_versions, "{ending:?}");
            assert_eq!(ending.fault(false), without, "{ending:?}");
        }
    }
}
