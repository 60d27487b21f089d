//! An answer that goes on: read line by line, with a cap on the line.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use super::ClientError;

/// The longest line that is read; an object may have 1.5 MiB in Kubernetes.
const LINE_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// The lines of an answer.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    server: String,
}

impl Lines {
    pub(super) fn new(body: Body, server: String) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            server,
        }
    }

    /// The next line without its end, the last one also when nothing ends it; `None` when the server ends the answer.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut searched = 0;
        loop {
            let unsearched = self.buffer.iter().skip(searched);
            if let Some(at) = unsearched.clone().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at).freeze();
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > LINE_LIMIT_BYTES {
                return Err(ClientError::Malformed {
                    what: format!("a line longer than {LINE_LIMIT_BYTES} bytes"),
                });
            }
            let Some(chunk) = self.chunk().await? else {
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next line as JSON, such as an event of a watch.
    pub(crate) async fn next_json(&mut self) -> Result<Option<Value>, ClientError> {
        let Some(line) = self.next().await? else {
            return Ok(None);
        };
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(ClientError::malformed)
    }

    /// The next bytes as they come; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| ClientError::Unreachable {
                server: self.server.clone(),
                source: error.into(),
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_the_last_needs_no_end() {
        let body = Body::from(b"one\n\ntwo".to_vec());
        let mut lines = Lines::new(body, String::new());
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            seen.push(line);
        }
        assert_eq!(seen, ["one", "", "two"]);
    }
}
