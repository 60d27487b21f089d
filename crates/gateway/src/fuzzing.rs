//! What fuzzers call: the parsers of what clients send, and the whole proxy between a client and an instance that both say
//! whatever they like. `fuzz/` has the targets for cargo-fuzz; the tests here run each of them over seeded mutations.
//!
//! Each function panics when what must always hold does not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::live::{Lasting, LiveTable, RequestView};
use crate::names::{ObjectName, Source, SourceKind};
use crate::ports::{Door, Scheme};
use crate::proxy::proxy_protocol::{self, Found};
use crate::proxy::swift;
use crate::proxy::websocket::Frames;
use crate::proxy::wire::chunks::Chunks;
use crate::proxy::{Client, Settings, Shared, Worker, converse};
use crate::table::{
    Backend, EndpointEntry, HeaderChanges, HostMatch, PathMatch, PortEntry, PortRef, Protocol,
    RequestMatch, RouteTable, Rule, ServiceEntry,
};
use crate::tls::Tls;

/// Within this time everything must have ended; each wait of the proxy is far shorter here.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(10);

/// What stands between what a client says and what an instance says.
const INSTANCE_SAYS: &[u8] = b"\n--- the instance says ---\n";

/// The header of the PROXY protocol: its length is within the bytes, and a prefix of a header is never wrong.
pub fn proxy_header(bytes: &[u8]) {
    let Found::Header { length, .. } = proxy_protocol::parse(bytes) else {
        return;
    };
    assert!(
        length <= bytes.len(),
        "a header of {length} bytes in {}",
        bytes.len()
    );
    for cut in 0..length {
        let found = proxy_protocol::parse(bytes.get(..cut).unwrap_or_default());
        assert_eq!(found, Found::More, "after {cut} bytes of {length}");
    }
}

/// The frames of a WebSocket: however the bytes are cut, they end in the same places.
pub fn frames(bytes: &[u8]) {
    let (mut whole, mut single) = (Frames::default(), Frames::default());
    whole.pass(bytes);
    for byte in bytes {
        single.pass(std::slice::from_ref(byte));
    }
    assert_eq!(whole.is_between(), single.is_between());
    let mut third = Frames::default();
    third.pass(bytes.get(..1).unwrap_or_default());
    if let Some(end) = third.pass_to_end(bytes.get(1..).unwrap_or_default()) {
        assert!(end < bytes.len().max(1));
    }
}

/// A head on the short path: it is taken when it is whole and not before, nothing behind it counts, and it has no header that says
/// anything of a body.
pub fn head(bytes: &[u8]) {
    let Some((headers, length)) = swift::simple(bytes) else {
        return;
    };
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::EXPECT,
    ] {
        assert!(!headers.contains_key(&name), "{name} on the short path");
    }
    let all = bytes.get(..length).unwrap_or_default();
    assert_eq!(swift::simple(all), Some((headers, length)));
    for cut in 0..length {
        let part = bytes.get(..cut).unwrap_or_default();
        assert_eq!(swift::simple(part), None, "after {cut} bytes of {length}");
    }
}

/// A chunked body: however the bytes are cut, it has the same content and ends in the same place.
pub fn chunks(bytes: &[u8]) {
    let whole = unchunked([bytes]);
    let single = unchunked(bytes.chunks(1));
    assert_eq!(whole, single);
}

