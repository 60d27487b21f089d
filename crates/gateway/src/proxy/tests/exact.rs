//! Counters are exact: whatever instances do, every request is counted once, under the revision that answered it or failed it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use super::*;
use tokio::net::TcpStream;

/// Clients at once, and the requests of each.
const CLIENTS: u64 = 8;
const REQUESTS: u64 = 120;

/// Numbers that are the same in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below).unwrap()
    }
}

/// An instance that does what the path says, and says who it is in every answer.
async fn instance(revision: &'static str) -> Upstream {
    Upstream::raw(move |stream, seen| act(stream, seen, revision)).await
}

async fn act(mut stream: TcpStream, seen: Arc<AtomicUsize>, revision: &'static str) {
    loop {
        let head = world::read_head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        let length = if head.contains("content-length: 4") {
            4
        } else {
            0
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let with = |status: &str, length: usize| {
            format!(
                "HTTP/1.1 {status}\r\nx-revision: {revision}\r\ncontent-length: {length}\r\n\r\n"
            )
        };
        let (answer, goes_on) = match path {
            "/ok" => (
                format!("{}{revision}", with("200 OK", revision.len())),
                true,
            ),
            "/error" => (with("500 Oh", 0), true),
            "/missing" => (with("404 None", 0), true),
            // It dies with the request, in the middle of the answer, and right after it.
            "/dies" => (String::new(), false),
            "/half" => (format!("{}half", with("200 OK", 10)), false),
            "/last" => (
                format!("{}{revision}", with("200 OK", revision.len())),
                false,
            ),
            _ => ("this is no HTTP\r\n\r\n".into(), false),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || !goes_on {
            return;
        }
    }
}

/// What one client saw: how often which end, by revision where an instance answered.
type Seen = BTreeMap<(String, &'static str), u64>;

async fn visit(gate: &Gate, seed: u64) -> Seen {
    let paths = [
        "/ok", "/error", "/missing", "/dies", "/half", "/last", "/garbage",
    ];
    let mut numbers = Numbers(seed);
    let mut seen = Seen::new();
    let mut client = gate.http1().await;
    for _ in 0..REQUESTS {
        let path = paths[numbers.next(7)];
        let post = numbers.next(2) == 1;
        let body = if post { "four" } else { "" };
        let request = Request::builder()
            .method(if post { "POST" } else { "GET" })
            .uri(path);
        let request = request
            .header("host", "app")
            .body(Full::from(body))
            .unwrap();
        if client.ready().await.is_err() {
            client = gate.http1().await;
            client.ready().await.unwrap();
        }
        let answer = client.send_request(request).await.unwrap();
        let revision = answer.headers().get("x-revision");
        let revision = revision
            .map(|r| r.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let status = answer.status().as_u16();
        let is_whole = answer.into_body().collect().await.is_ok();
        let end = match (status, is_whole) {
            (200, true) => "2xx",
            (200, false) => "broken",
            (404, _) => "4xx",
            (500, _) => "5xx",
            // An answer of the gateway does not say which instance failed.
            (502, _) => "502",
            other => panic!("{other:?}"),
        };
        *seen.entry((revision, end)).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn whatever_instances_do_every_request_is_counted_once_where_it_belongs() {
    let revisions = ["v1", "v2"];
    let instances = [
        [instance("v1").await, instance("v1").await],
        [instance("v2").await, instance("v2").await],
    ];
    let services = revisions.iter().zip(&instances).map(|(name, [a, b])| {
        service(
            name,
            &[(&format!("{name}-a"), a), (&format!("{name}-b"), b)],
        )
    });
    let gate = Gate::serving(table(
        vec![rule(&[("v1", 70), ("v2", 30)])],
        services.collect(),
    ));
    let visits = (1..=CLIENTS).map(|seed| visit(&gate, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut seen = Seen::new();
    for one in futures::future::join_all(visits).await {
        for (key, count) in one {
            *seen.entry(key).or_default() += count;
        }
    }
    let saw = |revision: &str, end| seen.get(&(revision.to_owned(), end)).copied().unwrap_or(0);
    // A cut answer is seen by its client a moment before the worker has counted it.
    let all = || requests(&gate, "v1").requests() + requests(&gate, "v2").requests();
    gate.until(|| all() == CLIENTS * REQUESTS).await;
    let mut failed = 0;
    for (revision, both) in revisions.iter().zip(&instances) {
        let counts = requests(&gate, revision);
        let asked: usize = both.iter().map(Upstream::requests).sum();
        assert_eq!(
            counts.status[1],
            saw(revision, "2xx"),
            "{revision} {seen:?}"
        );
        assert_eq!(
            counts.status[3],
            saw(revision, "4xx"),
            "{revision} {seen:?}"
        );
        assert_eq!(
            counts.status[4],
            saw(revision, "5xx"),
            "{revision} {seen:?}"
        );
        // Every time that an instance was asked is a request that ended there, or a try before its end. What was sent to one that
        // had just closed the connection it never saw.
        assert!(
            asked as u64 <= counts.requests() + counts.retries,
            "{counts:?}"
        );
        assert_eq!(counts.client_gone + counts.no_endpoint + counts.timeouts, 0);
        failed += counts.broken + counts.connect_failures - saw(revision, "broken");
    }
    assert_eq!(failed, saw("", "502"), "{seen:?}");
    assert_eq!(requests(&gate, "").requests(), 0);
}
