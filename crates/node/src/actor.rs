//! The actor of one pod: turns what happens into inputs of the state machine, and its actions into work.
//!
//! It decides nothing. Everything that takes time is a task of its own whose result is an input; they all end with the actor.
//! When the actor ends early (a panic, the end of the control plane) the shims live on, and the next actor of the pod finds
//! everything it needs in the directories and the object.

mod adopt;
mod probing;
mod start;
mod writer;

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serin_api::conditions;
use serin_api::keys::condition;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::address::Addresses;
use crate::config::NodeConfig;
use crate::dirs::Dirs;
use crate::pod::probe::{Outcome, ProbeKind};
use crate::pod::status::{self, Identity};
use crate::pod::{Action, End, HookKind, Input, Now, PodState, Response};
use crate::recorder::Recorder;
use crate::shim::client::{self, Link, News};
use crate::shim::wire::Record;

pub(crate) use adopt::{read_record, remove_dirs, retire};
pub(crate) use writer::code;

/// The address of the machine as pods see it.
pub(crate) const HOST_IP: &str = "127.0.0.1";
/// How long the last status of a pod may take before it is deleted.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// How soon a pod whose directories cannot be removed is looked at again.
const FAR_FUTURE: Duration = Duration::from_secs(86_400);

/// What all actors share.
pub(crate) struct Context {
    pub(crate) config: NodeConfig,
    pub(crate) dirs: Dirs,
    pub(crate) client: kube::Client,
    pub(crate) recorder: Recorder,
    pub(crate) addresses: Mutex<Addresses>,
    /// What containers see of the node's own environment.
    pub(crate) passed_on: Vec<(String, String)>,
}

