//! The load: connections that each have one request under way, as fast as they are answered or at a rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::peers::{Front, HOST};

/// Streams of one HTTP/2 connection.
const STREAMS: usize = 8;
const DESCRIPTORS: u64 = 65_536;
const BODY: &str = "what is asked for once, and is to be done once";

/// A `POST` has a body, and cannot be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Get => "GET",
            Self::Post => "POST",
        })
    }
}

pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) front: Front,
    /// Over HTTP/1.1; HTTP/2 sends `GET`.
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) connections: usize,
    /// `None`: as fast as answers come.
    pub(crate) rate_per_second: Option<f64>,
    pub(crate) time: Duration,
    /// Ends it before its time.
    pub(crate) stop: Arc<AtomicBool>,
}

#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) errors: u64,
    /// Of each answer.
    pub(crate) micros: Vec<u32>,
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.errors += other.errors;
        self.micros.extend(other.micros);
    }

    /// The latency that this share of the answers is not above, in microseconds.
    pub(crate) fn quantile(&mut self, share: f64) -> f64 {
        self.micros.sort_unstable();
        let at = (self.micros.len() as f64 * share) as usize;
        self.micros.get(at).copied().map_or(f64::NAN, f64::from)
    }
}

/// Each connection costs a descriptor on both sides, and HAProxy asks for two. Who may raises the bound of the user too. The bound.
pub(crate) fn raise_descriptor_limit() -> usize {
    let all = |maximum| Rlimit {
        current: maximum,
        maximum,
    };
    if setrlimit(Resource::Nofile, all(Some(DESCRIPTORS))).is_err() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, all(maximum)).unwrap();
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// When one of several senders is to send.
#[derive(Clone)]
struct Schedule {
    stop: Arc<AtomicBool>,
    end: Instant,
    next: Instant,
    every: Option<Duration>,
}

impl Schedule {
    /// Waits for the next turn; the time from which its latency counts, `None` at the end.
    async fn turn(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.end || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let Some(every) = self.every else {
            return Some(now);
        };
        let due = self.next;
        self.next += every;
        if due <= now {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        Some(Instant::now())
    }
}

impl Load {
    pub(crate) async fn run(&self) -> Measured {
        let start = Instant::now();
        let senders = match self.front {
            Front::H2c => self.connections * STREAMS,
            Front::Plain | Front::Tls => self.connections,
        };
        let every = self.rate_per_second.map(|rate| senders as f64 / rate);
        let every = every.map(Duration::from_secs_f64);
        let mut tasks = JoinSet::new();
        for number in 0..self.connections {
            // All senders take turns, and one connection does not follow itself.
            let offset = every
                .unwrap_or_default()
                .mul_f64(number as f64 / senders as f64);
            let schedule = Schedule {
                stop: Arc::clone(&self.stop),
                end: start + self.time,
                next: start + offset,
                every,
            };
            tasks.spawn(connection(
                self.address,
                self.front,
                self.request(),
                self.path,
                schedule,
            ));
        }
        let mut all = Measured::default();
        while let Some(ended) = tasks.join_next().await {
            all.add(ended.unwrap());
        }
        all
    }

    fn request(&self) -> Vec<u8> {
        let (method, path) = (self.method, self.path);
        let body = match method {
            Method::Get => "\r\n".to_owned(),
            Method::Post => format!("content-length: {}\r\n\r\n{BODY}", BODY.len()),
        };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: bench\r\naccept: */*\r\n{body}"
        )
        .into_bytes()
    }
}

async fn connection(
    address: SocketAddr,
    front: Front,
    request: Vec<u8>,
    path: &'static str,
    mut schedule: Schedule,
) -> Measured {
    let mut measured = Measured::default();
    while let Ok(stream) = TcpStream::connect(address).await {
        stream.set_nodelay(true).unwrap();
        let wants_more = match front {
            Front::Plain => http1(stream, &request, &mut schedule, &mut measured).await,
            Front::Tls => {
                let connector = TlsConnector::from(Arc::new(crate::peers::trusting()));
                let stream = connector.connect(HOST.try_into().unwrap(), stream).await;
                http1(stream.unwrap(), &request, &mut schedule, &mut measured).await
            }
            Front::H2c => {
                measured.add(http2(stream, path, schedule.clone()).await);
                false
            }
        };
        if !wants_more {
            return measured;
        }
    }
    // Refused: there is no use in going on.
    measured.errors += 1;
    measured
}

/// Sends requests for as long as the other side keeps the connection. Whether another connection is to follow.
async fn http1<S>(
    mut stream: S,
    request: &[u8],
    schedule: &mut Schedule,
    measured: &mut Measured,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(128 * 1024);
    while let Some(since) = schedule.turn().await {
        let answered = async {
            stream.write_all(request).await?;
            stream.flush().await?;
            read_answer(&mut stream, &mut buffer).await
        };
        match answered.await {
            Ok((200, is_last)) => {
                measured.micros.push(micros(since));
                if is_last {
                    return true;
                }
            }
            Ok(_) => measured.errors += 1,
            Err(_) => {
                measured.errors += 1;
                return true;
            }
        }
    }
    false
}

/// Reads one answer with a length; its status, and whether it is the last one of the connection.
async fn read_answer<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> std::io::Result<(u16, bool)> {
    buffer.clear();
    let head = loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(buffer.get(..head).unwrap_or_default()).to_ascii_lowercase();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let length = field("content-length:").and_then(|value| value.trim().parse::<usize>().ok());
    let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((status, text.contains("\r\nconnection: close\r\n")))
}

async fn http2(stream: TcpStream, path: &'static str, schedule: Schedule) -> Measured {
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let mut sender = sender.clone();
        let mut schedule = schedule.clone();
        schedule.next += schedule
            .every
            .unwrap_or_default()
            .mul_f64(number as f64 / STREAMS as f64);
        streams.spawn(async move {
            let mut measured = Measured::default();
            while let Some(since) = schedule.turn().await {
                let request = Request::get(format!("http://{HOST}{path}"));
                let request = request.body(Empty::new()).unwrap();
                let answered = async {
                    let answer = sender.send_request(request).await?;
                    let status = answer.status();
                    answer.into_body().collect().await?;
                    Ok::<_, hyper::Error>(status)
                };
                match answered.await {
                    Ok(status) if status == 200 => measured.micros.push(micros(since)),
                    _ => {
                        measured.errors += 1;
                        return measured;
                    }
                }
            }
            measured
        });
    }
    let mut all = Measured::default();
    while let Some(ended) = streams.join_next().await {
        all.add(ended.unwrap());
    }
    driver.abort();
    all
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Opens connections, sends one request over each and keeps them.
pub(crate) async fn hold(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let request = format!("GET /small HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut held = Vec::with_capacity(count);
    let mut buffer = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        if read_answer(&mut stream, &mut buffer)
            .await
            .is_ok_and(|(status, _)| status == 200)
        {
            held.push(stream);
        }
    }
    held
}

/// Waits until a proxy has its routes.
pub(crate) async fn until_served(address: SocketAddr) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while hold(address, 1).await.is_empty() {
        assert!(Instant::now() < give_up, "there are no routes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