/// The content, the trailers, and whether it has ended; `None` when it is no chunked body.
fn unchunked<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Option<(Vec<u8>, Option<HeaderMap>, bool)> {
    let (mut chunks, mut read) = (Chunks::default(), BytesMut::new());
    let (mut content, mut trailers) = (Vec::new(), None);
    for part in parts {
        read.extend_from_slice(part);
        while let Some(frame) = chunks.next(&mut read).ok()? {
            match frame.into_data() {
                Ok(data) => content.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    Some((content, trailers, chunks.has_ended()))
}

/// Rules of every kind, for requests that say whatever they like.
#[derive(Debug)]
pub struct Routes(LiveTable);

impl Routes {
    /// The rules: paths of all kinds, headers, cookies, a query, and a user who stays.
    ///
    /// # Errors
    /// When they are no rules, which is a mistake here.
    pub fn new() -> Result<Self, serde_json::Error> {
        let table = serde_json::from_str(include_str!("fuzzing/routes.json"))?;
        Ok(Self(crate::live::live_for_bench(table)))
    }

    /// A request in lines: host, path, query, cookies, and the value of a header. The same one always finds the same rule, with a
    /// prefix that is within its path.
    pub fn find(&self, bytes: &[u8]) {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        let mut text = || String::from_utf8_lossy(line()).into_owned();
        let (host, path, query) = (text(), text(), text());
        let mut headers = HeaderMap::new();
        for name in [header::COOKIE, header::USER_AGENT] {
            if let Ok(value) = HeaderValue::from_bytes(line()) {
                headers.append(name, value);
            }
        }
        let request = RequestView {
            host: &host,
            port: None,
            path: &path,
            query: &query,
            method: &Method::GET,
            headers: &headers,
            scheme: "http",
            client: "192.0.2.1",
            listener: 80,
        };
        let found = self.0.find(&request);
        let again = self.0.find(&request).map(|(_, prefix)| prefix);
        assert_eq!(found.map(|(_, prefix)| prefix), again);
        if let Some(prefix) = again.flatten() {
            assert!(path.is_char_boundary(prefix), "{prefix} in {path:?}");
        }
        let Some((rule, prefix)) = found else {
            return;
        };
        let extras = rule.extras.as_deref();
        let rewrite = extras.and_then(|extras| extras.rewrite.as_ref());
        if let (Some(rewrite), Ok(uri)) = (rewrite, path.parse()) {
            let _ = rewrite.target(&uri, prefix);
        }
        if let Some(user) = extras.and_then(|extras| extras.sticky.as_ref()) {
            assert_eq!(user.user(&request), user.user(&request));
        }
    }
}

/// A proxy with one instance that sends the same bytes to whoever asks.
#[derive(Debug)]
pub struct Proxy {
    runtime: tokio::runtime::Runtime,
    worker: Arc<Worker>,
    lasting: Lasting,
    says: Arc<Mutex<Vec<u8>>>,
    smuggled: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy of its own.
    ///
    /// # Errors
    /// When the system has no socket left.
    pub fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let says = Arc::<Mutex<Vec<u8>>>::default();
        let smuggled = Arc::<AtomicUsize>::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(instance(listener, Arc::clone(&says), Arc::clone(&smuggled)));
        let shared = Shared::new(settings(), Tls::new().map_err(std::io::Error::other)?);
        let mut lasting = Lasting {
            instances: crate::instances::Instances::new(Arc::default()),
            turns: Default::default(),
            limits: Default::default(),
            registry: Arc::default(),
        };
        let live = LiveTable::build(Arc::new(table(address)), 1, &mut lasting);
        shared.table.store(Arc::new(live));
        let worker = Arc::new(Worker::new(Arc::new(shared)));
        Ok(Self {
            runtime,
            worker,
            lasting,
            says,
            smuggled,
        })
    }

    /// One client: what it says and what the instance says, with a line between them. It always ends, nothing stays in flight, and
    /// over HTTP/1 the instance never sees a request that the client has not been answered for.
    pub fn conversation(&self, input: &[u8]) {
        let line = input
            .windows(INSTANCE_SAYS.len())
            .position(|part| part == INSTANCE_SAYS);
        let (client, instance) = input.split_at(line.unwrap_or(input.len()));
        let instance = instance.strip_prefix(INSTANCE_SAYS).unwrap_or_default();
        let is_http2 = client.starts_with(b"PRI ");
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = instance.to_vec();
        self.smuggled.store(0, Ordering::SeqCst);
        let ended = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.converse(is_http2, client)).await
        });
        assert!(ended.is_ok(), "it did not end");
        assert_eq!(self.lasting.instances.in_flight_in_all(), 0);
        assert_eq!(
            self.smuggled.load(Ordering::SeqCst),
            0,
            "a body was taken for a request"
        );
    }

    async fn converse(&self, is_http2: bool, client: &[u8]) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let door = Door {
            scheme: Scheme::Http,
            port: 80,
        };
        let served = Client::new(Arc::clone(&self.worker), peer, door);
        let served = tokio::spawn(converse(served, far, is_http2));
        let (mut from, mut to) = tokio::io::split(near);
        let write = async {
            let _ = to.write_all(client).await;
            // The client stays, as one that attacks would.
            tokio::time::sleep(SHORT).await;
            let _ = to.shutdown().await;
        };
        let mut answers = Vec::new();
        let read = from.read_to_end(&mut answers);
        let _ = tokio::join!(write, read);
        let ended = served.await;
        assert!(ended.is_ok(), "{ended:?}");
        self.worker.idle().await;
        while self.lasting.instances.in_flight_in_all() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Says to every request what it was told to say. A request for `/smuggled` is one that nobody has sent as a request.
async fn instance(listener: TcpListener, says: Arc<Mutex<Vec<u8>>>, smuggled: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&says), Arc::clone(&smuggled)));
    }
}

async fn answer(mut stream: TcpStream, says: Arc<Mutex<Vec<u8>>>, smuggled: Arc<AtomicUsize>) {
    let mut seen = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut seen).await {
        if !seen.windows(4).any(|four| four == b"\r\n\r\n") {
            continue;
        }
        if seen.starts_with(b"GET /smuggled ") {
            smuggled.fetch_add(1, Ordering::SeqCst);
        }
        seen.clear();
        let text = says.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if stream.write_all(&text).await.is_err() {
            return;
        }
    }
}