impl Context {
    /// Works on the addresses; a panic elsewhere left them whole.
    pub(crate) fn addresses<T>(&self, work: impl FnOnce(&mut Addresses) -> T) -> T {
        work(
            &mut self
                .addresses
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// The pod as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) pod: Arc<Pod>,
    /// Whether the object is gone from the API.
    pub(crate) gone: bool,
}

/// Lives a pod's life, from wherever it stands to its deletion. Ends early, with the pod running on, when `seen` is closed.
///
/// # Errors
/// When the directories of the pod cannot be used, or a task of the actor fell over; to be tried again.
pub(crate) async fn run(ctx: Arc<Context>, mut seen: watch::Receiver<Seen>) -> io::Result<()> {
    let first = seen.borrow_and_update().clone();
    let (mut actor, response) = Actor::adopt(ctx, first, seen.clone()).await?;
    let mut wake_at = actor.carry_out(response);
    while !actor.state.finished {
        let wake = wake_at.map_or_else(|| Instant::now() + FAR_FUTURE, |at| actor.origin + at);
        let input = tokio::select! {
            changed = seen.changed() => match changed {
                Ok(()) => {
                    let now = seen.borrow_and_update().clone();
                    actor.observe(&now)
                }
                Err(_) => return Ok(()),
            },
            Some(done) = actor.tasks.join_next() => actor.arrived(done)?,
            () = sleep_until(wake) => Input::Tick,
        };
        wake_at = actor.take(input);
    }
    let gone = seen.borrow().gone;
    actor.finish(gone).await;
    Ok(())
}

struct Actor {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    state: PodState,
    identity: Identity,
    address: Ipv4Addr,
    /// By position in the plan: the run and the link to its shim.
    links: Vec<Option<(u32, Link)>>,
    tasks: JoinSet<Done>,
    origin: Instant,
    drafts: watch::Sender<Option<PodStatus>>,
    _writer: AbortOnDropHandle<()>,
}

/// What a task of the actor came to.
enum Done {
    Input(Input),
    /// A shim runs; its link is to be opened.
    Started {
        container: usize,
        run: u32,
        record: Record,
    },
}

impl Actor {
    fn now(&self) -> Now {
        Now {
            mono: self.origin.elapsed(),
            wall: Timestamp::now(),
        }
    }

    /// One step: gives when to wake.
    fn take(&mut self, input: Input) -> Option<Duration> {
        let response = self.state.step(input, self.now());
        self.carry_out(response)
    }

    fn carry_out(&mut self, response: Response) -> Option<Duration> {
        for action in response.actions {
            self.act(action);
        }
        let draft = status::render(&self.state, &self.identity);
        self.drafts.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&draft);
            if changed {
                *last = Some(draft);
            }
            changed
        });
        response.wake_at
    }

    fn observe(&mut self, seen: &Seen) -> Input {
        self.pod = Arc::clone(&seen.pod);
        self.identity.generation = seen.pod.metadata.generation;
        input_of(seen, &self.state.plan.readiness_gates)
    }

    fn arrived(&mut self, done: Result<Done, JoinError>) -> io::Result<Input> {
        match done.map_err(io::Error::other)? {
            Done::Input(input) => Ok(input),
            Done::Started {
                container,
                run,
                record,
            } => {
                self.open_link(container, run);
                Ok(Input::Started {
                    container,
                    run,
                    started_at: record.started_at,
                })
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { container, run } => self.start(container, run),
            Action::Probe {
                container,
                run,
                kind,
            } => self.probe(container, run, kind),
            Action::Hook {
                container,
                run,
                hook,
                timeout,
            } => self.hook(container, run, hook, timeout),
            Action::Stop {
                container,
                run,
                signal,
                grace,
            } => {
                if let Some(link) = self.link(container, run) {
                    self.tasks.spawn(async move {
                        link.stop(signal, grace).await;
                        Done::Input(Input::Tick)
                    });
                }
            }
            Action::Tell(notice) => self.ctx.recorder.tell(&self.pod, notice),
            // The loop sees `finished`.
            Action::Finish => {}
        }
    }

    fn start(&mut self, container: usize, run: u32) {
        let Some(plan) = self.state.plan.containers.get(container) else {
            return;
        };
        let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
        let order = start::Order {
            container: plan.name.clone(),
            run,
            address: self.address,
        };
        self.tasks.spawn(async move {
            match start::start(&ctx, &pod, &order).await {
                Ok(record) => Done::Started {
                    container,
                    run,
                    record,
                },
                Err(why) => Done::Input(Input::NotStarted {
                    container,
                    run,
                    why,
                }),
            }
        });
    }

    fn open_link(&mut self, container: usize, run: u32) {
        let Some(plan) = self.state.plan.containers.get(container) else {
            return;
        };
        let name = plan.name.clone();
        let (link, news) = client::link(self.ctx.dirs.run(&self.identity.uid, &name, run));
        if let Some(slot) = self.links.get_mut(container) {
            *slot = Some((run, link));
        }
        let (ctx, uid) = (Arc::clone(&self.ctx), self.identity.uid.clone());
        self.tasks.spawn(async move {
            let end = end_of(&ctx.dirs, &uid, &name, run, news.await).await;
            Done::Input(Input::Ended {
                container,
                run,
                end,
            })
        });
    }

    fn link(&self, container: usize, run: u32) -> Option<Link> {
        let (linked, link) = self.links.get(container)?.as_ref()?;
        (*linked == run).then(|| link.clone())
    }

    fn probe(&mut self, container: usize, run: u32, kind: ProbeKind) {
        let plan = self.state.plan.containers.get(container);
        let Some(probe) = plan.and_then(|p| p.probes.iter().find(|p| p.kind == kind)) else {
            return;
        };
        let (check, limit) = (probe.check.clone(), probe.timeout);
        let (address, link) = (self.address, self.link(container, run));
        self.tasks.spawn(async move {
            let outcome = probing::ask(&check, address.into(), limit, link.as_ref()).await;
            Done::Input(Input::Probed {
                container,
                run,
                kind,
                outcome,
            })
        });
    }

    fn hook(&mut self, container: usize, run: u32, hook: HookKind, limit: Duration) {
        let Some(plan) = self.state.plan.containers.get(container) else {
            return;
        };
        let check = match hook {
            HookKind::PostStart => plan.post_start.clone(),
            HookKind::PreStop => plan.pre_stop.clone(),
        };
        let Some(check) = check else {
            return;
        };
        let (address, link) = (self.address, self.link(container, run));
        self.tasks.spawn(async move {
            let error = match probing::ask(&check, address.into(), limit, link.as_ref()).await {
                Outcome::Success => None,
                Outcome::Refused(why) | Outcome::Failure(why) => Some(why),
            };
            Done::Input(Input::Hooked {
                container,
                run,
                hook,
                error,
            })
        });
    }

    /// Nothing runs any more: the last status, then the object goes, then what is on disk.
    async fn finish(self, gone: bool) {
        let Self {
            ctx,
            pod,
            state,
            identity,
            _writer: writer,
            ..
        } = self;
        drop(writer);
        if !gone {
            let mut last = writer::Writer::new(ctx.client.clone(), &pod);
            let draft = status::render(&state, &identity);
            // For those who watch; the deletion does not depend on it.
            let _ = timeout(LAST_WRITE, last.write(&draft)).await;
            last.delete().await;
        }
        adopt::remove_dirs(&ctx.dirs, &identity.uid).await;
        ctx.addresses(|addresses| addresses.release(&identity.uid));
    }
}

