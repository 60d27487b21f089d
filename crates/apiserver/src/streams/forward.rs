//! `portforward`: connections to the ports of a pod, each as a pair of streams, one for its bytes and one for what went wrong.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::spdy::Stream;
use super::{Sink, pump, switch_to_spdy, upgrades_to, websocket};
use crate::listen::Lifetime;
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::tree::Tree;

const PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
/// The same inside a WebSocket, which kubectl tries first from 1.30 on.
const TUNNELLED: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];
/// Connections of one client at one time.
const MAX_CONNECTIONS: usize = 128;
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Answers `portforward` of a Pod.
pub(crate) async fn forward(server: &ApiServer, mut call: Call) -> Result<Response, Refusal> {
    if !matches!(call.method, Method::GET | Method::POST) {
        return Err(Refusal::method(&call.method));
    }
    let record = server.store.get(&call.target.key());
    let record = record.ok_or_else(|| Refusal::not_found(call.target.subject()))?;
    let pod = record.value();
    let phase = pod.at("/status/phase").as_str().unwrap_or("Pending");
    let address = pod.at("/status/podIP").as_str().unwrap_or_default();
    let (Ok(address), "Running") = (address.parse::<IpAddr>(), phase) else {
        let why =
            format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(Refusal::bad_request(why));
    };
    let lifetime = call.lifetime.clone();
    let converse = move |streams| serve(address, streams, lifetime);
    if upgrades_to(&call.headers, "websocket") {
        return websocket::switch_to_spdy(&mut call, &server.places, &TUNNELLED, converse);
    }
    if !upgrades_to(&call.headers, "SPDY/3.1") {
        return Err(Refusal::bad_request(
            "upgrade request required: to SPDY/3.1 or websocket",
        ));
    }
    switch_to_spdy(&mut call, &server.places, &PROTOCOLS, converse)
}

/// The streams of a connection of which the other one is still to come.
enum Half {
    Error(Stream),
    Data(Stream),
}

/// Connects each pair of streams, until the client goes or the server ends; then those that are open get a while.
async fn serve(address: IpAddr, mut streams: mpsc::Receiver<Stream>, lifetime: Lifetime) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = streams.recv() => stream,
            () = lifetime.ending() => {
                let rest = async { while connections.join_next().await.is_some() {} };
                tokio::select! {
                    () = rest => {}
                    () = lifetime.over() => {}
                }
                return;
            }
        };
        let Some(stream) = stream else { return };
        while connections.try_join_next().is_some() {}
        let header = |name: &str| {
            stream
                .headers
                .get(name)
                .map(String::as_str)
                .unwrap_or_default()
        };
        let Ok(port) = header("port").parse::<u16>() else {
            stream
                .outgoing
                .finish(Bytes::from_static(b"the stream names no port"))
                .await;
            continue;
        };
        if connections.len() + halves.len() >= MAX_CONNECTIONS {
            stream
                .outgoing
                .finish(Bytes::from_static(b"too many connections are open"))
                .await;
            continue;
        }
        let id = header("requestid").to_owned();
        let half = match header("streamtype") {
            "error" => Half::Error(stream),
            "data" => Half::Data(stream),
            _ => continue,
        };
        match (half, halves.remove(&id)) {
            (Half::Error(error), Some(Half::Data(data)))
            | (Half::Data(data), Some(Half::Error(error))) => {
                connections.spawn(connect(SocketAddr::new(address, port), data, error));
            }
            (half, _) => {
                halves.insert(id, half);
            }
        }
    }
}

/// One connection from its beginning to its end.
async fn connect(address: SocketAddr, data: Stream, error: Stream) {
    let opened = match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(why)) => {
            return fail(&data.outgoing, &error.outgoing, address, &why.to_string()).await;
        }
        Err(_) => {
            return fail(
                &data.outgoing,
                &error.outgoing,
                address,
                "it does not answer",
            )
            .await;
        }
    };
    let (from, mut to) = opened.into_split();
    let mut incoming = data.incoming;
    let write = async {
        while let Some(bytes) = incoming.recv().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(write, pump(from, &data.outgoing));
    error.outgoing.finish(Bytes::new()).await;
}

async fn fail(data: &Sink, error: &Sink, address: SocketAddr, why: &str) {
    let port = address.port();
    let told = format!("error forwarding port {port} to pod: cannot connect to {address}: {why}");
    error.finish(Bytes::from(told)).await;
    data.finish(Bytes::new()).await;
}