fn settings() -> Settings {
    Settings {
        hold: SHORT,
        connect_timeout: SHORT,
        head_timeout: SHORT,
        client_idle: SHORT,
        body_idle: SHORT,
        rest_after: SHORT,
        max_held: 10,
        max_connections: 10,
        proxy_protocol: false,
        trusted_hops: 1,
        writes_forwarded: true,
        https_port: None,
        redirects_all: false,
        observers: Arc::default(),
        trace_share: Some(500_000),
        sync_until: None,
    }
}

/// Every request to one instance, within half a second.
fn table(address: SocketAddr) -> RouteTable {
    let service = ObjectName::new("default", "web");
    let endpoint = EndpointEntry {
        address,
        instance: "pod".into(),
        revision: "v1".into(),
        subsets: Vec::new(),
    };
    let port = PortEntry {
        name: String::new(),
        port: 80,
        protocol: Protocol::Http1,
        tls: None,
        endpoints: vec![endpoint],
    };
    let entry = ServiceEntry {
        ports: vec![port],
        ..ServiceEntry::default()
    };
    let rule = Rule {
        source: Source {
            kind: SourceKind::HttpRoute,
            name: service.clone(),
        },
        created: jiff::Timestamp::UNIX_EPOCH,
        index: 0,
        port: None,
        hosts: vec![HostMatch::Any],
        except: Vec::new(),
        matches: vec![RequestMatch::of_path(PathMatch::Prefix(String::new()))],
        backends: vec![Backend::new(service.clone(), PortRef::First, 1)],
        headers: HeaderChanges::default(),
        timeout_ms: Some(500),
        try_timeout_ms: None,
        policy: Default::default(),
    };
    RouteTable {
        rules: vec![rule],
        services: [(service, entry)].into(),
        ..RouteTable::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// How many times as many mutations as usual: `SERIN_FUZZ_ROUNDS`.
    fn rounds() -> usize {
        let given = std::env::var("SERIN_FUZZ_ROUNDS").ok();
        given.and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// Numbers that are the same in every run (xorshift64).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound.max(1) as u64).unwrap()
        }

        /// A seed with some bytes changed, doubled or taken away.
        fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
            const WORDS: [&[u8]; 8] = [
                b"\r\n",
                b"\r\n\r\n",
                b"\0",
                b"content-length: 5\r\n",
                b"transfer-encoding: chunked\r\n",
                b"0\r\n\r\n",
                b" ",
                b"\xff",
            ];
            let mut bytes = seed.to_vec();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                match self.below(4) {
                    0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                    1 if at < bytes.len() => {
                        drop(bytes.drain(at..bytes.len().min(at + 1 + self.below(8))))
                    }
                    2 => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
                    _ => {
                        let from = self.below(bytes.len());
                        let part = bytes[from..bytes.len().min(from + 1 + self.below(32))].to_vec();
                        drop(bytes.splice(at..at, part));
                    }
                }
            }
            bytes
        }
    }

    /// What fuzzers begin with, in the order of their names.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/seeds")
            .join(target);
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .map(|file| std::fs::read(file).unwrap())
            .collect()
    }

    fn over_mutations(target: &str, times: usize, holds: impl Fn(&[u8])) {
        let mut numbers = Numbers(0x5e71_4bad);
        for seed in seeds(target) {
            holds(&seed);
            for _ in 0..times * rounds() {
                holds(&numbers.mutate(&seed));
            }
        }
    }

    #[test]
    fn parsers_hold_over_seeded_mutations() {
        const TIMES: usize = 10_000;
        let routes = Routes::new().unwrap();
        over_mutations("proxy_header", TIMES, proxy_header);
        over_mutations("frames", TIMES, frames);
        over_mutations("head", TIMES, head);
        over_mutations("chunks", TIMES, chunks);
        over_mutations("routes", TIMES, |bytes| routes.find(bytes));
    }

    #[test]
    fn the_proxy_holds_over_seeded_mutations() {
        let proxy = Proxy::new().unwrap();
        over_mutations("conversation", 20, |bytes| proxy.conversation(bytes));
    }

    fn conversation(client: &[u8], instance: &[u8]) -> Vec<u8> {
        [client, INSTANCE_SAYS, instance].concat()
    }

    #[test]
    fn what_stands_in_a_body_is_no_request() {
        let proxy = Proxy::new().unwrap();
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let hidden = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for head in [
            &b"content-length: 38\r\n"[..],
            b"content-length: 38\r\ntransfer-encoding: chunked\r\n",
            b"transfer-encoding: chunked\r\ncontent-length: 38\r\n",
            b"content-length: 3\r\ncontent-length: 38\r\n",
        ] {
            let client = [b"POST / HTTP/1.1\r\nhost: a\r\n", head, b"\r\n", hidden].concat();
            proxy.conversation(&conversation(&client, good));
        }
    }
}
