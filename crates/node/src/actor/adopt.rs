//! What a pod left on disk: found again, and removed.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Actor, Context, HOST_IP, Seen, start, writer};
use crate::dirs::{Dirs, is_component, numbered};
use crate::leftovers;
use crate::logs;
use crate::pod::plan::{self, PodPlan};
use crate::pod::resume::{FoundRun, FoundWhat};
use crate::pod::status::Identity;
use crate::pod::{End, Notice, PodState, Response};
use crate::shim::client;
use crate::shim::record::{self, Found};
use crate::shim::wire::Record;

/// What the node knows of a pod without the API: enough to end it properly when its object is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) grace_seconds: u64,
    pub(crate) containers: Vec<String>,
}

/// The record of a pod; `None` when there is none that can be read.
pub(crate) fn read_record(dirs: &Dirs, uid: &str) -> Option<PodRecord> {
    serde_json::from_slice(&fs::read(dirs.pod_record(uid)).ok()?).ok()
}

fn write_record(dirs: &Dirs, uid: &str, record: &PodRecord) -> io::Result<()> {
    let path = dirs.pod_record(uid);
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    fs::rename(temporary, path)
}

impl Actor {
    /// Takes over a pod, new or found.
    pub(super) async fn adopt(
        ctx: Arc<Context>,
        first: Seen,
        seen: watch::Receiver<Seen>,
    ) -> io::Result<(Self, Response)> {
        let pod = Arc::clone(&first.pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let plan = PodPlan::of(&pod, ctx.config.gateway, ctx.config.backoff);
        let names: Vec<String> = plan.containers.iter().map(|c| c.name.clone()).collect();
        if let Some(bad) = names.iter().chain([&uid]).find(|name| !is_component(name)) {
            return Err(io::Error::other(format!(
                "{bad:?} is no name of a pod or container"
            )));
        }
        let address = address(&ctx, &pod, &uid)?;
        let record = PodRecord {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            address,
            grace_seconds: plan.grace.as_secs(),
            containers: names.clone(),
        };
        let (dirs, owner) = (ctx.dirs.clone(), uid.clone());
        let found = tokio::task::spawn_blocking(move || {
            start::make_dir(&dirs.pod(&owner))?;
            // Taking over a pod writes nothing: it works on a full disk too.
            if read_record(&dirs, &owner).as_ref() != Some(&record) {
                write_record(&dirs, &owner, &record)?;
            }
            names
                .iter()
                .map(|name| find_run(&dirs, &owner, name))
                .collect::<io::Result<Vec<_>>>()
        });
        let found = found.await.map_err(io::Error::other)??;
        if found.iter().all(Option::is_none) {
            warn_of_unsupported(&ctx, &pod);
        }
        Ok(Self::with_runs(ctx, &first, address, plan, found, seen))
    }

    fn with_runs(
        ctx: Arc<Context>,
        first: &Seen,
        address: Ipv4Addr,
        plan: PodPlan,
        found: Vec<Option<FoundRun>>,
        seen: watch::Receiver<Seen>,
    ) -> (Self, Response) {
        let alive: Vec<(usize, u32)> = found
            .iter()
            .enumerate()
            .filter_map(|(n, found)| Some((n, found.as_ref()?)))
            .filter(|(_, found)| matches!(found.what, FoundWhat::Alive { .. }))
            .map(|(n, found)| (n, found.run))
            .collect();
        let pod = &first.pod;
        let status = pod.status.clone().unwrap_or_default();
        let input = super::input_of(first, &plan.readiness_gates);
        let now = super::Now {
            mono: Duration::ZERO,
            wall: Timestamp::now(),
        };
        let links = vec![None; plan.containers.len()];
        let (state, response) = PodState::resume(plan, &status, found, input, now);
        let (drafts, receiver) = watch::channel(None);
        let writer = writer::Writer::new(ctx.client.clone(), pod);
        let identity = Identity {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            pod_ip: address.to_string(),
            host_ip: HOST_IP.into(),
            start_time: status.start_time.map_or(now.wall, |t| t.0),
            generation: pod.metadata.generation,
        };
        let mut actor = Self {
            ctx,
            pod: Arc::clone(pod),
            state,
            identity,
            address,
            links,
            tasks: JoinSet::new(),
            origin: Instant::now(),
            drafts,
            _writer: AbortOnDropHandle::new(tokio::spawn(writer.run(receiver, seen))),
        };
        for (container, run) in alive {
            actor.open_link(container, run);
        }
        (actor, response)
    }
}

fn warn_of_unsupported(ctx: &Context, pod: &Pod) {
    for message in plan::unsupported(pod) {
        let notice = Notice {
            warning: true,
            reason: "NotSupported",
            message,
        };
        ctx.recorder.tell(pod, notice);
    }
}

fn address(ctx: &Context, pod: &Pod, uid: &str) -> io::Result<Ipv4Addr> {
    let of_record = read_record(&ctx.dirs, uid).map(|record| record.address);
    let of_status = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref()?.parse().ok());
    ctx.addresses(|addresses| addresses.assign(uid, of_record.or(of_status)))
        .ok_or_else(|| io::Error::other("no address of 127.64.0.0/10 is free"))
}

