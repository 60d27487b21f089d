//! The gateway with rights of its own, as on a cluster.

use std::collections::BTreeSet;
use std::sync::Mutex;

use http::{Request, StatusCode};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::client::Body;
use serin_api::istio::{DestinationRule, VirtualService};
use tower::ServiceExt;

use super::*;

/// All that it may need.
fn rules() -> Vec<Value> {
    let mut rules = crate::rights::rules();
    rules.push(crate::rights::of_certificates());
    rules.push(crate::rights::of_replicas());
    rules
}

/// Method and path of what was refused.
type Refused = Arc<Mutex<BTreeSet<(String, String)>>>;

/// A gateway that has the rights of `rules` alone, and a list of what it was refused.
async fn with_rights(rules: Vec<Value>) -> (World, Refused) {
    let server = serin_apiserver::ApiServer::new(serin_apiserver::Store::in_memory());
    let anybody = Client::new(server.router(), "default");
    let role = json!({"metadata": {"name": "gateway"}, "rules": rules});
    let roles: Api<ClusterRole> = Api::all(anybody.clone());
    let post = PostParams::default();
    let role = serde_json::from_value(role).unwrap();
    roles.create(&post, &role).await.unwrap();
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "gateway"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "gateway"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "gateway"}],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(anybody.clone());
    let binding = serde_json::from_value(binding).unwrap();
    bindings.create(&post, &binding).await.unwrap();
    let user = serin_apiserver::User {
        name: "gateway".into(),
        groups: vec!["system:authenticated".into()],
        ..serin_apiserver::User::default()
    };
    let refused = Refused::default();
    let (router, told) = (server.router_of(user), Arc::clone(&refused));
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let asked = (request.method().to_string(), path);
        let (answer, told) = (router.clone().oneshot(request), Arc::clone(&told));
        async move {
            let answer = answer.await?;
            if answer.status() == StatusCode::FORBIDDEN {
                told.lock().unwrap().insert(asked);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let own = Client::new(service, "default");
    let replica = Replica {
        service: crate::names::ObjectName::new("default", "serin-gateway"),
        name: "serin-gateway-1".into(),
    };
    let options = World::options();
    let world = World::with_options(anybody, own, options, Some(replica));
    (world, refused)
}

async fn create_class_and_gateway(world: &World) {
    let spec = json!({"controllerName": "serin.dev/gateway"});
    let class = json!({"metadata": {"name": "serin"}, "spec": spec});
    let classes: Api<GatewayClass> = Api::all(world.client.clone());
    let class = serde_json::from_value(class).unwrap();
    let post = PostParams::default();
    classes.create(&post, &class).await.unwrap();
    let listeners = json!([{"name": "web", "port": 80, "protocol": "HTTP"}]);
    let spec = json!({"gatewayClassName": "serin", "listeners": listeners});
    let _: Gateway = world
        .create(json!({"metadata": {"name": "edge"}, "spec": spec}))
        .await;
}

async fn create_istio(world: &World) {
    let _: DestinationRule = world
        .create(json!({"metadata": {"name": "web"}, "spec": {"host": "web"}}))
        .await;
    let to = json!([{"route": [{"destination": {"host": "web"}}]}]);
    let spec = json!({"hosts": ["app.example.com"], "http": to});
    let _: VirtualService = world
        .create(json!({"metadata": {"name": "web"}, "spec": spec}))
        .await;
}

#[tokio::test]
async fn everything_that_is_said_and_read_is_in_the_rights() {
    let (world, refused) = with_rights(rules()).await;
    create_class_and_gateway(&world).await;
    let service: Service = world.create(service()).await;
    let pod: Pod = world.create(pod()).await;
    let generation = service.metadata.generation.unwrap_or_default();
    let _: EndpointSlice = world.create(slice(generation, &pod)).await;
    let mut attached = route();
    attached["spec"]["parentRefs"] = json!([{"name": "edge"}]);
    let _: HTTPRoute = world.create(attached).await;
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let _: Ingress = world
        .create(json!({"metadata": {"name": "web"}, "spec": {"defaultBackend": backend}}))
        .await;
    create_istio(&world).await;
    world.until_acknowledged(1).await;
    let is_told = |lease: &Lease| lease.metadata.annotations.is_some();
    world.until("serin-gateway-1", is_told).await;
    let is_told = |ingress: &Ingress| ingress.status.is_some();
    world.until("web", is_told).await;
    let is_told = |service: &VirtualService| service.status.is_some();
    world.until("web", is_told).await;
    let is_told = |rule: &DestinationRule| rule.status.is_some();
    world.until("web", is_told).await;
    let is_programmed = |gateway: &Gateway| {
        let status = gateway.status.as_ref();
        status.is_some_and(|s| conditions::is_true(&s.conditions, "Programmed"))
    };
    world.until("edge", is_programmed).await;
    let pods: Api<Pod> = world.api();
    let params = DeleteParams::default();
    pods.delete("web-1", &params).await.unwrap();
    world.until("web-1", is_drained).await;
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
    assert_eq!(**world.pages.forbidden.load(), Vec::<String>::new());
    world.stop().await;
}

/// The rules without the right to these resources.
fn rights_without(gone: &[&str]) -> Vec<Value> {
    let mut rules = rules();
    for rule in &mut rules {
        let resources = rule["resources"].as_array_mut().unwrap();
        resources.retain(|one| !gone.contains(&one.as_str().unwrap()));
    }
    rules.retain(|rule| rule["resources"] != json!([]));
    rules
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_does_not_keep_the_others_from_being_served() {
    let gone = ["ingresses", "virtualservices", "secrets"];
    let (world, refused) = with_rights(rights_without(&gone)).await;
    let _: Service = world.create(service()).await;
    let _: HTTPRoute = world.create(route()).await;
    world.until_acknowledged(1).await;
    let forbidden = world.pages.forbidden.load().join("\n");
    for kind in ["Ingresses", "VirtualServices", "Secrets"] {
        let told = forbidden.contains(&format!("{kind} cannot be read"));
        assert!(told, "{forbidden}");
    }
    assert!(!refused.lock().unwrap().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn without_a_word_of_instances_nothing_is_made_of_the_routes() {
    let (world, _) = with_rights(rights_without(&["endpointslices"])).await;
    let _: HTTPRoute = world.create(route()).await;
    let told = async {
        while world.pages.forbidden.load().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a kind that may not be read", told).await;
    assert!(!world.shared.is_live.load(Ordering::SeqCst));
    world.stop().await;
}
