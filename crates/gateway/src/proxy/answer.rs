//! The answers that the gateway makes itself, each with `x-serin-gateway: REASON`, so that nobody takes them for the
//! application's.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::AnswerBody;

/// An answer on its way to the client. It is passed on often, and in a box that costs little.
pub(super) type Answer = Box<Response<AnswerBody>>;

const REASON: HeaderName = HeaderName::from_static("x-serin-gateway");

/// Why the application did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No route has this host and path: 404.
    NoRoute,
    /// The route names no Service that exists: 500.
    NoBackend,
    /// No instance was ready for as long as a request may wait: 503.
    NoEndpoint,
    /// No connection to any instance could be made: 502.
    Connect,
    /// The connection broke before the answer: 502.
    Broken,
    /// No answer in time: 504.
    Timeout,
    /// The client sent nothing of its body for too long: 408, and the connection is closed.
    Stalled,
    /// The request itself: 400, and the connection is closed.
    BadRequest,
    /// The request has more headers than are taken: 431.
    TooManyHeaders,
    /// The host is served over HTTPS only: 308.
    Https,
    /// More requests come than the route lets through: 429.
    RateLimited,
    /// As many requests are under way as may be: 503.
    Overloaded,
    /// The circuit breaker of the route is open: 503.
    CircuitOpen,
    /// The route asks for a fault; its status.
    Fault,
    /// A method or protocol that is not served: 501, and the connection is closed.
    NotServed,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::NoBackend => "no-backend",
            Self::NoEndpoint => "no-endpoint",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::BadRequest => "bad-request",
            Self::TooManyHeaders => "too-many-headers",
            Self::Https => "https",
            Self::RateLimited => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit-open",
            Self::Fault => "fault",
            Self::NotServed => "not-served",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoEndpoint | Self::Overloaded | Self::CircuitOpen | Self::Fault => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Connect | Self::Broken => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Https => StatusCode::PERMANENT_REDIRECT,
            Self::NotServed => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// The answer, with one sentence for people.
pub(super) fn own(reason: Reason, sentence: &'static str) -> Answer {
    let mut response = Response::new(AnswerBody::own(Bytes::from_static(sentence.as_bytes())));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static(reason.word()));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    match reason {
        Reason::NoEndpoint | Reason::Overloaded | Reason::CircuitOpen | Reason::RateLimited => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Reason::Stalled | Reason::BadRequest | Reason::NotServed => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    Box::new(response)
}

/// The answer with another status than that of its reason.
pub(super) fn with_status(reason: Reason, status: StatusCode, sentence: &'static str) -> Answer {
    let mut answer = own(reason, sentence);
    *answer.status_mut() = status;
    answer
}
