//! Shares that change a thousand times a second under full load: what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serin_api::gateway_api::HttpRouteStatus;

use crate::cluster::Cluster;
use crate::load::{Load, Method};
use crate::options::Options;
use crate::peers::{Front, Peer};
use crate::table;

const EVERY: Duration = Duration::from_millis(1);
const CONNECTIONS: usize = 64;

/// A gateway writes so many statuses less than there are changes, since it makes one table of many.
const CHANGES_TO_A_STATUS: u32 = 100;

/// With changes, and with as many in another API of which the gateway does not learn, in turns: the API shares its core with the
/// load, so it is to have as much to do in both.
pub(crate) async fn run(origins: [std::net::SocketAddr; 2], options: &Options) {
    let Some(peer) = Peer::start_routed(origins).await else {
        return;
    };
    let elsewhere = Cluster::start_watched(origins).await;
    println!("changes: of shares by an HTTPRoute, every millisecond, under full load");
    let status = peer.cluster().unwrap().status().await;
    let mut ratios = [(); 3].map(|()| Vec::new());
    let (mut changes, mut errors, mut answers) = (0, 0, 0);
    let mut control_micros = 0.0;
    for round in 0..options.rounds {
        let changes_first = round % 2 == 0;
        let own = peer.cluster().unwrap();
        let measured = |is_own: bool| {
            let cluster = if is_own { own } else { &elsewhere };
            let acknowledged = (!is_own).then(|| status.clone());
            measure(&peer, cluster.clone(), acknowledged, options.time)
        };
        let first = measured(changes_first).await;
        let second = measured(!changes_first).await;
        errors += first.errors + second.errors;
        let (with, without) = if changes_first {
            (first, second)
        } else {
            (second, first)
        };
        changes += with.changes;
        answers += with.answers;
        control_micros += with.control_micros() - without.control_micros();
        for (ratios, of) in ratios
            .iter_mut()
            .zip([One::rate, One::workers_cpu, One::cpu])
        {
            ratios.push(of(&with) / of(&without));
        }
    }
    let seconds = options.time.as_secs_f64() * options.rounds as f64;
    let [rate, workers_cpu, cpu] = ratios.map(|ratios| table::interval(&ratios));
    println!(
        "  {:.0} changes/s, {answers} requests, {errors} errors; with / without: requests/s {rate}, CPU of the workers for each {workers_cpu}, of the whole gateway {cpu}; {:.0} us of the control loop for a change",
        f64::from(changes) / seconds,
        control_micros / f64::from(changes),
    );
}

struct One {
    answers: usize,
    errors: u64,
    changes: u32,
    cpu_micros: f64,
    workers_cpu_micros: f64,
}

impl One {
    /// Of requests; all runs last as long.
    fn rate(&self) -> f64 {
        self.answers as f64
    }

    fn cpu(&self) -> f64 {
        self.cpu_micros / self.answers as f64
    }

    fn workers_cpu(&self) -> f64 {
        self.workers_cpu_micros / self.answers as f64
    }

    /// What is not of the workers.
    fn control_micros(&self) -> f64 {
        self.cpu_micros - self.workers_cpu_micros
    }
}

/// Under load, with changes in a cluster; with the status that is written where no gateway does.
async fn measure(
    peer: &Peer,
    cluster: Cluster,
    acknowledged: Option<HttpRouteStatus>,
    time: Duration,
) -> One {
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
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let changing = tokio::spawn(async move {
        let mut every = tokio::time::interval(EVERY);
        let mut changes = 0;
        while !until.load(Ordering::Relaxed) {
            every.tick().await;
            let percent = changes % 101;
            cluster.weigh(percent).await;
            if let Some(status) = &acknowledged
                && changes % CHANGES_TO_A_STATUS == 0
            {
                cluster.acknowledge(status.clone(), changes).await;
            }
            changes += 1;
        }
        changes
    });
    let before = (peer.cpu_micros(), peer.workers_cpu_micros());
    let measured = load.run().await;
    let cpu_micros = peer.cpu_micros() - before.0;
    let workers_cpu_micros = peer.workers_cpu_micros() - before.1;
    is_over.store(true, Ordering::Relaxed);
    One {
        answers: measured.micros.len(),
        errors: measured.errors,
        changes: changing.await.unwrap(),
        cpu_micros,
        workers_cpu_micros,
    }
}
