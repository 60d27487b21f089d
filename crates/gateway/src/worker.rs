//! Worker threads: each with its own single-threaded runtime, its own clone of the listening sockets and its own pool.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::ports::{ACCEPT_PAUSE, Door, Listener, accepted};
use crate::proxy::{Living, Phase, Shared, Worker, serve};

/// The frames of a request are on the heap, so a small stack is enough.
const STACK_BYTES: usize = 512 * 1024;
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// Starts one worker. The thread ends after the phase is [`Phase::Closing`] and every connection has ended, or when the phase is
/// [`Phase::Gone`]. If it ends before, `failed` is told.
pub(crate) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    listeners: &[Listener],
    failed: mpsc::Sender<()>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let clones = listeners.iter().map(Listener::try_clone);
    let listeners = clones.collect::<io::Result<Vec<_>>>()?;
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _told = Told(failed);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(shared, listeners))
        })
}

/// Tells the end of the thread, also when it panics. Nobody listens any more when the end is wanted.
struct Told(mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn run(shared: Arc<Shared>, listeners: Vec<Listener>) -> io::Result<()> {
    let worker = Arc::new(Worker::new(Arc::clone(&shared)));
    let mut accepting = Vec::new();
    for listener in listeners {
        listener.socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpListener::from_std(listener.socket)?;
        let door = Door {
            scheme: listener.scheme,
            port: socket.local_addr()?.port(),
        };
        let accept = accept(Arc::clone(&worker), socket, door);
        accepting.push(tokio::spawn(accept));
    }
    let keeping = tokio::spawn(keep_pool(Arc::clone(&worker)));
    let mut phase = shared.phase.subscribe();
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
    for accept in accepting {
        accept.abort();
    }
    let _ = phase.wait_for(|phase| *phase >= Phase::Closing).await;
    tokio::select! {
        () = worker.idle() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Gone) => {}
    }
    keeping.abort();
    Ok(())
}

/// Takes connections until it is dropped. Where several workers take them, each may take one beyond the most.
pub(crate) async fn accept(worker: Arc<Worker>, listener: tokio::net::TcpListener, door: Door) {
    let shared = Arc::clone(&worker.shared);
    loop {
        if shared.gauges.connections.load(Ordering::Relaxed) >= shared.settings.max_connections {
            // Who comes now waits in the socket, as long as the system lets him.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        if let Some((stream, peer)) = accepted(listener.accept().await).await {
            // It counts from now on, and not only when its task runs: many may come at once.
            let living = Living::new(Arc::clone(&worker));
            tokio::spawn(serve(living, stream, peer, door));
        }
    }
}

/// Closes idle connections to endpoints that have gone at once, and those that are idle for long now and then.
pub(crate) async fn keep_pool(worker: Arc<Worker>) {
    let mut swapped = worker.shared.swapped.subscribe();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            changed = swapped.changed() => {
                if changed.is_err() {
                    return;
                }
                let present = worker.shared.table.load().endpoint_ids();
                worker.pool.keep_only(&present);
            }
            _ = sweep.tick() => worker.pool.sweep(),
        }
    }
}
