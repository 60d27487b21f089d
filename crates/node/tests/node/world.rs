//! A platform of one node, and ways to look at it.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use serin_apiserver::{ApiServer, Store};
use serin_node::{Backoff, Bundles, LogOptions, LogRequest, NodeConfig, open_logs, stop_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::waiting::soon;

const SHIM: &str = env!("CARGO_BIN_EXE_serin-shim-test");
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A platform of one node.
pub(crate) struct World {
    pub(crate) home: tempfile::TempDir,
    pub(crate) client: Client,
    pub(crate) gateway: bool,
    pub(crate) running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    pub(crate) fn new(gateway: bool) -> Self {
        let server = ApiServer::new(Store::in_memory());
        let mut world = Self {
            home: tempfile::tempdir().unwrap(),
            client: Client::new(server.router(), "default"),
            gateway,
            running: None,
        };
        world.start();
        world
    }

    pub(crate) fn start(&mut self) {
        let mut config = NodeConfig::new(self.home.path(), Path::new(SHIM));
        config.gateway = self.gateway;
        config.bundles = Bundles::with_rules(["nginx=serin.dev/demo"]).unwrap();
        config.backoff = Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_millis(200),
            reset_after: Duration::from_secs(600),
        };
        let shutdown = CancellationToken::new();
        let node = serin_node::run(config, self.client.clone(), shutdown.clone());
        let task = tokio::spawn(async move { node.await.unwrap() });
        self.running = Some((shutdown, task));
    }

    /// Ends the node and leaves its pods running, as the end of the control plane does.
    pub(crate) async fn stop(&mut self) {
        let (shutdown, task) = self.running.take().unwrap();
        shutdown.cancel();
        soon("the end of the node", task).await.unwrap();
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> Pod {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let pod = serde_json::from_value(pod).unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap()
    }

    /// A pod with one container that runs a shell script.
    pub(crate) async fn script(&self, name: &str, script: &str, more: Value) -> Pod {
        let mut spec = json!({
            "terminationGracePeriodSeconds": 20,
            "containers": [{"name": "main", "image": "host", "command": ["sh", "-c", script]}],
        });
        merge(&mut spec, more);
        self.create(name, spec).await
    }

    pub(crate) async fn until<T>(
        &self,
        name: &str,
        what: &str,
        look: impl Fn(&Pod, &PodStatus) -> Option<T>,
    ) -> T {
        poll(&format!("{name}: {what}"), async || {
            let pod = self.pods().get_opt(name).await.unwrap().unwrap_or_default();
            let status = pod.status.clone().unwrap_or_default();
            look(&pod, &status).ok_or_else(|| serde_json::to_string(&status).unwrap())
        })
        .await
    }

    pub(crate) async fn until_ready(&self, name: &str) -> PodStatus {
        self.until(name, "Ready", |_, status| {
            (condition(status, "Ready") == "True").then(|| status.clone())
        })
        .await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        poll(&format!("the end of {name}"), async || {
            match self.pods().get_opt(name).await.unwrap() {
                None => Ok(()),
                Some(pod) => Err(serde_json::to_string(&pod.status).unwrap()),
            }
        })
        .await;
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub(crate) async fn logs(&self, pod: &Pod, options: LogOptions) -> Result<String, String> {
        let request = LogRequest {
            namespace: "default".into(),
            pod: pod.metadata.name.clone().unwrap(),
            uid: pod.metadata.uid.clone().unwrap(),
            container: "main".into(),
            options,
        };
        let stream = open_logs(self.home.path(), &request).map_err(|e| e.to_string())?;
        let chunks = stream.map(|chunk| chunk.unwrap()).collect();
        let chunks: Vec<_> = soon("the end of a log", chunks).await;
        Ok(String::from_utf8(chunks.concat()).unwrap())
    }

    pub(crate) async fn until_logged(&self, pod: &Pod, text: &str) {
        poll(&format!("{text:?} in the log"), async || {
            let log = self.logs(pod, LogOptions::default()).await;
            let log = log.unwrap_or_default();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    pub(crate) async fn until_no_log(&self, pod: &Pod) -> String {
        poll("the end of the log", async || {
            match self.logs(pod, LogOptions::default()).await {
                Ok(log) => Err(log),
                Err(error) => Ok(error),
            }
        })
        .await
    }

    /// An event with a reason whose message begins so.
    pub(crate) async fn until_event(&self, reason: &str, message: &str) -> Event {
        let api: Api<Event> = Api::default_namespaced(self.client.clone());
        poll(&format!("an event {reason}"), async || {
            let events = api.list(&ListParams::default()).await.unwrap().items;
            let is_it = |e: &&Event| {
                let text = e.message.as_deref().unwrap_or_default();
                e.reason.as_deref() == Some(reason) && text.starts_with(message)
            };
            let found = events.iter().find(is_it).cloned();
            found.ok_or_else(|| serde_json::to_string(&events).unwrap())
        })
        .await
    }
}

/// What `look` finds, once it finds something; until then it gives what it sees.
async fn poll<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {what}; last seen: {seen}"
            ),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends the node and everything it started, also when the test fails.
impl Drop for World {
    fn drop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.cancel();
            task.abort();
        }
        let home = self.home.path();
        let end = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(stop_all(home, Duration::ZERO))
        };
        std::thread::scope(|scope| drop(scope.spawn(end).join()));
    }
}

pub(crate) fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(more)) => {
            for (into, more) in into.iter_mut().zip(more) {
                merge(into, more);
            }
        }
        (into, more) => *into = more,
    }
}

pub(crate) fn condition(status: &PodStatus, kind: &str) -> String {
    let conditions = status.conditions.iter().flatten();
    conditions
        .filter(|c| c.type_ == kind)
        .map(|c| c.status.clone())
        .collect()
}

pub(crate) fn container(status: &PodStatus) -> ContainerStatus {
    status
        .container_statuses
        .clone()
        .unwrap_or_default()
        .pop()
        .unwrap_or_default()
}

/// The reason and the message for which a container waits.
pub(crate) fn waits(status: &PodStatus) -> Option<(String, String)> {
    let waiting = container(status).state?.waiting?;
    Some((waiting.reason?, waiting.message.unwrap_or_default()))
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub(crate) async fn get(ip: &str, port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect((ip, port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    soon("an answer", read).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub(crate) fn web(port: u16) -> Value {
    json!({
        "terminationGracePeriodSeconds": 20,
        "containers": [{
            "name": "main",
            "image": "nginx:1.20",
            "ports": [{"name": "http", "containerPort": port}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
        }],
    })
}

pub(crate) async fn until_absent(path: &Path) {
    let what = format!("the end of {}", path.display());
    poll(&what, async || {
        if path.exists() {
            return Err("it is there".to_owned());
        }
        Ok(())
    })
    .await;
}

pub(crate) fn work_file(world: &World, pod: &Pod, name: &str) -> std::path::PathBuf {
    let uid = pod.metadata.uid.as_deref().unwrap();
    world
        .home
        .path()
        .join("run/pods")
        .join(uid)
        .join("main/work")
        .join(name)
}
