//! What a controller that is written with kube-rs meets: one scenario, against the embedded API in process, and against a cluster
//! when `SERIN_COMPATIBILITY_KUBECONFIG` names one: not `KUBECONFIG`, since it writes there. The scenario tells what it saw; the differences between the two are printed, and fail the test. A step
//! that a cluster has switched off is named and passed over.
//!
//! `SERIN_COMPATIBILITY_KUBECONFIG=… cargo test -p serin-apiserver --test compatibility -- --nocapture`

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod scenario;
#[cfg(test)]
#[path = "../support/waiting.rs"]
mod waiting;
mod widget;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serin_apiserver::{ApiServer, Store};

/// Where the cluster is.
const KUBECONFIG: &str = "SERIN_COMPATIBILITY_KUBECONFIG";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_cannot_tell_the_servers_apart() {
    let server = ApiServer::new(Store::in_memory());
    let embedded = scenario::run(Client::new(server.router(), "default")).await;
    expect_test::expect_file!["seen.txt"].assert_eq(&embedded.join("\n"));
    let Some(path) = std::env::var_os(KUBECONFIG) else {
        eprintln!("{KUBECONFIG} names no cluster: only the embedded API was looked at");
        return;
    };
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let client = Client::try_from(config.unwrap()).unwrap();
    let cluster = scenario::run(client).await;
    let (skipped, cluster): (Vec<String>, Vec<String>) =
        cluster.into_iter().partition(|line| is_skipped(line));
    skipped.iter().for_each(|line| println!("{line}"));
    let asked = |line: &String| !skipped.iter().any(|skipped| step(skipped) == step(line));
    let embedded: Vec<String> = embedded.into_iter().filter(asked).collect();
    let differences = difference(&embedded, &cluster);
    println!(
        "{} lines, {} differences",
        embedded.len(),
        differences.len()
    );
    differences.iter().for_each(|line| println!("{line}"));
    assert_eq!(differences, [""; 0], "- the embedded API, + the cluster");
}

fn step(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(step, _)| step)
}

fn is_skipped(line: &str) -> bool {
    line.split_once(": ")
        .is_some_and(|(_, seen)| seen.starts_with(scenario::SKIPPED))
}

#[test]
fn a_step_that_is_skipped_is_told_by_its_name() {
    let line = format!("streaming list: {}: it is off", scenario::SKIPPED);
    assert!(is_skipped(&line));
    assert_eq!(step(&line), "streaming list");
    assert!(!is_skipped("streaming list: init, done"));
}

/// The lines that only one of the two has, of each step in its order.
fn difference(embedded: &[String], cluster: &[String]) -> Vec<String> {
    let only = |mark: &str, these: &[String], those: &[String]| -> Vec<String> {
        let lines = these.iter().filter(|line| !those.contains(line));
        lines.map(|line| format!("{mark} {line}")).collect()
    };
    let mut lines = only("-", embedded, cluster);
    lines.extend(only("+", cluster, embedded));
    lines
}
