//! Checks by the clock of the test, over scripted answers and over real ones.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::table::{EndpointEntry, PortEntry, ServiceEntry, ServicePolicy};

fn check() -> HealthCheck {
    HealthCheck {
        path: Some("/healthz".into()),
        host: None,
        port: None,
        interval_ms: 5_000,
        timeout_ms: 1_000,
        failures: 3,
        successes: 2,
        panic_percent: 50,
    }
}

fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 80))
}

/// The Service `web` with instances of these numbers.
fn table(check: HealthCheck, numbers: impl IntoIterator<Item = u8>) -> RouteTable {
    let endpoints = numbers.into_iter().map(|number| EndpointEntry {
        address: at(number),
        instance: format!("pod-{number}"),
        revision: String::new(),
        subsets: Vec::new(),
    });
    let port = PortEntry {
        port: 80,
        endpoints: endpoints.collect(),
        ..PortEntry::default()
    };
    let entry = ServiceEntry {
        ports: vec![port],
        policy: ServicePolicy {
            health: Some(check),
            ..ServicePolicy::default()
        },
        ..ServiceEntry::default()
    };
    RouteTable {
        services: [(ObjectName::new("default", "web"), entry)].into(),
        ..RouteTable::default()
    }
}

/// A run of checks whose answers are what `says` has for an address, at what second each was asked.
struct Checked {
    instances: Instances,
    targets: watch::Sender<Vec<Target>>,
    report: Arc<Report>,
    says: Arc<Mutex<HashMap<SocketAddr, &'static str>>>,
    asked: Arc<Mutex<Vec<(u64, SocketAddr)>>>,
    under_way: Arc<Mutex<(usize, usize)>>,
}

