//! Two processes and one Lease, over the embedded API on a virtual clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{Either, ready};
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use serde_json::json;
use serin_apiserver::{ApiServer, Store};
use serin_controllers::{Clock, Election, Fence, elected};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};

use crate::waiting::{soon, within};

const DURATION: Duration = Duration::from_secs(15);

/// Who wrote, and when.
type Ledger = Arc<Mutex<Vec<(&'static str, Instant)>>>;

/// A process that writes whenever it may.
struct Process {
    /// Whether its way to the Lease is cut; the way of its other writes is not.
    cut: Arc<AtomicBool>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    async fn stop(self) {
        self.shutdown.cancel();
        soon("the end of a process", self.task).await.unwrap();
    }
}

fn server() -> ApiServer {
    ApiServer::new(Store::in_memory())
}

fn start(server: &ApiServer, name: &'static str, ledger: &Ledger) -> Process {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let cut = Arc::new(AtomicBool::new(false));
    let (router, is_cut) = (server.router(), Arc::clone(&cut));
    let to_lease = tower::service_fn(move |request: Request<Body>| {
        if is_cut.load(Ordering::Relaxed) {
            return Either::Left(ready(Err("cut")));
        }
        let answer = router.clone().oneshot(request);
        Either::Right(async { answer.await.map_err(|never| match never {}) })
    });
    let fence = Fence::closed(clock.clone());
    let work = Client::new(fence.layer().layer(server.router()), "default");
    let shutdown = CancellationToken::new();
    let election = Election {
        namespace: "default".into(),
        name: "leader".into(),
        identity: name.into(),
        duration: DURATION,
    };
    let ledger = Arc::clone(ledger);
    let task = tokio::spawn(elected(
        Client::new(to_lease, "default"),
        election,
        clock,
        fence,
        shutdown.clone(),
        move |stop| write_on(work.clone(), name, Arc::clone(&ledger), stop),
    ));
    Process {
        cut,
        shutdown,
        task,
    }
}

/// Writes on and on; a while after it was told to stop, too, as one does that does not hear.
async fn write_on(client: Client, name: &'static str, ledger: Ledger, stop: CancellationToken) {
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let object: ConfigMap =
        serde_json::from_value(json!({"metadata": {"generateName": "written-"}})).unwrap();
    let deaf = async {
        stop.cancelled().await;
        sleep(DURATION * 3).await;
    };
    tokio::pin!(deaf);
    loop {
        if api.create(&PostParams::default(), &object).await.is_ok() {
            ledger.lock().unwrap().push((name, Instant::now()));
        }
        assert!(api.get_opt("none").await.is_ok(), "reading is free");
        tokio::select! {
            () = sleep(Duration::from_millis(500)) => {}
            () = &mut deaf => return,
        }
    }
}

/// Waits until somebody has written more often than so.
async fn until(ledger: &Ledger, name: &str, more_than: usize) {
    let wait = async {
        while count(&ledger.lock().unwrap(), name) <= more_than {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let what = format!("more than {more_than} writes of {name}");
    within(DURATION * 10, &what, wait).await;
}

fn count(ledger: &[(&'static str, Instant)], name: &str) -> usize {
    ledger.iter().filter(|(who, _)| *who == name).count()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_writes_nothing_when_the_next_one_leads() {
    let (server, ledger) = (server(), Ledger::default());
    let first = start(&server, "first", &ledger);
    until(&ledger, "first", 60).await;
    let second = start(&server, "second", &ledger);
    sleep(DURATION * 2).await;
    assert_eq!(
        count(&ledger.lock().unwrap(), "second"),
        0,
        "one leads at a time"
    );

    first.cut.store(true, Ordering::Relaxed);
    until(&ledger, "second", 60).await;
    let seen = ledger.lock().unwrap().clone();
    let last_of_first = seen.iter().rposition(|(who, _)| *who == "first").unwrap();
    let first_of_second = seen.iter().position(|(who, _)| *who == "second").unwrap();
    assert!(last_of_first < first_of_second);
    let gap = seen[first_of_second].1 - seen[last_of_first].1;
    assert!(
        gap >= DURATION / 4,
        "the margin between two terms is {gap:?}"
    );

    // It comes back and waits for its turn, which comes at once when the other one goes.
    first.cut.store(false, Ordering::Relaxed);
    let before = count(&ledger.lock().unwrap(), "first");
    sleep(DURATION * 4).await;
    assert_eq!(count(&ledger.lock().unwrap(), "first"), before);
    second.stop().await;
    until(&ledger, "first", before).await;

    let leases: Api<Lease> = Api::default_namespaced(Client::new(server.router(), "default"));
    let lease = leases.get("leader").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some("first"));
    assert_eq!(lease.lease_transitions, Some(2));
    first.stop().await;
}
