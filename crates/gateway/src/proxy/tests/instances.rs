//! How the instances of a Service are treated, as DestinationRules and annotations say it, over real sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rustix::net::{AddressFamily, SocketType};

use super::*;
use crate::table::{Breaker, HashKey, Limits, ServicePolicy};

/// A gate before three instances, each of which says its name.
async fn three(policy: ServicePolicy) -> ([Upstream; 3], Gate) {
    let all = [
        Upstream::saying("a").await,
        Upstream::saying("b").await,
        Upstream::saying("c").await,
    ];
    let [a, b, c] = &all;
    let (name, mut entry) = service("web", &[("a", a), ("b", b), ("c", c)]);
    entry.policy = policy;
    let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
    (all, gate)
}

fn staying_by(key: HashKey) -> ServicePolicy {
    ServicePolicy {
        affinity: Some(key),
        ..ServicePolicy::default()
    }
}

/// Which instances answer requests with this target and header.
async fn met(gate: &Gate, target: &str, header: (&str, &str)) -> BTreeSet<String> {
    let mut client = gate.client().await;
    let mut met = BTreeSet::new();
    for _ in 0..10 {
        let request = Request::get(target)
            .header("host", "app.example.com")
            .header(header.0, header.1);
        let answer = client.send(request.body(Full::default()).unwrap()).await;
        met.insert(answer.text());
    }
    met
}

#[tokio::test]
async fn a_user_stays_at_an_instance() {
    let cookie = HashKey::Cookie {
        name: "user".into(),
        path: None,
        ttl_seconds: None,
        issue: false,
    };
    for (key, target, header) in [
        (HashKey::Header("x-user".into()), "/", ("x-user", "")),
        (HashKey::Query("user".into()), "/?user=", ("x-other", "")),
        (cookie, "/", ("cookie", "user=")),
    ] {
        let (_all, gate) = three(staying_by(key)).await;
        let mut everybody = BTreeSet::new();
        for user in 0..20 {
            let (target, value) = (format!("{target}{user}"), format!("{}{user}", header.1));
            let his = met(&gate, &target, (header.0, &value)).await;
            assert_eq!(his.len(), 1, "{his:?}");
            everybody.extend(his);
        }
        assert_eq!(everybody.len(), 3);
        assert_eq!(met(&gate, "/", ("x-other", "")).await.len(), 3, "nobody");
    }
    let (_all, gate) = three(staying_by(HashKey::SourceIp)).await;
    assert_eq!(met(&gate, "/", ("x-user", "any")).await.len(), 1);
}

#[tokio::test]
async fn a_cookie_with_a_time_is_set_once_and_leads_back_to_the_instance() {
    let key = HashKey::Cookie {
        name: "user".into(),
        path: Some("/app".into()),
        ttl_seconds: Some(3600),
        issue: true,
    };
    let (_all, gate) = three(staying_by(key)).await;
    let mut client = gate.client().await;
    for _ in 0..10 {
        let first = client.get("/").await;
        let cookie = first.headers["set-cookie"].to_str().unwrap().to_owned();
        assert!(
            cookie.ends_with("; Path=/app; Max-Age=3600; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        let own = cookie.split(';').next().unwrap();
        let again = met(&gate, "/", ("cookie", own)).await;
        assert_eq!(again, [first.text()].into());
    }
}

/// A socket whose queue of connections is full, so that whoever connects waits. With what keeps it so.
fn deaf() -> (SocketAddr, Vec<rustix::fd::OwnedFd>) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    rustix::net::bind(&socket, &any).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let address = rustix::net::getsockname(&socket).unwrap();
    let address = SocketAddr::try_from(address).unwrap();
    let mut held = vec![socket];
    for _ in 0..8 {
        let patience = Duration::from_millis(200);
        match std::net::TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => held.push(stream.into()),
            Err(_) => return (address, held),
        }
    }
    panic!("the queue of {address} is never full");
}

#[tokio::test]
async fn a_connect_takes_no_longer_than_the_service_says() {
    let (address, _held) = deaf();
    let good = Upstream::saying("good").await;
    let (name, mut entry) = service("web", &[("deaf", &good), ("good", &good)]);
    entry.ports[0].endpoints[0].address = address;
    entry.policy.connect_timeout_ms = Some(100);
    let table = table(vec![rule(&[("web", 1)])], vec![(name, entry)]);
    let hour = Duration::from_secs(3600);
    let gate = Gate::with(|settings| settings.connect_timeout = hour, table);
    let mut client = gate.client().await;
    let both = async {
        for _ in 0..2 {
            assert_eq!(client.get("/").await.text(), "good");
        }
    };
    soon("two answers", both).await;
}

#[tokio::test]
async fn a_service_gets_no_more_at_once_than_it_may_have() {
    let (release, held) = tokio::sync::watch::channel(false);
    let web = Upstream::with(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await.unwrap();
            Response::new(Full::from("late"))
        }
    })
    .await;
    let (name, mut entry) = service("web", &[("w1", &web)]);
    entry.policy.max_in_flight = Some(1);
    let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
    let mut first = gate.client().await;
    let first = tokio::spawn(async move { first.get("/").await.text() });
    gate.until(|| web.requests() == 1).await;
    let refused = gate.client().await.get("/").await;
    let after = refused.headers["retry-after"].clone();
    assert_eq!(
        (refused.status.as_u16(), refused.reason(), after),
        (503, "overloaded", "1".parse().unwrap())
    );
    release.send(true).unwrap();
    assert_eq!(first.await.unwrap(), "late");
    assert_eq!(gate.client().await.get("/").await.text(), "late");
    let counts = requests(&gate, "");
    assert_eq!((counts.overloaded, counts.errors()), (1, 0));
}

#[tokio::test]
async fn a_route_whose_requests_fail_is_closed_for_a_while() {
    let bad = Upstream::failing(StatusCode::INTERNAL_SERVER_ERROR).await;
    let mut with = rule(&[("web", 1)]);
    with.policy.limits = Limits {
        breaker: Some(Breaker {
            failures: 2,
            open_ms: 3_600_000,
        }),
        ..Limits::default()
    };
    let gate = Gate::serving(table(vec![with], vec![service("web", &[("w1", &bad)])]));
    let mut client = gate.client().await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answer = client.get("/").await;
        seen.push((answer.status.as_u16(), answer.reason().to_owned()));
        if answer.reason() == "circuit-open" {
            let after = answer.headers["retry-after"].to_str().unwrap();
            assert!(after.parse::<u32>().unwrap() > 1);
        }
    }
    let expected = [
        (500, ""),
        (500, ""),
        (503, "circuit-open"),
        (503, "circuit-open"),
    ];
    let expected = expected.map(|(status, reason)| (status, reason.to_owned()));
    assert_eq!(seen, expected);
    assert_eq!(bad.requests(), 2);
}
