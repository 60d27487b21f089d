//! What comes with the head of a request.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use crate::proxy::body::{Busy, Progress, RequestBody, Upload};

/// What comes with the head of a request.
#[derive(Debug)]
pub(in crate::proxy) struct Inbound {
    pub(super) body: RequestBody,
    /// Of the body, where there is one.
    pub(super) progress: Option<Arc<Progress>>,
    /// What the client's connection becomes when the protocol changes.
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Inbound {
    /// Nothing.
    pub(in crate::proxy) fn nothing() -> Self {
        Self {
            body: RequestBody::Empty,
            progress: None,
            upgrade: None,
        }
    }

    pub(super) fn new(
        body: Incoming,
        upgrade: Option<OnUpgrade>,
        patience: Duration,
        busy: &Busy,
    ) -> Self {
        let nothing = Self::nothing();
        if body.is_end_stream() {
            return Self { upgrade, ..nothing };
        }
        let upload = Upload::new(body, patience, busy.clone());
        Self {
            progress: Some(upload.progress()),
            body: RequestBody::Client(upload),
            upgrade,
        }
    }
}
