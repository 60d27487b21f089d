//! Sends the patches that are due: one at a time for each object, again with growing pauses after a failure, and not again
//! after a success until the object has changed.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serin_api::keys::FIELD_MANAGER;
use tokio::time::Instant;

use crate::acks::{Due, Target};
use crate::watch::{Kind, RawObject};

/// Patches under way at once; the others wait for their turn.
const MOST_AT_ONCE: usize = 32;
/// The longest that one patch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Writer {
    client: Option<Client>,
    attempts: HashMap<Target, Attempt>,
    under_way: FuturesUnordered<BoxFuture<'static, (Target, Result<(), String>)>>,
}

/// The last that was tried for one object.
struct Attempt {
    resource_version: String,
    said: String,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    Done,
    /// It failed and may be tried again then.
    Failed(Instant),
}

impl Writer {
    /// From now on patches go here. What failed before may be tried at once.
    pub(super) fn set_client(&mut self, client: Client) {
        self.client = Some(client);
        self.attempts
            .retain(|_, attempt| attempt.state == State::UnderWay);
    }

    /// Starts what is due and not under way, not done and not to wait.
    pub(super) fn offer(&mut self, due: Vec<Due>) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let wanted: std::collections::HashSet<_> = due.iter().map(|d| d.target.clone()).collect();
        self.attempts
            .retain(|target, attempt| attempt.state == State::UnderWay || wanted.contains(target));
        let now = Instant::now();
        for due in due {
            if self.under_way.len() >= MOST_AT_ONCE {
                return;
            }
            let known = self.attempts.get(&due.target);
            if known.is_some_and(|known| !known.lets_through(&due, now)) {
                continue;
            }
            let failures = known.map_or(0, |known| known.failures);
            let attempt = Attempt {
                resource_version: due.resource_version,
                said: due.said,
                state: State::UnderWay,
                failures,
            };
            self.attempts.insert(due.target.clone(), attempt);
            let sent = send(client.clone(), due.target, due.patch);
            self.under_way.push(sent.boxed());
        }
    }

    /// Waits for the end of one patch; never ends when none is under way.
    pub(super) async fn next(&mut self) {
        match self.under_way.next().await {
            Some((target, result)) => self.ended(&target, result),
            None => std::future::pending().await,
        }
    }

    /// When the first failed patch may be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let times = self.attempts.values().filter_map(|a| match a.state {
            State::Failed(at) => Some(at),
            State::UnderWay | State::Done => None,
        });
        times.min()
    }

    fn ended(&mut self, target: &Target, result: Result<(), String>) {
        let Some(attempt) = self.attempts.get_mut(target) else {
            return;
        };
        match result {
            Ok(()) => {
                attempt.state = State::Done;
                attempt.failures = 0;
            }
            Err(error) => {
                tracing::debug!(%target, %error, "an acknowledgement was not taken; it is tried again");
                let pause = FIRST_PAUSE.saturating_mul(1 << attempt.failures.min(7));
                attempt.state = State::Failed(Instant::now() + pause.min(LONGEST_PAUSE));
                attempt.failures += 1;
            }
        }
    }
}

impl Attempt {
    fn lets_through(&self, due: &Due, now: Instant) -> bool {
        let is_news = self.resource_version != due.resource_version || self.said != due.said;
        match self.state {
            State::UnderWay => false,
            State::Done => is_news,
            State::Failed(at) => at <= now,
        }
    }
}

async fn send(
    client: Client,
    target: Target,
    patch: serde_json::Value,
) -> (Target, Result<(), String>) {
    let sent = async {
        match &target {
            Target::Replica(_) => apply(client, &target, &patch).await,
            _ => patch_status(client, &target, patch).await,
        }
    };
    let result = match tokio::time::timeout(TIMEOUT, sent).await {
        Ok(result) => result,
        Err(_) => Err("no answer in time".into()),
    };
    (target, result)
}

async fn patch_status(
    client: Client,
    target: &Target,
    patch: serde_json::Value,
) -> Result<(), String> {
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|e| e.to_string())?;
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let (api, name) = api(client, target);
    let patch = Patch::Json::<()>(patch);
    let patched = api.patch_status(name, &params, &patch).await;
    patched.map(drop).map_err(|error| error.to_string())
}

