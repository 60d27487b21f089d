//! Shares that change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::requests;
use super::world::{Gate, Upstream, rule, service, table};
use crate::table::RouteTable;

const CHANGES: u32 = 1_000;
const CLIENTS: usize = 4;

fn shares(stable: &Upstream, canary: &Upstream, percent: u32) -> RouteTable {
    table(
        vec![rule(&[("stable", 100 - percent), ("canary", percent)])],
        vec![
            service("stable", &[("s", stable)]),
            service("canary", &[("c", canary)]),
        ],
    )
}

#[tokio::test]
async fn a_thousand_changes_under_load_cost_no_request_and_the_last_one_holds() {
    let stable = Upstream::saying("stable").await;
    let canary = Upstream::saying("canary").await;
    let gate = Arc::new(Gate::serving(shares(&stable, &canary, 0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (gate, is_over) = (Arc::clone(&gate), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut client = gate.client().await;
                let mut answers = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").await.status, StatusCode::OK);
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for change in 1..=CHANGES {
        gate.swap(shares(&stable, &canary, change % 101));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gate.swap(shares(&stable, &canary, 0));
    is_over.store(true, Ordering::Relaxed);
    let mut answers = 0;
    for client in clients {
        answers += client.await.unwrap();
    }
    let (of_stable, of_canary) = (requests(&gate, "stable"), requests(&gate, "canary"));
    assert_eq!(of_stable.requests() + of_canary.requests(), answers);
    assert_eq!(of_stable.failures() + of_canary.failures(), 0);
    let before = canary.requests();
    let mut client = gate.client().await;
    for _ in 0..100 {
        client.get("/").await;
    }
    assert_eq!(canary.requests(), before);
}
