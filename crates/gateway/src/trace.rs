//! W3C trace context. What a client sends goes through as it is, `tracestate` too, unless the gateway tells of a span of its own:
//! then that stands between what the client has sent and what the instance gets. Where it sends none, or one that is none, the
//! gateway begins a trace if the settings ask for it: an application that finds one takes over the decision whether it is
//! recorded, so that beginning traces is nothing that is done unasked.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Serialize, Serializer};

use crate::live::{draw, wins};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag that a trace is recorded.
const SAMPLED: u8 = 1;
/// The flags that this version knows: that one, and that the number of the trace was drawn by lot.
const KNOWN_FLAGS: u8 = SAMPLED | 2;

/// A trace; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

/// One step of a trace; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(u64);

/// The step of a trace that the gateway itself tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    /// The step of the client; `None` where the trace begins here.
    pub(crate) parent: Option<SpanId>,
    pub(crate) flags: u8,
    pub(crate) state: Option<String>,
    pub(crate) user_agent: Option<String>,
}

/// How a request stands to a trace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traced {
    /// The trace that it belongs to.
    pub(crate) trace: Option<TraceId>,
    /// What the gateway tells of it there.
    pub(crate) span: Option<Box<Span>>,
}

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TraceParent {
    trace: TraceId,
    parent: SpanId,
    flags: u8,
}

/// Makes the headers those that the instance gets. `share` is of how many of a million traces that begin here it is said that they are
/// recorded; with `None` none begins. With `has_spans` the gateway tells of a span of its own where the trace is recorded.
pub(crate) fn pass(headers: &mut HeaderMap, share: Option<u32>, has_spans: bool) -> Traced {
    let sent = TraceParent::sent(headers);
    let Some(context) = sent.or_else(|| share.map(TraceParent::begin)) else {
        return Traced::default();
    };
    let mut passed = context;
    if sent.is_none() {
        headers.remove(TRACESTATE);
    }
    let span = (has_spans && context.is_sampled()).then(|| {
        if sent.is_some() {
            passed.parent = SpanId::draw();
        }
        Box::new(Span {
            trace: context.trace,
            id: passed.parent,
            parent: sent.map(|sent| sent.parent),
            flags: context.flags,
            state: text_of(headers, &TRACESTATE),
            user_agent: text_of(headers, &header::USER_AGENT),
        })
    });
    if sent != Some(passed)
        && let Ok(value) = HeaderValue::try_from(passed.to_string())
    {
        headers.insert(TRACEPARENT, value);
    }
    let trace = Some(context.trace);
    Traced { trace, span }
}

/// All values of a header as one list; `None` where there is none that can be read.
fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values = headers.get_all(name).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

impl TraceParent {
    /// That of the client; `None` when its `traceparent` is not there, is there twice, or is none.
    fn sent(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let text = all.next()?.to_str().ok()?;
        match all.next() {
            Some(_) => None,
            None => Self::parse(text),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            let number = part.bytes().all(is_hex).then_some(part)?;
            u128::from_str_radix(number, 16).ok()
        };
        let (version, trace, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // A later version may have more parts; this one has not.
        let is_whole = version != 0 || parts.next().is_none();
        let is_one = version != 0xff && trace != 0 && parent != 0 && is_whole;
        is_one.then_some(Self {
            trace: TraceId(trace),
            parent: SpanId(u64::try_from(parent).ok()?),
            flags: u8::try_from(flags).ok()? & KNOWN_FLAGS,
        })
    }

    fn begin(share: u32) -> Self {
        let [high, low] = [draw(), draw()].map(u128::from);
        Self {
            // One in 2¹²⁸ draws is 0.
            trace: TraceId((high << 64 | low).max(1)),
            parent: SpanId::draw(),
            flags: if wins(share) { SAMPLED } else { 0 },
        }
    }

    fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl SpanId {
    fn draw() -> Self {
        Self(draw().max(1))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
impl Span {
    /// One that a client has called for.
    pub(crate) fn example() -> Self {
        Self {
            trace: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            id: SpanId(0x1122_3344_5566_7788),
            parent: Some(SpanId(0x00f0_67aa_0ba9_02b7)),
            flags: SAMPLED,
            state: Some("a=1".into()),
            user_agent: Some("curl/8.5.0".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const ALL: Option<u32> = Some(1_000_000);

    fn sent(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        headers
    }

    fn passed(headers: &HeaderMap) -> &str {
        headers[TRACEPARENT].to_str().unwrap()
    }

    #[test]
    fn a_trace_that_comes_is_kept_with_its_state() {
        for (text, has_spans) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), false),
            (
                format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later"),
                false,
            ),
            // What is not recorded is not told of.
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), true),
        ] {
            let mut headers = sent(&[&text]);
            let traced = pass(&mut headers, ALL, has_spans);
            assert_eq!(headers, sent(&[&text]));
            assert_eq!(traced.trace.unwrap().to_string(), TRACE);
            assert_eq!(traced.span, None);
        }
    }

    #[test]
    fn a_span_of_the_gateway_stands_between_client_and_instance() {
        for text in [
            format!("00-{TRACE}-00f067aa0ba902b7-03"),
            format!("cc-{TRACE}-00f067aa0ba902b7-ff-what-comes-later"),
        ] {
            let mut headers = sent(&[&text]);
            let span = *pass(&mut headers, None, true).span.unwrap();
            assert_eq!(passed(&headers), format!("00-{TRACE}-{}-03", span.id));
            assert_eq!(headers[TRACESTATE], "a=1");
            assert_ne!(Some(span.id), span.parent);
            let parent = span.parent.unwrap().to_string();
            let shown = (span.trace.to_string(), parent, span.flags, span.state);
            let expected = (
                TRACE.into(),
                "00f067aa0ba902b7".into(),
                3,
                Some("a=1".into()),
            );
            assert_eq!(shown, expected);
        }
        let mut headers = HeaderMap::new();
        let span = *pass(&mut headers, ALL, true).span.unwrap();
        assert_eq!(
            passed(&headers),
            format!("00-{}-{}-01", span.trace, span.id)
        );
        assert_eq!(span.parent, None);
    }

    #[test]
    fn what_is_no_trace_is_replaced_without_its_state() {
        let zero = "0".repeat(32);
        let one = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for texts in [
            vec![String::new()],
            vec!["garbage".into()],
            vec![format!("ff-{TRACE}-00f067aa0ba902b7-01")],
            vec![format!("00-{TRACE}-00f067aa0ba902b7-01-more")],
            vec![format!("00-{TRACE}-0000000000000000-01")],
            vec![format!("00-{zero}-00f067aa0ba902b7-01")],
            vec![format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase())],
            vec![format!("00-+{}-00f067aa0ba902b7-01", &TRACE[1..])],
            vec![one.clone(), one],
        ] {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut headers = sent(&texts);
            assert_eq!(
                pass(&mut headers, None, true),
                Traced::default(),
                "{texts:?}"
            );
            assert_eq!(headers, sent(&texts));
            let traced = pass(&mut headers, Some(0), true);
            let begun = passed(&headers);
            let trace = traced.trace.unwrap();
            assert!(
                begun.starts_with(&format!("00-{trace}-")) && begun.ends_with("-00"),
                "{begun}"
            );
            assert_eq!(traced.span, None);
            assert!(!headers.contains_key(TRACESTATE));
        }
    }
}
