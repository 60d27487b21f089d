//! What several tests need: a client of an empty server, and a few objects.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Client, Error};
use serde_json::{Value, json};
use serin_apiserver::{ApiServer, Store};
use tower::ServiceExt;

use crate::waiting::soon;

pub(crate) fn client() -> Client {
    Client::new(ApiServer::new(Store::in_memory()).router(), "default")
}

pub(crate) fn config_map(name: &str, value: &str) -> ConfigMap {
    of(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}}),
    )
}

pub(crate) fn deployment(name: &str) -> Deployment {
    of(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}),
    )
}

pub(crate) fn pod(name: &str) -> Pod {
    of(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}}),
    )
}

pub(crate) fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}

/// A server whose clock stands still.
pub(crate) fn server() -> ApiServer {
    ApiServer::new(Store::in_memory()).with_clock(|| "2026-01-02T03:04:05Z".parse().unwrap())
}

/// A server that is spoken to as it is, without a client that hides forms and headers.
pub(crate) struct Raw(pub(crate) Router);

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        let all = self.headers.get_all(header::WARNING).iter();
        all.map(|w| w.to_str().unwrap()).collect()
    }
}

impl Raw {
    /// Its clock stands still.
    pub(crate) fn new() -> Self {
        Self(server().router())
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> Answer {
        let what = format!("the answer to {} {}", request.method(), request.uri());
        let router = self.0.clone();
        let answer = async {
            let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
            Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.collect().await.unwrap().to_bytes(),
            }
        };
        soon(&what, answer).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: String,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::CONTENT_TYPE, media);
        self.request(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let request = Request::get(path).header(header::ACCEPT, accept);
        self.request(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn table(&self, path: &str) -> Answer {
        self.get_as(path, "application/json;as=Table;v=v1;g=meta.k8s.io")
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", body.to_string())
            .await
    }

    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Answer {
        let media = "application/merge-patch+json";
        self.send(Method::PATCH, path, media, body.to_string())
            .await
    }

    pub(crate) async fn apply(&self, path: &str, body: &Value) -> Answer {
        let media = "application/apply-patch+yaml";
        self.send(Method::PATCH, path, media, body.to_string())
            .await
    }
}

/// Until `holds` does; the paused clock makes the waiting free.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(what, wait).await;
}
