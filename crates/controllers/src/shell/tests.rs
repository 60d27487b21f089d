use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use kube::core::PartialObjectMeta;
use serde_json::json;
use serin_apiserver::{ApiServer, Store};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::waiting::{soon, within};

/// Longer than any look is put off.
const HOUR: Duration = Duration::from_secs(3600);

/// Does to each ConfigMap what its name says, and tells when it was asked.
struct Probe {
    clock: Clock,
    asked: mpsc::UnboundedSender<(String, Instant)>,
}

impl Reconcile for Probe {
    type Object = ConfigMap;
    const NAME: &'static str = "probe";

    async fn reconcile(&self, object: Arc<ConfigMap>) -> Result<Next, Error> {
        let name = object.name_any();
        self.asked.send((name.clone(), Instant::now())).unwrap();
        match name.as_str() {
            "panics" => panic!("on purpose"),
            "fails" => Err(Error::timeout("do it")),
            "wakes" => Ok(Next::At(
                self.clock.now() + jiff::SignedDuration::from_secs(7),
            )),
            _ => Ok(Next::Change),
        }
    }
}

struct Fixture {
    hub: Hub,
    cache: Cache<ConfigMap>,
    shutdown: CancellationToken,
    asked: mpsc::UnboundedReceiver<(String, Instant)>,
}

async fn fixture(names: &[&str]) -> Fixture {
    let client = Client::new(ApiServer::new(Store::in_memory()).router(), "default");
    for name in names {
        write_config_map(&client, name).await;
    }
    let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
    let shutdown = CancellationToken::new();
    let mut hub = Hub::new(
        client,
        clock.clone(),
        Some("default".into()),
        2,
        shutdown.clone(),
    );
    let cache = hub.watch::<ConfigMap>();
    let (sender, asked) = mpsc::unbounded_channel();
    let probe = Probe {
        clock,
        asked: sender,
    };
    hub.run(probe, &cache, Vec::new);
    Fixture {
        hub,
        cache,
        shutdown,
        asked,
    }
}

