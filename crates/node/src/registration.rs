//! The Node object: written at the start, and a heartbeat now and then.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serin_api::conditions;

use crate::actor::{HOST_IP, code};

/// How soon a registration that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Pods that fit on a node, as it says; nothing enforces it.
const MAX_PODS: u32 = 1000;

/// Keeps the Node object up to date; never ends.
pub(crate) async fn keep(client: kube::Client, name: String, heartbeat: Duration) {
    let api: Api<Node> = Api::all(client);
    loop {
        let wait = match beat(&api, &name).await {
            Ok(()) => heartbeat,
            Err(error) => {
                tracing::warn!(%error, node = %name, "the node was not registered, trying again");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn beat(api: &Api<Node>, name: &str) -> kube::Result<()> {
    let mut node = match api.get_opt(name).await? {
        Some(node) => node,
        None => create(api, name).await?,
    };
    node.metadata.managed_fields = None;
    let old = node.status.take().unwrap_or_default();
    node.status = Some(status(&old, name, Timestamp::now()));
    match api
        .replace_status(name, &PostParams::default(), &node)
        .await
    {
        // Someone else wrote it meanwhile: the next beat comes soon enough.
        Err(error) if code(&error) != Some(409) => Err(error),
        _ => Ok(()),
    }
}

async fn create(api: &Api<Node>, name: &str) -> kube::Result<Node> {
    let labels = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
    ];
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    match api.create(&PostParams::default(), &node).await {
        Err(error) if code(&error) == Some(409) => api.get(name).await,
        result => result,
    }
}

fn status(old: &NodeStatus, name: &str, now: Timestamp) -> NodeStatus {
    let ready = NodeCondition {
        type_: "Ready".into(),
        status: conditions::word(true),
        reason: Some("NodeReady".into()),
        message: Some("pods run as processes of this machine".into()),
        last_heartbeat_time: Some(conditions::time(now)),
        last_transition_time: Some(
            old.conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == "Ready" && c.status == "True")
                .and_then(|c| c.last_transition_time.clone())
                .unwrap_or_else(|| conditions::time(now)),
        ),
    };
    let address = |kind: &str, address: &str| NodeAddress {
        type_: kind.into(),
        address: address.into(),
    };
    let resources = resources();
    NodeStatus {
        conditions: Some(vec![ready]),
        addresses: Some(vec![
            address("InternalIP", HOST_IP),
            address("Hostname", name),
        ]),
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        node_info: Some(system_info()),
        ..NodeStatus::default()
    }
}

fn resources() -> BTreeMap<String, Quantity> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .map_or_else(|| "0".to_owned(), |kib| format!("{}Ki", kib.trim()));
    [
        ("cpu", processors.to_string()),
        ("memory", memory),
        ("pods", MAX_PODS.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into()
}

fn system_info() -> NodeSystemInfo {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let os_image = read("/etc/os-release")
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_default();
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: concat!("serin://", env!("CARGO_PKG_VERSION")).to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kubelet_version: concat!("v1.33.0+serin-", env!("CARGO_PKG_VERSION")).to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image,
        ..NodeSystemInfo::default()
    }
}

/// In the words of Kubernetes.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