async fn apply(client: Client, target: &Target, lease: &serde_json::Value) -> Result<(), String> {
    let (api, name) = api(client, target);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api.patch(name, &params, &Patch::Apply(lease)).await;
    applied.map(drop).map_err(|error| error.to_string())
}

/// Where an object is patched, and its name there. What is answered comes by the watch too, so it is not read here.
fn api(client: Client, target: &Target) -> (Api<RawObject>, &str) {
    let (kind, name) = match target {
        Target::GatewayClass(name) => {
            return (Api::all_with(client, &Kind::Class.resource()), name);
        }
        Target::Route(name) => (Kind::Route, name),
        Target::Gateway(name) => (Kind::Gateway, name),
        Target::Ingress(name) => (Kind::Ingress, name),
        Target::VirtualService(name) => (Kind::VirtualService, name),
        Target::DestinationRule(name) => (Kind::DestinationRule, name),
        Target::Service(name) => (Kind::Service, name),
        Target::Replica(name) => (Kind::Replica, name),
        Target::Pod(name) => (Kind::Pod, name),
    };
    let api = Api::namespaced_with(client, &name.namespace, &kind.resource());
    (api, &name.name)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use tokio::time::timeout;

    use super::*;
    use crate::names::ObjectName;

    const HOUR: Duration = Duration::from_secs(3600);

    fn due(resource_version: &str, said: &str) -> Due {
        Due {
            target: Target::Pod(ObjectName::new("default", "web-1")),
            resource_version: resource_version.into(),
            said: said.into(),
            patch: serde_json::json!([]),
        }
    }

    /// A writer to an API that does this with every patch, and how many it has got.
    fn writer<A>(answer: impl Fn() -> A + Send + 'static) -> (Writer, Arc<AtomicUsize>)
    where
        A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let asked = Arc::<AtomicUsize>::default();
        let told = Arc::clone(&asked);
        let api = tower::service_fn(move |_: Request<Body>| {
            told.fetch_add(1, Ordering::Relaxed);
            answer()
        });
        let mut writer = Writer::default();
        writer.set_client(Client::new(api, "default"));
        (writer, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn few_patches_are_under_way_at_once_and_none_for_long() {
        let (mut writer, asked) = writer(pending);
        let many = (0..100).map(|number| Due {
            target: Target::Pod(ObjectName::new("default", format!("web-{number}"))),
            ..due("1", "a")
        });
        writer.offer(many.collect());
        let began = Instant::now();
        for _ in 0..32 {
            timeout(HOUR, writer.next()).await.unwrap();
        }
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(asked.load(Ordering::Relaxed), 32);
        let none = timeout(HOUR, writer.next()).await;
        assert!(none.is_err(), "more than 32 were under way");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_before_a_patch_that_fails_grow_up_to_a_bound() {
        let busy = || {
            let answer = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
            ready(Ok(answer.body(Body::empty()).unwrap()))
        };
        let (mut writer, asked) = writer(busy);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            writer.offer(vec![due("1", "a")]);
            timeout(HOUR, writer.next()).await.unwrap();
            let pause = writer.retry_at().unwrap() - Instant::now();
            pauses.push(pause.as_millis());
            tokio::time::advance(pause).await;
        }
        let expected = [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000];
        assert_eq!(pauses, expected);
        assert_eq!(asked.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn the_same_is_not_said_twice_and_a_failure_waits() {
        let now = Instant::from_std(std::time::Instant::now());
        let attempt = |state| Attempt {
            resource_version: "1".into(),
            said: "a".into(),
            state,
            failures: 0,
        };
        let lets = |state, version, said| attempt(state).lets_through(&due(version, said), now);
        let later = State::Failed(now + Duration::from_secs(1));
        assert!(!lets(State::UnderWay, "2", "b"));
        assert!(!lets(State::Done, "1", "a"));
        assert!(lets(State::Done, "2", "a"));
        assert!(lets(State::Done, "1", "b"));
        assert!(!lets(later, "1", "a"));
        assert!(lets(State::Failed(now), "1", "a"));
    }
}
