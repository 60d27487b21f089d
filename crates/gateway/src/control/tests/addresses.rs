//! Where users reach what is served, in the status of Ingresses and Gateways.

use k8s_openapi::api::networking::v1::Ingress;

use super::*;
use crate::lower::Published;
use crate::names::ObjectName;

fn ingress(name: &str, class: &str) -> Value {
    let service = json!({"name": "web", "port": {"number": 80}});
    json!({"metadata": {"name": name}, "spec": {"ingressClassName": class, "defaultBackend": {"service": service}}})
}

/// What `kubectl get ingress` shows as its address, and the ports.
fn told(ingress: &Ingress) -> Vec<String> {
    let status = ingress.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let points = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let one = |point: &k8s_openapi::api::networking::v1::IngressLoadBalancerIngress| {
        let ports = point.ports.iter().flatten();
        let ports: String = ports.map(|port| format!(":{}", port.port)).collect();
        let value = point.ip.as_ref().or(point.hostname.as_ref());
        format!("{}{ports}", value.unwrap())
    };
    points.into_iter().flatten().map(one).collect()
}

#[tokio::test]
async fn an_ingress_says_where_the_gateway_listens() {
    let world = World::start();
    let _: Service = world.create(service()).await;
    let _: Ingress = world.create(ingress("web", "serin")).await;
    let is_told = |ingress: &Ingress| told(ingress) == ["127.0.0.1:8080"];
    world.until("web", is_told).await;
    world.stop().await;
}

#[tokio::test]
async fn in_a_cluster_an_ingress_of_our_class_says_where_the_service_of_the_gateway_is() {
    let server = serin_apiserver::ApiServer::new(serin_apiserver::Store::in_memory());
    let client = Client::new(server.router(), "default");
    let options = LowerOptions {
        ingress_class: Some("serin".into()),
        sockets: Sockets {
            http: vec![([0, 0, 0, 0], 8080).into()],
            ..Sockets::default()
        },
        published: Published {
            service: Some(ObjectName::new("default", "serin-gateway")),
            ..Published::default()
        },
    };
    let world = World::with_options(client.clone(), client, options, None);
    let _: Service = world.create(service()).await;
    let _: Ingress = world.create(ingress("theirs", "other")).await;
    let _: Ingress = world.create(ingress("web", "serin")).await;
    let front = json!({"metadata": {"name": "serin-gateway"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    let _: Service = world.create(front).await;
    let services: Api<Service> = world.api();
    for (point, address) in [
        (json!({"ip": "192.0.2.7"}), "192.0.2.7"),
        (json!({"hostname": "lb.example"}), "lb.example"),
    ] {
        let status = json!({"status": {"loadBalancer": {"ingress": [point]}}});
        let params = PatchParams::default();
        let patch = Patch::Merge(status);
        services
            .patch_status("serin-gateway", &params, &patch)
            .await
            .unwrap();
        let is_told = |ingress: &Ingress| told(ingress) == [address];
        world.until("web", is_told).await;
    }
    let theirs = world.until("theirs", |_: &Ingress| true).await;
    assert!(told(&theirs).is_empty());
    world.stop().await;
}
