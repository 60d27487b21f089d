//! Watches: the changes of a kind as they happen, from a version on.
//!
//! A watch has no queue of its own: it reads the store's recent changes at its own pace. One that falls behind them is told
//! that its version has expired, and its client lists again. So a slow client costs nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use crate::accept::{self, View};
use crate::listen::Endless;
use crate::options::ListOptions;
use crate::render::{self, Item, TableOptions};
use crate::resource::Resource;
use crate::selector::Selector;
use crate::server::{ApiServer, Call, Clock};
use crate::status::Refusal;
use crate::store::{Change, ChangeKind, Expired, Record, Shared};
use crate::tree::Tree;

/// How often a quiet watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const INITIAL_END: &str = "k8s.io/initial-events-end";

pub(super) fn answer(
    server: &ApiServer,
    call: &Call,
    options: ListOptions,
) -> Result<Response, Refusal> {
    let view = accept::view(&call.headers)?;
    let table = TableOptions::parse(&call.parameters, server.now())?;
    let watch = Watch::start(server, call, options, view, table);
    let body = Body::from_stream(stream::unfold(watch, Watch::next));
    let mut response = (StatusCode::OK, render::JSON, body).into_response();
    response.extensions_mut().insert(Endless);
    Ok(response)
}

/// One watch under way.
struct Watch {
    shared: Arc<Shared>,
    clock: Clock,
    committed: Receiver<u64>,
    kind: Arc<Resource>,
    prefix: String,
    selector: Selector,
    view: View,
    table: TableOptions,
    /// Everything up to this version was told or is pending.
    cursor: u64,
    pending: VecDeque<Pending>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    ended: bool,
}

/// What is still to be told; at most what the store holds anyway.
enum Pending {
    Present(Arc<Record>),
    InitialEnd,
    Changed(Arc<Change>),
    Bookmark,
    Expired(Expired),
}

impl Watch {
    fn start(
        server: &ApiServer,
        call: &Call,
        options: ListOptions,
        view: View,
        table: TableOptions,
    ) -> Self {
        let now = Instant::now();
        let prefix = call.target.prefix();
        let mut watch = Self {
            committed: server.store.subscribe(&prefix),
            shared: Arc::clone(server.store.shared()),
            clock: Arc::clone(&server.clock),
            kind: Arc::clone(&call.target.kind),
            prefix,
            selector: options.selector,
            view,
            table,
            cursor: options.version.unwrap_or(0),
            pending: VecDeque::new(),
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            deadline: now + options.timeout,
            ended: false,
        };
        let from_present = watch.cursor == 0 && options.initial_events != Some(false);
        if from_present || options.initial_events == Some(true) {
            watch.begin_with_present();
        } else if watch.cursor == 0 {
            watch.cursor = watch.shared.version();
        }
        if options.initial_events == Some(true) && !watch.ended {
            watch.pending.push_back(Pending::InitialEnd);
        }
        watch
    }

    /// Tells all present objects first, as if they had just been added.
    fn begin_with_present(&mut self) {
        let present = self.shared.list(&self.prefix, None);
        if self.cursor > present.rv {
            self.expire(Expired {
                wanted: self.cursor,
                oldest: present.rv,
            });
            return;
        }
        self.cursor = present.rv;
        let matching = present
            .records
            .into_iter()
            .filter(|r| self.selector.matches(r));
        self.pending = matching.map(Pending::Present).collect();
    }

    fn expire(&mut self, expired: Expired) {
        self.pending.push_back(Pending::Expired(expired));
        self.ended = true;
    }

    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            while let Some(pending) = self.pending.pop_front() {
                if let Some(frame) = self.frame(&pending) {
                    return Some((Ok(frame), self));
                }
            }
            if self.ended {
                return None;
            }
            self.advance().await;
        }
    }

    /// Waits for changes, for the time of a bookmark, or for the end.
    async fn advance(&mut self) {
        if !self.read_changes() || !self.pending.is_empty() {
            return;
        }
        let wake = self.next_bookmark.min(self.deadline);
        tokio::select! {
            committed = self.committed.changed() => self.ended = committed.is_err(),
            () = sleep_until(wake) => {
                self.ended = wake == self.deadline;
                self.next_bookmark = wake + BOOKMARK_EVERY;
                // It names the version of now, though nothing of this kind may have changed for long.
                if self.bookmarks && self.read_changes() {
                    self.pending.push_back(Pending::Bookmark);
                }
            }
        }
    }

    /// Whether what has changed is still known.
    fn read_changes(&mut self) -> bool {
        // Marked as seen before reading: a commit in between wakes us again.
        self.committed.borrow_and_update();
        match self.shared.changes(self.cursor, &self.prefix) {
            Err(expired) => {
                self.expire(expired);
                false
            }
            Ok((changes, upto)) => {
                self.cursor = upto;
                let changes = changes.into_iter().map(Pending::Changed);
                self.pending.extend(changes);
                true
            }
        }
    }

    fn frame(&mut self, pending: &Pending) -> Option<Bytes> {
        let (word, object) = match pending {
            Pending::Present(record) => ("ADDED", self.show(record)),
            Pending::Changed(change) => (event(&self.selector, change)?, self.show(&change.record)),
            Pending::Bookmark => (
                "BOOKMARK",
                self.bookmark(json!({"resourceVersion": self.cursor.to_string()})),
            ),
            Pending::InitialEnd => {
                let meta = json!({"resourceVersion": self.cursor.to_string(), "annotations": {INITIAL_END: "true"}});
                ("BOOKMARK", self.bookmark(meta))
            }
            Pending::Expired(expired) => (
                "ERROR",
                Refusal::expired(*expired).status().to_string().into(),
            ),
        };
        let mut frame = format!("{{\"type\":\"{word}\",\"object\":").into_bytes();
        frame.extend_from_slice(&object);
        frame.extend_from_slice(b"}\n");
        Some(frame.into())
    }

    fn show(&mut self, record: &Arc<Record>) -> Bytes {
        let table = TableOptions {
            now: (self.clock)(),
            ..self.table
        };
        // The headings are told once.
        self.table.headings = false;
        render::object(
            self.view,
            &self.kind,
            &Item::Stored(Arc::clone(record)),
            table,
        )
    }

    fn bookmark(&self, metadata: Value) -> Bytes {
        let (kind, version) = match self.view {
            View::Plain => (self.kind.kind.as_str(), self.kind.api_version()),
            View::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            View::Table => ("Table", "meta.k8s.io/v1".to_owned()),
        };
        let mut object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        if self.view == View::Table {
            object.set("rows", json!([]));
        }
        object.to_string().into()
    }
}

/// The word for a change as this selector sees it: an object that begins to match is added, one that ends is deleted.
/// `None`: the change is of no interest. What an object was before may be unknown after a restart of the server; then a
/// change is told rather than kept back, as clients take a second deletion easily.
fn event(selector: &Selector, change: &Change) -> Option<&'static str> {
    let before = change.previous.as_ref().map(|p| selector.matches(p));
    let after = selector.matches(&change.record);
    match (change.kind, before, after) {
        (ChangeKind::Added, _, true) | (ChangeKind::Modified, Some(false), true) => Some("ADDED"),
        (ChangeKind::Modified, _, true) => Some("MODIFIED"),
        (ChangeKind::Modified, Some(true) | None, false) => Some("DELETED"),
        (ChangeKind::Deleted, Some(true), _) | (ChangeKind::Deleted, None, true) => Some("DELETED"),
        _ => None,
    }
}