impl Checked {
    fn start() -> Self {
        let checked = Self {
            instances: Instances::new(Arc::default()),
            targets: watch::Sender::default(),
            report: Arc::default(),
            says: Arc::default(),
            asked: Arc::default(),
            under_way: Arc::default(),
        };
        let targets = checked.targets.subscribe();
        let report = Arc::clone(&checked.report);
        let (says, asked) = (Arc::clone(&checked.says), Arc::clone(&checked.asked));
        let under_way = Arc::clone(&checked.under_way);
        let start = Instant::now();
        let answer = move |target: Target| {
            let second = start.elapsed().as_secs();
            asked.lock().unwrap().push((second, target.address));
            let says = says.lock().unwrap().get(&target.address).copied();
            let under_way = Arc::clone(&under_way);
            async move {
                {
                    let mut count = under_way.lock().unwrap();
                    *count = (count.0 + 1, count.1.max(count.0 + 1));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                under_way.lock().unwrap().0 -= 1;
                says.map_or(Ok(()), |why| Err(why.to_owned()))
            }
        };
        tokio::spawn(async move { run(targets, &report, answer).await });
        checked
    }

    fn set(&mut self, table: &RouteTable) {
        let targets = targets(table, &mut self.instances);
        self.targets.send_replace(targets);
    }

    fn say(&self, address: SocketAddr, why: Option<&'static str>) {
        let mut says = self.says.lock().unwrap();
        match why {
            Some(why) => says.insert(address, why),
            None => says.remove(&address),
        };
    }

    fn is_out(&mut self, table: &RouteTable, number: u8) -> bool {
        let mut ports = table.services.values().flat_map(|s| &s.ports);
        let found = ports.find_map(|port| {
            let entry = port.endpoints.iter().find(|e| e.address == at(number))?;
            Some((entry, port))
        });
        let (entry, port) = found.unwrap();
        self.instances.endpoint(entry, port).is_out(0)
    }

    async fn seconds(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_left_out_after_failures_in_a_row_and_back_after_successes() {
    let mut checked = Checked::start();
    let table = table(check(), 1..=3);
    checked.set(&table);
    checked.seconds(1).await;
    checked.say(at(2), Some("status 503"));
    // Asked at 0, 5, 10 and 15 seconds; the first time it was well.
    checked.seconds(11).await;
    assert!(!checked.is_out(&table, 2));
    checked.seconds(4).await;
    assert!(checked.is_out(&table, 2) && !checked.is_out(&table, 1));
    let out = Out {
        service: ObjectName::new("default", "web"),
        address: at(2),
        why: "status 503".into(),
    };
    assert_eq!(**checked.report.out.load(), [out]);
    checked.say(at(2), None);
    checked.seconds(5).await;
    assert!(checked.is_out(&table, 2), "one success is not enough");
    checked.seconds(5).await;
    assert!(!checked.is_out(&table, 2));
    assert!(checked.report.out.load().is_empty());
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = (count(&checked.report.passed), count(&checked.report.failed));
    assert_eq!(counts, (15, 3));
    let of_second = |(second, address): &(u64, SocketAddr)| (*address == at(2)).then_some(*second);
    let asked = checked.asked.lock().unwrap();
    let seconds: Vec<u64> = asked.iter().filter_map(of_second).collect();
    assert_eq!(seconds, [0, 5, 10, 15, 20, 25]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_any_more_is_not_left_out_and_a_new_instance_begins_well() {
    let mut checked = Checked::start();
    let table = table(check(), 1..=2);
    checked.set(&table);
    checked.say(at(2), Some("no answer"));
    checked.seconds(11).await;
    assert!(checked.is_out(&table, 2));
    // Other settings are no reason to forget.
    let mut slower = table.clone();
    for entry in slower.services.values_mut() {
        entry.policy.health.as_mut().unwrap().interval_ms = 60_000;
    }
    checked.set(&slower);
    checked.seconds(1).await;
    assert!(checked.is_out(&table, 2));
    // Another pod comes to have the address.
    let mut other = table.clone();
    for entry in other.services.values_mut() {
        entry.ports[0].endpoints[1].instance = "pod-other".into();
    }
    checked.set(&other);
    checked.seconds(1).await;
    assert!(!checked.is_out(&other, 2));
    checked.set(&table);
    checked.seconds(11).await;
    assert!(checked.is_out(&table, 2));
    // The annotation is taken away.
    let mut unasked = table.clone();
    for entry in unasked.services.values_mut() {
        entry.policy.health = None;
    }
    checked.set(&unasked);
    checked.seconds(1).await;
    assert!(!checked.is_out(&table, 2));
    let before = checked.asked.lock().unwrap().len();
    checked.seconds(60).await;
    assert_eq!(checked.asked.lock().unwrap().len(), before);
}

#[tokio::test(start_paused = true)]
async fn many_instances_are_asked_in_turn() {
    let mut checked = Checked::start();
    let table = table(check(), 1..=200);
    checked.set(&table);
    checked.seconds(11).await;
    assert_eq!(checked.under_way.lock().unwrap().1, MOST_AT_ONCE);
    assert_eq!(checked.asked.lock().unwrap().len(), 600);
}

#[test]
fn a_port_of_its_own_is_asked_once_for_all_ports_of_an_instance() {
    let own = HealthCheck {
        port: Some(9000),
        ..check()
    };
    let mut table = table(own, 1..=1);
    for entry in table.services.values_mut() {
        let mut grpc = entry.ports[0].clone();
        grpc.protocol = Protocol::Http2;
        grpc.endpoints[0].address.set_port(81);
        entry.ports.push(grpc);
    }
    let mut instances = Instances::new(Arc::default());
    let all = targets(&table, &mut instances);
    let [target] = all.as_slice() else {
        panic!("{all:?}");
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 9000));
    assert_eq!(
        (target.address, target.protocol, target.endpoints.len()),
        (address, Protocol::Http1, 2)
    );
}

/// What `ask` makes of an instance that answers every connection with these bytes.
async fn asked(bytes: impl AsRef<[u8]> + Send + 'static) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let Ok(1..) = stream.read_buf(&mut seen).await else {
                break;
            };
        }
        let _ = stream.write_all(bytes.as_ref()).await;
        String::from_utf8_lossy(&seen).into_owned()
    });
    let target = Target {
        service: ObjectName::new("default", "web"),
        address,
        protocol: Protocol::Http1,
        tls: None,
        check: HealthCheck {
            host: Some("app".into()),
            timeout_ms: 20_000,
            ..check()
        },
        endpoints: Vec::new(),
    };
    let answer = ask(target).await;
    (answer, answering.await.unwrap())
}

#[tokio::test]
async fn the_status_decides_and_whatever_is_no_answer_is_not_well() {
    let (answer, seen) =
        asked(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nnever whole").await;
    assert_eq!(answer, Ok(()));
    assert_eq!(
        seen,
        "GET /healthz HTTP/1.1\r\nuser-agent: serin-gateway-health-check\r\nhost: app\r\n\r\n"
    );
    assert_eq!(asked(b"HTTP/1.1 302 Found\r\n\r\n").await.0, Ok(()));
    let failed = asked(b"HTTP/1.1 503 Busy\r\n\r\n").await.0;
    assert_eq!(failed, Err("status 503".into()));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    for garbage in ["SSH-2.0-x\r\n", "", "HTTP/1.1 200 OK\r\nx", &long] {
        let answer = asked(garbage.to_owned()).await.0.unwrap_err();
        assert!(answer.starts_with("no answer: "), "{answer}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = Target {
        service: ObjectName::new("default", "web"),
        address: closed.local_addr().unwrap(),
        protocol: Protocol::Http1,
        tls: None,
        check: HealthCheck {
            path: None,
            ..check()
        },
        endpoints: Vec::new(),
    };
    assert_eq!(ask(target.clone()).await, Ok(()), "a connection is enough");
    // It takes the connection and says nothing.
    target.check.path = Some("/".into());
    target.check.timeout_ms = 50;
    assert_eq!(
        ask(target.clone()).await,
        Err("no answer within 50 ms".into())
    );
    drop(closed);
    let refused = ask(target).await.unwrap_err();
    assert!(refused.starts_with("cannot connect: "), "{refused}");
}
