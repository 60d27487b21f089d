//! An application that takes its time, and ends in the two ways that applications have.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const TAKES: Duration = Duration::from_millis(20);
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n";

/// What an application does when it is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Listens no longer, closes what is idle, and answers what it has begun.
    Graceful,
    /// Is gone at once.
    Kill,
}

pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    end: watch::Sender<Option<End>>,
    cut: Arc<AtomicU64>,
}

impl Application {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = watch::channel(None);
        let cut = Arc::new(AtomicU64::new(0));
        let one = Connections {
            ended,
            cut: Arc::clone(&cut),
        };
        tokio::spawn(one.accept(listener));
        Self { address, end, cut }
    }

    pub(crate) fn end(&self, how: End) {
        self.end.send_replace(Some(how));
    }

    /// Requests that it had received, or that had reached its connections, and that it left without an answer.
    pub(crate) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Connections {
    ended: watch::Receiver<Option<End>>,
    cut: Arc<AtomicU64>,
}

impl Connections {
    async fn accept(mut self, listener: TcpListener) {
        loop {
            let stream = tokio::select! {
                biased;
                _ = self.end() => break,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let _ = stream.set_nodelay(true);
            tokio::spawn(self.clone().serve(stream));
        }
        // Whoever has been let in by the kernel is a client too.
        let listener = listener.into_std().unwrap();
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            tokio::spawn(self.clone().serve(TcpStream::from_std(stream).unwrap()));
        }
    }

    async fn end(&mut self) -> End {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| *end).unwrap_or(End::Kill)
    }

    async fn serve(mut self, mut stream: TcpStream) {
        let mut request = Vec::new();
        loop {
            let end = tokio::select! {
                biased;
                end = self.end() => Some(end),
                whole = read(&mut stream, &mut request) => match whole {
                    Ok(true) => None,
                    Ok(false) | Err(_) => return,
                },
            };
            // What has arrived is a request, whether or not it was looked at.
            let came = end.is_none() || !request.is_empty() || has_come(&stream);
            match end {
                _ if !came => return,
                Some(End::Kill) => return self.leave_unanswered(),
                Some(End::Graceful) | None => {}
            }
            if end.is_some() && read(&mut stream, &mut request).await.is_err() {
                return;
            }
            if self.answer(&mut stream).await.is_err() || end.is_some() {
                return;
            }
            request.clear();
        }
    }

    /// After the time that an answer takes, unless the process is killed meanwhile.
    async fn answer(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let mut ended = self.ended.clone();
        tokio::select! {
            biased;
            _ = ended.wait_for(|end| *end == Some(End::Kill)) => {
                self.leave_unanswered();
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            () = tokio::time::sleep(TAKES) => {}
        }
        let is_last = self.ended.borrow().is_some();
        let close = if is_last { "connection: close\r\n" } else { "" };
        stream
            .write_all(format!("{ANSWER}{close}\r\nhello").as_bytes())
            .await
    }

    fn leave_unanswered(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the system has got something. The runtime may not have been told yet.
fn has_come(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(stream, &mut [0_u8; 1][..], flags).is_ok_and(|(read, _)| read > 0)
}

/// Reads one request with its body; `false` at the end of the connection. May be dropped and called again.
async fn read(stream: &mut TcpStream, request: &mut Vec<u8>) -> io::Result<bool> {
    while !is_whole(request) {
        if stream.read_buf(request).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|value| value.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}