/// The latest run of a container and what became of it.
fn find_run(dirs: &Dirs, uid: &str, container: &str) -> io::Result<Option<FoundRun>> {
    let Some(run) = numbered(&dirs.container(uid, container), "").pop() else {
        return Ok(None);
    };
    let dir = dirs.run(uid, container, run);
    let what = match record::inspect(&dir)? {
        Found::Alive => {
            let record = record::read(&dir).ok().flatten();
            let started_at = record.map_or_else(Timestamp::now, |r| r.started_at);
            let age = Timestamp::now().duration_since(started_at);
            FoundWhat::Alive {
                started_at,
                age: Duration::try_from(age).unwrap_or_default(),
            }
        }
        Found::Ended(record) => FoundWhat::Ended(end_of_record(dirs, uid, container, run, &record)),
        Found::Lost(record) => match leftovers::clean_up(&dir, record, uid, container) {
            Some(record) => FoundWhat::Ended(end_of_record(dirs, uid, container, run, &record)),
            None => FoundWhat::Unused,
        },
    };
    Ok(Some(FoundRun { run, what }))
}

/// How a run ended, with the last lines of its output when it failed.
pub(super) fn end_of_record(
    dirs: &Dirs,
    uid: &str,
    container: &str,
    run: u32,
    record: &Record,
) -> End {
    let Some(exit) = record.exit else {
        return End::unknown(Some(record.started_at));
    };
    let Some(exit_code) = exit.code.or(exit.signal.map(|signal| 128 + signal)) else {
        return End {
            finished_at: exit.finished_at,
            ..End::unknown(Some(record.started_at))
        };
    };
    let failed = exit_code != 0;
    End {
        exit_code,
        signal: exit.signal,
        reason: if failed { "Error" } else { "Completed" }.to_owned(),
        message: failed
            .then(|| logs::last_lines(dirs, uid, container, run))
            .flatten(),
        started_at: Some(record.started_at),
        finished_at: exit.finished_at,
        uptime: Duration::from_millis(exit.uptime_ms),
    }
}

/// Ends every run of a pod that has no object any more, and removes what is left of it on disk. `grace`: instead of its own.
pub(crate) async fn retire(dirs: &Dirs, uid: &str, grace: Option<Duration>) -> usize {
    let record = read_record(dirs, uid);
    let own = record.map_or(plan::DEFAULT_GRACE, |r| {
        Duration::from_secs(r.grace_seconds)
    });
    let grace = grace.unwrap_or(own);
    let mut ends = JoinSet::new();
    for (container, run, dir) in latest_runs(&dirs.pod(uid)) {
        let (dirs, uid) = (dirs.clone(), uid.to_owned());
        ends.spawn(async move {
            match client::inspect(&dir).await {
                Ok(Found::Alive) => {
                    let (link, news) = client::link(dir);
                    let stop = link.stop(rustix::process::Signal::TERM.as_raw(), grace);
                    let (news, ()) = tokio::join!(news, stop);
                    super::end_of(&dirs, &uid, &container, run, news).await;
                    1
                }
                Ok(Found::Lost(record)) => {
                    let news = client::News::Lost(record);
                    super::end_of(&dirs, &uid, &container, run, news).await;
                    0
                }
                Ok(Found::Ended(_)) | Err(_) => 0,
            }
        });
    }
    ends.join_all().await.into_iter().sum()
}

fn latest_runs(pod: &Path) -> Vec<(String, u32, PathBuf)> {
    let entries = fs::read_dir(pod).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let run = numbered(&entry.path(), "").pop()?;
            let name = entry.file_name().into_string().ok()?;
            Some((name, run, entry.path().join(run.to_string())))
        })
        .collect()
}

/// Removes the runs and logs of a pod.
pub(crate) async fn remove_dirs(dirs: &Dirs, uid: &str) {
    let all = [dirs.pod(uid), dirs.pod_logs(uid)];
    let removed = tokio::task::spawn_blocking(move || {
        for dir in all {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(dir = %dir.display(), %error, "cannot be removed");
                }
                _ => {}
            }
        }
    });
    let _ = removed.await;
}
