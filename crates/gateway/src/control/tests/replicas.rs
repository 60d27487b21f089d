//! Two gateways behind one Service, on one API: what is acknowledged is what both of them serve.

use super::*;
use crate::names::ObjectName;

const FRONT: &str = "serin-gateway";

fn started(client: &Client, name: &str) -> World {
    let replica = Replica {
        service: ObjectName::new("default", FRONT),
        name: name.into(),
    };
    let options = LowerOptions::default();
    World::with_options(client.clone(), client.clone(), options, Some(replica))
}

/// The endpoints of the Service of the gateways, as the kubelets' probes make them.
fn endpoints(b_serves: bool) -> Value {
    let endpoint = |name: &str, address: &str, serves: bool| {
        json!({"addresses": [address], "conditions": {"ready": serves},
            "targetRef": {"kind": "Pod", "name": name, "namespace": "default"}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": FRONT, "labels": {"kubernetes.io/service-name": FRONT}},
        "ports": [{"port": 8080}],
        "endpoints": [endpoint("a", "10.0.0.1", true), endpoint("b", "10.0.0.2", b_serves)]})
}

async fn waits_for_the_other_one(world: &World, generation: i64) {
    let waits = async {
        loop {
            let route: HTTPRoute = world.api().get("web").await.unwrap();
            let table = world.shared.table.load();
            let serves = table
                .table
                .routes
                .values()
                .map(|verdict| verdict.generation)
                .max();
            let waiting = world.pages.waiting.load();
            if serves == Some(generation) && waiting.iter().any(|one| one.contains("wait for b")) {
                assert_ne!(route.acknowledged_generation(), Some(generation));
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a wait for the other gateway", waits).await;
}

async fn weigh(world: &World, weight: u32) {
    let path = "/spec/rules/0/backendRefs/0/weight";
    let change = json!([{"op": "replace", "path": path, "value": weight}]);
    let patch = Patch::Json::<()>(serde_json::from_value(change).unwrap());
    let api: Api<HTTPRoute> = world.api();
    let params = PatchParams::default();
    api.patch("web", &params, &patch).await.unwrap();
}

async fn set_endpoints(world: &World, b_serves: bool) {
    let api: Api<EndpointSlice> = world.api();
    let params = PatchParams::apply("test").force();
    let patch = Patch::Apply(endpoints(b_serves));
    api.patch(FRONT, &params, &patch).await.unwrap();
}

#[tokio::test]
async fn a_change_is_acknowledged_once_every_gateway_that_gets_requests_serves_it() {
    let server = serin_apiserver::ApiServer::new(serin_apiserver::Store::in_memory());
    let client = Client::new(server.router(), "default");
    let a = started(&client, "a");
    set_endpoints(&a, true).await;
    let _: Service = a.create(service()).await;
    let _: HTTPRoute = a.create(route()).await;
    waits_for_the_other_one(&a, 1).await;

    let b = started(&client, "b");
    a.until_acknowledged(1).await;
    weigh(&a, 7).await;
    a.until_acknowledged(2).await;
    for world in [&a, &b] {
        assert_eq!(
            world.shared.table.load().table.rules[0].backends[0].weight,
            7
        );
    }

    // It is cut off from the API while users still reach it.
    b.stop().await;
    weigh(&a, 8).await;
    waits_for_the_other_one(&a, 3).await;
    // Users no longer do.
    set_endpoints(&a, false).await;
    a.until_acknowledged(3).await;
    a.stop().await;
}