async fn write_config_map(client: &Client, name: &str) {
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

impl Fixture {
    /// The next times at which this one is asked about, as seconds since the first.
    async fn times(&mut self, name: &str, count: usize) -> Vec<f64> {
        let mut times: Vec<Instant> = Vec::new();
        while times.len() < count {
            let what = format!("a look at {name}");
            let next = within(HOUR, &what, self.asked.recv()).await;
            let (asked, at) = next.unwrap();
            if asked == name {
                times.push(at);
            }
        }
        let since =
            |at: &Instant| (at.duration_since(times[0]).as_secs_f64() * 10.0).round() / 10.0;
        times.iter().map(since).collect()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        soon("the end of the hub", self.hub.join()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_with_growing_delays() {
    for name in ["fails", "panics"] {
        let mut fixture = fixture(&[name]).await;
        let times = fixture.times(name, 12).await;
        assert_eq!(times[..5], [0.0, 0.2, 0.6, 1.4, 3.0], "{name}");
        assert_eq!((times[11] - times[10]).round(), 60.0, "{name}");
        fixture.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_object_stops_nobody_else() {
    let mut fixture = fixture(&["panics", "fails", "good"]).await;
    fixture.times("good", 1).await;
    write_config_map(&fixture.hub.client, "later").await;
    fixture.times("later", 1).await;
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_looked_at_again_when_it_asks_for_it() {
    let mut fixture = fixture(&["wakes", "good"]).await;
    assert_eq!(fixture.times("wakes", 3).await, [0.0, 7.0, 14.0]);
    // And everything now and then.
    assert_eq!(fixture.times("good", 2).await, [0.0, 300.0]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_ends_or_panics_is_started_again() {
    let fixture = fixture(&[]).await;
    let mut hub = fixture.hub;
    let (sender, mut started) = mpsc::unbounded_channel();
    let mut count = 0;
    hub.supervise("test".into(), move || {
        count += 1;
        let number = count;
        sender.send(number).unwrap();
        async move { assert_eq!(number, 2, "on purpose") }
    });
    for number in 1..=4 {
        let start = soon("the next start", started.recv()).await;
        assert_eq!(start, Some(number));
    }
    fixture.shutdown.cancel();
    soon("the end of the hub", hub.join()).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_concerns_what_it_was_and_what_it_is() {
    let fixture = fixture(&["moved"]).await;
    soon("the list", fixture.cache.listed().cancelled()).await;
    let mut keys = fixture
        .cache
        .triggers(&fixture.cache, |object: &ConfigMap| {
            let to = object.labels().get("to").map_or("nowhere", String::as_str);
            vec![ObjectRef::new(to).within("default")]
        });
    let api: Api<ConfigMap> = Api::default_namespaced(fixture.hub.client.clone());
    let patch = json!({"metadata": {"labels": {"to": "b"}}});
    merge(&api, "moved", &patch).await.unwrap();
    let mut next = async || soon("a look", keys.next()).await.unwrap().name;
    assert_eq!([next().await, next().await], ["nowhere", "b"]);
    let uid = fixture
        .cache
        .get("default", "moved")
        .unwrap()
        .uid()
        .unwrap();
    delete(&api, "moved", "another uid").await.unwrap();
    delete(&api, "moved", &uid).await.unwrap();
    assert_eq!(next().await, "b");
    assert!(fixture.cache.get("default", "moved").is_none());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_concerns_what_was_stood_for_and_nothing_else_does() {
    let fixture = fixture(&["moved"]).await;
    soon("the list", fixture.cache.listed().cancelled()).await;
    let place = |object: &ConfigMap| object.labels().get("at").cloned();
    let mut keys = fixture
        .cache
        .ends(&fixture.cache, place, |namespace, at: &String| {
            vec![ObjectRef::new(at).within(namespace)]
        });
    let api: Api<ConfigMap> = Api::default_namespaced(fixture.hub.client.clone());
    for change in [
        json!({"metadata": {"labels": {"at": "a"}}}),
        json!({"data": {"other": "1"}}),
        json!({"metadata": {"labels": {"at": "b"}}}),
        json!({"data": {"other": "2"}}),
    ] {
        merge(&api, "moved", &change).await.unwrap();
    }
    let uid = api.get("moved").await.unwrap().uid().unwrap();
    delete(&api, "moved", &uid).await.unwrap();
    write_config_map(&fixture.hub.client, "moved").await;
    merge(&api, "moved", &json!({"metadata": {"labels": {"at": "c"}}}))
        .await
        .unwrap();
    merge(&api, "moved", &json!({"metadata": {"labels": null}}))
        .await
        .unwrap();
    for expected in ["a", "b", "c"] {
        let what = format!("a look at {expected}");
        let next = soon(&what, keys.next()).await;
        assert_eq!(next.unwrap().name, expected);
    }
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_waited_for() {
    let fixture = fixture(&["mine"]).await;
    soon("the list", fixture.cache.listed().cancelled()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(fixture.hub.client.clone());
    let written = merge(&api, "mine", &json!({"data": {"a": "b"}}))
        .await
        .unwrap();
    fixture.cache.wrote("owner", &written);
    let mut keys = fixture
        .cache
        .triggers(&fixture.cache, |o: &ConfigMap| vec![ObjectRef::from_obj(o)]);
    while !fixture.cache.is_current("owner") {
        soon("the own write", keys.next()).await;
    }
    assert_eq!(
        fixture.cache.get("default", "mine").unwrap().data,
        written.data
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn errors_say_what_was_tried_and_why_it_failed() {
    let client = Client::new(ApiServer::new(Store::in_memory()).router(), "default");
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let missing = merge(&api, "nobody", &json!({})).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Missing);
    let text = missing.chain();
    assert!(
        text.starts_with("could not change ConfigMap default/nobody: "),
        "{text}"
    );
    assert_eq!(text.matches("not found").count(), 1, "{text}");
    assert_eq!(delete(&api, "nobody", "uid").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_api_does_not_have_holds_nobody_up() {
    let client = Client::new(ApiServer::new(Store::in_memory()).router(), "default");
    let absent: Api<NetworkPolicy> = Api::all(client.clone());
    let refused = absent.list(&ListParams::default()).await.unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 404),
        "{refused}"
    );
    let shutdown = CancellationToken::new();
    let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
    let mut hub = Hub::new(client, clock, None, 1, shutdown.clone());
    let cache = hub.watch::<NetworkPolicy>();
    soon("the list", cache.listed().cancelled()).await;
    shutdown.cancel();
    soon("the end of the hub", hub.join()).await;
}

/// An API that took a question and has gone, as far as anybody can tell.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_answered_is_asked_for_again() {
    let router = ApiServer::new(Store::in_memory()).router();
    let lists = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&lists);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let router = router.clone();
        let query = request.uri().query().unwrap_or_default();
        let is_first = !query.contains("watch=") && asked.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            router.oneshot(request).await
        }
    });
    let shutdown = CancellationToken::new();
    let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
    let client = Client::new(service, "default");
    let mut hub = Hub::new(client, clock, None, 1, shutdown.clone());
    let began = Instant::now();
    let cache = hub.watch::<ConfigMap>();
    within(HOUR, "the second list", cache.listed().cancelled()).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    // What is told of a watch does not come by a deadline.
    tokio::time::sleep(HOUR).await;
    assert_eq!(lists.load(Ordering::Relaxed), 2);
    shutdown.cancel();
    soon("the end of the hub", hub.join()).await;
}

/// Passes requests on to the API and counts the bytes of the answers, those of watches too.
fn counting(server: &ApiServer) -> (Client, Arc<AtomicUsize>) {
    let bytes = Arc::new(AtomicUsize::new(0));
    let (router, counted) = (server.router(), Arc::clone(&bytes));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (router, counted) = (router.clone(), Arc::clone(&counted));
        async move {
            let answer = router.oneshot(request).await?;
            Ok::<_, std::convert::Infallible>(answer.map(|body| {
                body.map_frame(move |frame| {
                    let length = frame.data_ref().map_or(0, |data| data.len());
                    counted.fetch_add(length, Ordering::Relaxed);
                    frame
                })
            }))
        }
    });
    (Client::new(service, "default"), bytes)
}

/// What is kept of ConfigMaps and Secrets does not grow with what is in them, and neither does what is fetched.
#[tokio::test(start_paused = true)]
async fn contents_are_neither_fetched_nor_kept() {
    const EACH: usize = 100_000;
    const COUNT: usize = 20;
    let server = ApiServer::new(Store::in_memory());
    let client = Client::new(server.router(), "default");
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let write = async |name: String| {
        let content = "x".repeat(EACH);
        let annotations = json!({
            "kubectl.kubernetes.io/last-applied-configuration": content, "serin.dev/versioned": "false",
        });
        let object =
            json!({"metadata": {"name": name, "annotations": annotations}, "data": {"a": content}});
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    };
    for number in 0..COUNT {
        write(format!("listed-{number}")).await;
    }
    let (counted, bytes) = counting(&server);
    let shutdown = CancellationToken::new();
    let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
    let mut hub = Hub::new(counted, clock, None, 1, shutdown.clone());
    let cache = hub.watch::<PartialObjectMeta<ConfigMap>>();
    soon("the list", cache.listed().cancelled()).await;
    let mut keys = cache.triggers(&cache, |o| vec![ObjectRef::from_obj(o)]);
    write("watched".to_owned()).await;
    soon("what is written later", keys.next()).await;

    let kept = cache.list("default");
    assert_eq!(kept.len(), COUNT + 1);
    for object in &kept {
        let annotations: Vec<_> = object.annotations().keys().collect();
        assert_eq!(annotations, ["serin.dev/versioned"]);
    }
    // The metadata comes with its annotations; the contents beside it stay where they are.
    let fetched = bytes.load(Ordering::Relaxed);
    let annotated = (COUNT + 1) * EACH;
    assert!(fetched < annotated + EACH, "{fetched} bytes were fetched");
    shutdown.cancel();
    soon("the end of the hub", hub.join()).await;
}
