//! W3C trace context. What a client sends goes through as it is, `tracestate` too. Where it sends none, or one that is none, the
//! gateway begins a trace if the settings ask for it: an application that finds one takes over the decision whether it is
//! recorded, so that beginning traces is nothing that is done unasked.
//!
//! Absent on purpose: spans.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::live::{draw, wins};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Begins a trace where there is none. `share` is of how many of a million it says that they are to be recorded.
pub(super) fn begin(headers: &mut HeaderMap, share: u32) {
    if trace_id(headers).is_some() {
        return;
    }
    headers.remove(TRACESTATE);
    // No number may be 0; one in 2⁶⁴ draws is.
    let [high, low, parent] = [draw(), draw(), draw()].map(|n| n.max(1));
    let flags = u8::from(wins(share));
    let text = format!("00-{high:016x}{low:016x}-{parent:016x}-{flags:02x}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The trace that a request belongs to; `None` when its `traceparent` is not there, is there twice, or is none.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let text = all.next()?.to_str().ok()?;
    if all.next().is_some() {
        return None;
    }
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    let is_one = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(parent, 16)
        && !is_zero(parent)
        && is_hex(flags, 2)
        // A later version may have more parts; this one has not.
        && (version != "00" || parts.next().is_none());
    is_one.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn sent(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        headers
    }

    #[test]
    fn a_trace_that_comes_is_kept_with_its_state() {
        for text in [
            format!("00-{TRACE}-00f067aa0ba902b7-01"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later"),
        ] {
            let mut headers = sent(&[&text]);
            begin(&mut headers, 1_000_000);
            assert_eq!(headers, sent(&[&text]));
            assert_eq!(trace_id(&headers), Some(TRACE));
        }
    }

    #[test]
    fn what_is_no_trace_is_replaced_without_its_state() {
        let zero = "0".repeat(32);
        for text in [
            String::new(),
            "garbage".into(),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{zero}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
        ] {
            let mut headers = sent(&[&text]);
            assert_eq!(trace_id(&headers), None, "{text}");
            begin(&mut headers, 0);
            let begun = headers.get(TRACEPARENT).unwrap().to_str().unwrap();
            assert!(
                trace_id(&headers).is_some() && begun.ends_with("-00"),
                "{begun}"
            );
            assert!(!headers.contains_key(TRACESTATE));
        }
        let one = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(&sent(&[&one, &one])), None);
        let mut headers = HeaderMap::new();
        begin(&mut headers, 1_000_000);
        assert!(headers[TRACEPARENT].to_str().unwrap().ends_with("-01"));
    }
}
