//! The parts of a Pod that only Pods have: logs, binding to a node.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::write::{context, decide};
use crate::admit::{self, Next};
use crate::body;
use crate::listen::Endless;
use crate::logs::{LogError, LogRequest};
use crate::meta;
use crate::options::{Parameters, WriteOptions};
use crate::render;
use crate::server::{ApiServer, Call};
use crate::status::Refusal;
use crate::target::{Part, Target};
use crate::tree::Tree;

pub(super) async fn log(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    if call.method != Method::GET {
        return Err(Refusal::method(&call.method));
    }
    let record = server.store.get(&call.target.key());
    let record = record.ok_or_else(|| Refusal::not_found(call.target.subject()))?;
    let request = log_request(
        &call.target,
        &record.value(),
        &call.parameters,
        server.now(),
    )?;
    let Some(logs) = &server.logs else {
        return Err(Refusal::not_implemented(
            "this server was started without a node, so it has no logs",
        ));
    };
    let follow = request.follow;
    let stream = logs.open(request).await.map_err(|error| match error {
        LogError::NotFound(why) => Refusal::bad_request(why),
        LogError::Failed(why) => Refusal::internal(why),
    })?;
    let text = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
    let body = Body::from_stream(stream.map(Ok::<_, std::convert::Infallible>));
    let mut response = (StatusCode::OK, text, body).into_response();
    if follow {
        response.extensions_mut().insert(Endless);
    }
    Ok(response)
}

fn log_request(
    target: &Target,
    pod: &Value,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<LogRequest, Refusal> {
    let since_seconds = parameters
        .number("sinceSeconds")?
        .map(|s| i64::try_from(s).unwrap_or(i64::MAX));
    let ago = since_seconds.map(|s| {
        now.checked_sub(SignedDuration::from_secs(s))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    });
    let since_time = parameters
        .get("sinceTime")
        .map(str::parse::<Timestamp>)
        .transpose();
    let since_time =
        since_time.map_err(|e| Refusal::bad_request(format!("sinceTime is not a time: {e}")))?;
    Ok(LogRequest {
        namespace: target.namespace().to_owned(),
        pod: target.name().to_owned(),
        uid: meta::text(pod, "uid").to_owned(),
        container: container_of(target, pod, parameters.get("container"))?,
        follow: parameters.is_on("follow"),
        tail_lines: parameters.number("tailLines")?,
        since: ago.or(since_time),
        previous: parameters.is_on("previous"),
        timestamps: parameters.is_on("timestamps"),
        limit_bytes: parameters.number("limitBytes")?,
    })
}

/// The container of a Pod that is meant, by name or because it is the only one.
pub(crate) fn container_of(
    target: &Target,
    pod: &Value,
    asked: Option<&str>,
) -> Result<String, Refusal> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod.at("/spec")[list].as_array().into_iter().flatten();
        containers
            .filter_map(|c| Some(c.at("/name").as_str()?.to_owned()))
            .collect()
    };
    let (main, first) = (names("containers"), names("initContainers"));
    match (asked, main.as_slice()) {
        (Some(asked), _) if main.iter().chain(&first).any(|n| n == asked) => Ok(asked.to_owned()),
        (Some(asked), _) => {
            let why = format!("container {asked} is not valid for pod {}", target.name());
            Err(Refusal::bad_request(why))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => {
            let why = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                target.name(),
                main.join(" ")
            );
            Err(Refusal::bad_request(why))
        }
    }
}

/// Puts a Pod on a node, once.
pub(super) async fn bind(server: &ApiServer, call: Call) -> Result<Response, Refusal> {
    if call.method != Method::POST {
        return Err(Refusal::method(&call.method));
    }
    let options = WriteOptions::parse(&call.parameters, &call.headers)?;
    let binding = body::object(&call.headers, &call.body)?;
    let node = binding.at("/target/name").as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Refusal::bad_request(
            "target.name: Required value: the node",
        ));
    }
    let pod = main_of(&call.target);
    let context = context(server, &options, "binding");
    let place = |old: &Value| {
        match old.at("/spec/nodeName").as_str() {
            Some(now) if !now.is_empty() => {
                let why = format!("pod {} is already assigned to node {now:?}", pod.name());
                return Err(Refusal::conflict(pod.subject(), &why));
            }
            _ => {}
        }
        let mut new = old.clone();
        new.map("spec").insert("nodeName".into(), node.into());
        Ok(new)
    };
    let status = Target {
        part: Part::Status,
        ..pod.clone()
    };
    // One write, as in a cluster: nobody sees a pod that has a node and is not said to be scheduled.
    decide(server, &pod, options.dry_run, |old| {
        let mut placed = admit::update(&pod, context, old, place(old)?)?;
        if let Next::Put(object) = &mut placed.outcome {
            let told = scheduled(object, context.now);
            let told = admit::update(&status, context, object, told)?;
            if let Next::Put(told) = told.outcome {
                *object = told;
            }
        }
        Ok(placed)
    })
    .await?;
    Ok(success())
}

/// The pod, with the condition that it has a node. One that stands there keeps its place.
fn scheduled(pod: &Value, now: Timestamp) -> Value {
    let mut pod = pod.clone();
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": meta::seconds(now)});
    let status = pod.map("status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Value::Array(list) = conditions {
        match list.iter_mut().find(|c| c.at("/type") == "PodScheduled") {
            Some(told) => *told = condition,
            None => list.insert(0, condition),
        }
    }
    pod
}

pub(super) fn main_of(target: &Target) -> Target {
    Target {
        part: Part::Main,
        ..target.clone()
    }
}

pub(super) fn success() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    (StatusCode::CREATED, render::JSON, status.to_string()).into_response()
}
