//! Shares that change a thousand times a second under full load: what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::{Load, Method};
use crate::options::Options;
use crate::peers::{Front, Peer};
use crate::table;

const EVERY: Duration = Duration::from_millis(1);
const CONNECTIONS: usize = 64;

/// With changes, and with as many writes of which the gateway does not learn, in turns.
pub(crate) async fn run(origins: [std::net::SocketAddr; 2], options: &Options) {
    let Some(peer) = Peer::start_routed(origins).await else {
        return;
    };
    println!("changes: of shares by an HTTPRoute, every millisecond, under full load");
    let mut ratios = Vec::new();
    let mut costs = Vec::new();
    let (mut changes, mut errors, mut answers) = (0, 0, 0);
    for round in 0..options.rounds {
        let order = if round % 2 == 0 {
            [true, false]
        } else {
            [false, true]
        };
        let mut got = [(0.0, 0.0); 2];
        for with in order {
            let one = measure(&peer, with, options.time).await;
            errors += one.errors;
            if with {
                changes += one.changes;
                answers += one.answers;
            }
            let slot = got.get_mut(usize::from(with));
            slot.into_iter()
                .for_each(|slot| *slot = (one.answers as f64, one.cpu_micros / one.answers as f64));
        }
        let [without, with] = got;
        ratios.push(with.0 / without.0);
        costs.push(with.1 / without.1);
    }
    let seconds = options.time.as_secs_f64() * options.rounds as f64;
    println!(
        "  {:.0} changes/s, {answers} requests, {errors} errors; with / without: requests/s {}, CPU for each {}",
        f64::from(changes) / seconds,
        table::interval(&ratios),
        table::interval(&costs),
    );
}

struct One {
    answers: usize,
    errors: u64,
    changes: u32,
    cpu_micros: f64,
}

async fn measure(peer: &Peer, with: bool, time: Duration) -> One {
    let load = Load {
        address: peer.address(Front::Plain),
        front: Front::Plain,
        method: Method::Get,
        path: "/small",
        connections: CONNECTIONS,
        rate_per_second: None,
        time,
        stop: Arc::default(),
    };
    let cluster = peer.cluster().unwrap().clone();
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let changing = tokio::spawn(async move {
        let mut every = tokio::time::interval(EVERY);
        let mut changes = 0;
        while !until.load(Ordering::Relaxed) {
            every.tick().await;
            let percent = changes % 101;
            if with {
                cluster.weigh(percent).await;
            } else {
                cluster.write_elsewhere(percent).await;
            }
            changes += 1;
        }
        changes
    });
    let before = peer.cpu_micros();
    let measured = load.run().await;
    let cpu_micros = peer.cpu_micros() - before;
    is_over.store(true, Ordering::Relaxed);
    One {
        answers: measured.micros.len(),
        errors: measured.errors,
        changes: changing.await.unwrap(),
        cpu_micros,
    }
}
