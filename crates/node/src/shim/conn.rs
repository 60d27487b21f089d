//! One connection to a shim's socket: lines in, lines out, never blocking and never growing without bound.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::wire::{MAX_LINE_BYTES, Reply, Request};

/// A connection; once broken it is only good for being dropped.
#[derive(Debug)]
pub(super) struct Conn {
    /// Names it for as long as the shim lives.
    pub(super) id: u64,
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Nobody reads what is sent. What was said before is still heard: a client may speak and leave.
    mute: bool,
    broken: bool,
}

impl Conn {
    /// Takes a connection that was just accepted.
    pub(super) fn new(id: u64, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            id,
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            mute: false,
            broken: false,
        })
    }

    /// Reads what is there; gives the whole lines that are requests. A line that is none breaks the connection.
    pub(super) fn receive(&mut self) -> Vec<Request> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.broken = true;
                    break;
                }
                Ok(n) => self.inbox.extend_from_slice(chunk.get(..n).unwrap_or(&[])),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
            if self.inbox.len() > MAX_LINE_BYTES {
                self.broken = true;
                return Vec::new();
            }
        }
        let mut requests = Vec::new();
        while let Some(end) = self.inbox.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.inbox.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(request) => requests.push(request),
                Err(_) => self.broken = true,
            }
        }
        requests
    }

    /// Queues a line and sends what can be sent.
    pub(super) fn send(&mut self, reply: &Reply) {
        if self.mute {
            return;
        }
        match serde_json::to_vec(reply) {
            Ok(line) if self.outbox.len() + line.len() <= 4 * MAX_LINE_BYTES => {
                self.outbox.extend_from_slice(&line);
                self.outbox.push(b'\n');
                self.flush();
            }
            _ => self.fall_silent(),
        }
    }

    /// Sends what can be sent now.
    pub(super) fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(n) if n > 0 => drop(self.outbox.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => self.fall_silent(),
            }
        }
    }

    fn fall_silent(&mut self) {
        self.mute = true;
        self.outbox.clear();
    }

    /// Whether something waits to be sent.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether it is only good for being dropped.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
