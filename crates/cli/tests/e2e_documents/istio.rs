//! The documents of Istio: subsets of one Service, shares between them, and headers that choose.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::support::{get, get_with, poll};
use super::{document, start};

/// A document of Istio with the hosts that it lacks; without them it is refused, naming the field.
fn with_hosts(name: &str) -> String {
    let text = std::fs::read_to_string(document(name)).unwrap();
    text.replace(
        "spec:\n  http:",
        "spec:\n  hosts: [app.example.com]\n  http:",
    )
}

/// The Service that both documents of Istio split, with two versions behind it.
fn one_service(labels: [&str; 2]) -> String {
    let one = |version: &str| {
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {version}}}
spec:
  selector: {{matchLabels: {{app: web-app, version: {version}}}}}
  template:
    metadata: {{labels: {{app: web-app, version: {version}}}}}
    spec:
      containers:
      - name: web
        image: web-app:{version}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /health/ready, port: http}}, periodSeconds: 1}}
"
        )
    };
    let service = "apiVersion: v1
kind: Service
metadata: {name: web-app-service}
spec:
  selector: {app: web-app}
  ports: [{port: 80, targetPort: http}]
";
    format!("{service}{}", labels.map(one).concat())
}

/// How many of 10,000 requests without the header, and of 200 with each of its values, each version answers.
async fn shares(
    gateway: SocketAddr,
    header: &str,
    values: [&str; 2],
) -> Vec<BTreeMap<String, usize>> {
    let mut shares = Vec::new();
    for (value, count) in [("", 10_000), (values[0], 200), (values[1], 200)] {
        let mut met = BTreeMap::new();
        for _ in 0..count {
            let headers = [(header, value)];
            let headers = if value.is_empty() {
                &[][..]
            } else {
                &headers[..]
            };
            let answer = get_with(gateway, "app.example.com", "/", headers)
                .await
                .unwrap();
            *met.entry(answer.version().to_owned()).or_default() += 1;
        }
        shares.push(met);
    }
    shares
}

/// Applies a document of Istio over two versions, and gives the shares.
async fn split_by(
    name: &str,
    labels: [&str; 2],
    more: &str,
    header: &str,
    values: [&str; 2],
) -> Vec<BTreeMap<String, usize>> {
    let (platform, _) = start().await;
    platform.apply(&one_service(labels)).await;
    for name in labels {
        let wait = ["rollout", "status", name, "--timeout", "60s"];
        platform.serin(&wait).await;
    }
    platform
        .apply(&format!("{}---{more}", with_hosts(name)))
        .await;
    let gateway = platform.gateway().await;
    let both = async || {
        let mut met = Vec::new();
        for _ in 0..30 {
            let answer = get(gateway, "app.example.com", "/").await.ok()?;
            met.push(answer.version().to_owned());
        }
        let meets = |label: &&str| met.iter().any(|m| m == label);
        labels.iter().all(meets).then_some(())
    };
    poll("both versions to answer", both).await;
    shares(gateway, header, values).await
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let pairs = pairs.iter().map(|(name, n)| ((*name).to_owned(), *n));
    pairs.collect()
}

#[tokio::test]
async fn a_canary_of_istio_gets_its_share_and_every_request_with_its_header() {
    let labels = ["v1", "v2"];
    let shares = split_by("4.2-1.yaml", labels, "", "canary", ["true", "false"]).await;
    let expected = [
        counts(&[("v1", 9_000), ("v2", 1_000)]),
        counts(&[("v2", 200)]),
        counts(&[("v1", 180), ("v2", 20)]),
    ];
    assert_eq!(shares, expected);
}

#[tokio::test]
async fn a_test_of_istio_goes_by_the_group_and_else_half_and_half() {
    let labels = ["version-a", "version-b"];
    let shares = split_by("5.2-2.yaml", labels, SUBSETS, "ab-test-group", ["A", "B"]).await;
    let expected = [
        counts(&[("version-a", 5_000), ("version-b", 5_000)]),
        counts(&[("version-a", 200)]),
        counts(&[("version-b", 200)]),
    ];
    assert_eq!(shares, expected);
}

/// The subsets that the second document leaves to its reader.
const SUBSETS: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: web-app-destination}
spec:
  host: web-app-service
  subsets:
  - {name: version-a, labels: {version: version-a}}
  - {name: version-b, labels: {version: version-b}}
";