fn input_of(seen: &Seen, gates: &[String]) -> Input {
    if seen.gone {
        Input::Removed
    } else {
        observed(&seen.pod, gates, Timestamp::now())
    }
}

/// What an object tells the state machine.
fn observed(pod: &Pod, gates: &[String], now: Timestamp) -> Input {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    Input::Observed {
        deleted: pod.metadata.deletion_timestamp.as_ref().map(|at| {
            // The time was cut to whole seconds; the grace period was meant whole.
            let remaining = at.0.duration_since(now) + SignedDuration::from_secs(1);
            let grace = pod
                .metadata
                .deletion_grace_period_seconds
                .unwrap_or(i64::MAX);
            Duration::try_from(remaining.min(SignedDuration::from_secs(grace))).unwrap_or_default()
        }),
        drained: conditions::is_true(conditions, condition::DRAINED),
        closed_gates: gates
            .iter()
            .filter(|gate| !conditions::is_true(conditions, gate))
            .cloned()
            .collect(),
    }
}

/// The end of a run as it is shown: with the last lines of its output when it failed. What is left of a run whose shim is gone
/// is ended first.
async fn end_of(dirs: &Dirs, uid: &str, container: &str, run: u32, news: News) -> End {
    let (dirs, uid, container) = (dirs.clone(), uid.to_owned(), container.to_owned());
    let found = tokio::task::spawn_blocking(move || match news {
        News::Ended(record) => adopt::end_of_record(&dirs, &uid, &container, run, &record),
        News::Lost(record) => {
            let dir = dirs.run(&uid, &container, run);
            let record = crate::leftovers::clean_up(&dir, record, &uid, &container);
            record.map_or_else(
                || End::unknown(None),
                |record| adopt::end_of_record(&dirs, &uid, &container, run, &record),
            )
        }
    });
    found.await.unwrap_or_else(|_| End::unknown(None))
}

impl End {
    /// Nobody saw how it ended.
    fn unknown(started_at: Option<Timestamp>) -> Self {
        Self {
            exit_code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".into(),
            message: Some("its shim is gone and nobody saw how it ended".into()),
            started_at,
            finished_at: Timestamp::now(),
            uptime: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_tells_when_it_must_be_gone_and_whether_it_is_drained() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:30Z","deletionGracePeriodSeconds":20},
                "status":{"conditions":[{"type":"serin.dev/Drained","status":"True"},{"type":"g1","status":"True"}]}}"#,
        )
        .unwrap();
        let gates = ["g1".to_owned(), "g2".to_owned()];
        let at = |now: &str| format!("{:?}", observed(&pod, &gates, now.parse().unwrap()));
        assert_eq!(
            at("2026-01-01T00:00:09.5Z"),
            r#"Observed { deleted: Some(20s), drained: true, closed_gates: ["g2"] }"#
        );
        assert!(at("2026-01-01T00:00:25Z").contains("Some(6s)"));
        assert!(at("2026-01-01T00:01:00Z").contains("Some(0ns)"));
    }
}
