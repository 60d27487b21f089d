//! Our gateway beside nginx and HAProxy: CPU for each request, latency at equal load, memory. `make bench-gateway`.
//!
//! Each proxy is one process with one worker, pinned to one core; the load and the applications share the other. The proxies take
//! turns within each round, in a new order every time, so that whatever else the machine does falls on all of them alike; what is
//! compared is the ratio within a round. CPU is what the kernel has accounted to the process.
//!
//! Then a version is exchanged for another one under load, in every order and with every sort of end, by each of the proxies; the
//! shares of our gateway change a thousand times a second; and it is upgraded, restarted and killed many times. What users lost of
//! it is told.
//!
//! Options: `--rounds N`, `--seconds S`, `--switches N` (of each sort), `--times N` (of upgrades, restarts and kills), `--only WORDS`
//! (parts whose name has one of them), `--peers LIST`, such as `nginx,serin`, `--program PATH` (a built `serin` instead of this program).

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints its table and fails by a panic"
)]

use std::sync::Arc;
use std::time::Duration;

use options::Options;
use peers::{Front, Peer};
use table::{Round, Table};

mod application;
mod changes;
mod cluster;
mod life;
mod load;
mod options;
mod origin;
mod peers;
mod switch;
mod table;

/// The core of the proxy, and the one of everybody else.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// Requests a second of the paced run, in which latencies are compared.
const PACE: f64 = 4_000.0;
/// Idle connections of the memory run; fewer where there are too few descriptors for them.
const IDLE: usize = 10_000;

/// The connections of the memory run have been idle for so long.
const REST: Duration = Duration::from_secs(4);

struct Scenario {
    name: &'static str,
    front: Front,
    path: &'static str,
    connections: usize,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "h1-small",
        front: Front::Plain,
        path: "/small",
        connections: 64,
    },
    Scenario {
        name: "h1-64k",
        front: Front::Plain,
        path: "/large",
        connections: 64,
    },
    Scenario {
        name: "tls-small",
        front: Front::Tls,
        path: "/small",
        connections: 64,
    },
    Scenario {
        name: "h2-small",
        front: Front::H2c,
        path: "/small",
        connections: 8,
    },
];

fn main() {
    if peers::be_gateway() || life::be_keeper() {
        return;
    }
    let options = Options::from_env();
    let descriptors = load::raise_descriptor_limit();
    peers::pin(LOAD_CORE);
    let origins = origin::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for scenario in SCENARIOS.iter().filter(|s| options.wants(s.name)) {
        let table = runtime.block_on(compare(scenario, &origins, &options));
        println!("{table}");
    }
    if options.wants("idle") {
        let count = IDLE.min(descriptors / 2 - 150);
        runtime.block_on(idle(count, &origins, &options));
    }
    if options.wants("changes") {
        runtime.block_on(changes::run(origins, &options));
    }
    if options.wants("switches") {
        runtime.block_on(switch::run(&options));
    }
    if options.wants("life") {
        runtime.block_on(life::run(options.times, &origins));
    }
}

/// The proxies that are there, each started anew.
fn started(origins: &[std::net::SocketAddr; 2], options: &Options) -> Vec<Peer> {
    let kinds = options.peers.iter();
    let peers = kinds.filter_map(|kind| Peer::start(*kind, origins));
    peers.collect()
}

async fn compare(
    scenario: &Scenario,
    origins: &[std::net::SocketAddr; 2],
    options: &Options,
) -> Table {
    let mut peers = started(origins, options);
    let mut table = Table::new(scenario.name);
    for round in 0..options.rounds {
        // Every order comes, and none twice in a row.
        let turn = round % peers.len();
        peers.rotate_left(turn);
        if round % 2 == 1 {
            peers.reverse();
        }
        for peer in &peers {
            let address = peer.address(scenario.front);
            let mut load = load::Load {
                address,
                front: scenario.front,
                method: load::Method::Get,
                path: scenario.path,
                connections: scenario.connections,
                rate_per_second: None,
                time: Duration::from_millis(300),
                stop: Arc::default(),
            };
            load.run().await;
            load.time = options.time;
            let before = peer.cpu_micros();
            let full = load.run().await;
            let cpu = peer.cpu_micros() - before;
            load.rate_per_second = Some(PACE);
            let paced = load.run().await;
            table.add(peer.kind(), Round::of(cpu, &full, &paced, options.time));
        }
    }
    for peer in &peers {
        table.set_memory(peer.kind(), peer.memory_kib());
    }
    table
}

/// What a proxy takes when it has nothing to do, and when it holds connections that do nothing.
async fn idle(count: usize, origins: &[std::net::SocketAddr; 2], options: &Options) {
    println!(
        "idle: memory in MiB at the start, and with {count} connections, after one request each and {} s",
        REST.as_secs()
    );
    for peer in started(origins, options) {
        let start = peer.memory_kib();
        let held = load::hold(peer.address(Front::Plain), count).await;
        // A proxy may give back what a connection took when it has been idle for a while.
        tokio::time::sleep(REST).await;
        let with = peer.memory_kib();
        let of_one = (with - start) / f64::from(u32::try_from(held.len()).unwrap().max(1));
        println!(
            "  {:8} {:6.1} {:6.1}  ({of_one:.1} KiB for a connection, {} held)",
            peer.kind(),
            start / 1024.0,
            with / 1024.0,
            held.len()
        );
    }
}
