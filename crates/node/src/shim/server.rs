//! The loop of a shim: one `poll` over everything, then one small step for each thing that is ready.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, kill_process_group,
    wait, waitid,
};

use super::conn::Conn;
use super::lines::Lines;
use super::log_file::LogFile;
use super::wire::{
    ExecOutcome, Exit, MAX_EXEC_OUTPUT_BYTES, Record, Reply, Request, SOCKET, Spec, Streams,
};
use super::{command, record, tree};

const MAX_CONNECTIONS: usize = 16;
const MAX_EXECS: usize = 16;
/// Commands that people talk with; they leave room for those of probes.
const MAX_CONVERSATIONS: usize = 8;
/// How often SIGKILL is repeated while descendants are left: each round reaches those whose parent fell in the last one.
const SWEEP: Duration = Duration::from_millis(50);
/// How long descendants that even SIGKILL does not end (stuck in the kernel) are waited for.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
const RECORD_RETRY: Duration = Duration::from_secs(1);
/// The most reads of one output in a row, so that a flood does not keep the rest waiting.
const READS_IN_A_ROW: usize = 16;

/// A running shim.
pub(super) struct Server {
    spec: Spec,
    listener: UnixListener,
    record: Record,
    app: App,
    started: Instant,
    /// When SIGKILL is due, once an end was asked for.
    kill_at: Option<Instant>,
    outputs: Vec<Output>,
    log: LogFile,
    connections: Vec<Conn>,
    next_connection: u64,
    execs: HashMap<Pid, Exec>,
    wake: Arc<OwnedFd>,
    reaped: SyncSender<()>,
    forgotten: bool,
}

/// The application, seen from its parent.
#[derive(Clone, Copy, Debug)]
enum App {
    Running(Pid),
    /// It has ended; what is left of its descendants is being ended.
    Sweeping {
        since: Instant,
        exit: Exit,
    },
    /// No descendant is left.
    Gone {
        exit: Exit,
        record_at: Instant,
    },
}

struct Output {
    pipe: File,
    lines: Lines,
}

struct Exec {
    connection: u64,
    id: u64,
    /// `None` once everybody who could write has closed it.
    pipe: Option<File>,
    output: Vec<u8>,
    /// When it is killed; `None`: when its caller hangs up.
    deadline: Option<Instant>,
    killed: bool,
}

/// What `poll` found ready.
#[derive(Clone, Copy)]
enum Source {
    Wake,
    Listener,
    Output(usize),
    Exec(Pid),
    Connection(usize),
}

impl Server {
    /// Starts the application and writes its record.
    pub(super) fn start(spec: &Spec, listener: UnixListener) -> Result<Self, String> {
        listener
            .set_nonblocking(true)
            .map_err(|e| format!("the socket: {e}"))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| format!("eventfd: {e}"))?;
        let wake = Arc::new(wake);
        let started = Instant::now();
        let app = command::start(spec)?;
        let record = Record {
            spec_hash: spec.hash(),
            boot_id: tree::boot_id(),
            app: tree::identity(app.pid),
            started_at: Timestamp::now(),
            exit: None,
        };
        // Without the file a later starter still finds the socket; it matters only if this shim is killed.
        let _ = record::write(Path::new("."), &record);
        let reaped = watch_children(&wake).map_err(|e| {
            let _ = kill_process_group(app.pid, Signal::KILL);
            format!("cannot start a thread: {e}")
        })?;
        let output = |pipe: OwnedFd, name| Output {
            pipe: pipe.into(),
            lines: Lines::new(name),
        };
        Ok(Self {
            spec: spec.clone(),
            listener,
            record,
            app: App::Running(app.pid),
            started,
            kill_at: None,
            outputs: vec![output(app.stdout, "stdout"), output(app.stderr, "stderr")],
            log: LogFile::new(spec.log.clone(), started),
            connections: Vec::new(),
            next_connection: 0,
            execs: HashMap::new(),
            wake,
            reaped,
            forgotten: false,
        })
    }

    /// What is known of the run.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Goes on until the application is gone and its end is written down or known to the node.
    pub(super) fn run(mut self) {
        loop {
            for source in self.wait_for_sources() {
                self.handle(source);
            }
            self.connections.retain(|c| !c.is_broken());
            self.end_conversations();
            if self.advance(Instant::now()) {
                break;
            }
        }
        for connection in &mut self.connections {
            connection.flush();
        }
        let _ = std::fs::remove_file(SOCKET);
    }

    fn wait_for_sources(&self) -> Vec<Source> {
        let mut sources = vec![Source::Wake, Source::Listener];
        let mut fds = vec![
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        for (n, output) in self.outputs.iter().enumerate() {
            sources.push(Source::Output(n));
            fds.push(PollFd::new(&output.pipe, PollFlags::IN));
        }
        for (pid, exec) in &self.execs {
            if let Some(pipe) = &exec.pipe {
                sources.push(Source::Exec(*pid));
                fds.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        for (n, connection) in self.connections.iter().enumerate() {
            let mut wanted = PollFlags::IN;
            if connection.wants_to_write() {
                wanted |= PollFlags::OUT;
            }
            sources.push(Source::Connection(n));
            fds.push(PollFd::from_borrowed_fd(connection.as_fd(), wanted));
        }
        let timeout = self.timeout(Instant::now()).map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            // A little late rather than a little early, which would turn the loop in circles.
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = sources.iter().zip(&fds);
        ready
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(source, _)| *source)
            .collect()
    }

    /// How long nothing has to be done unless something happens.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let app = match self.app {
            App::Running(_) => self.kill_at,
            App::Sweeping { .. } => Some(now + SWEEP),
            App::Gone { record_at, .. } => Some(record_at),
        };
        let execs = self.execs.values().filter_map(|exec| {
            if exec.killed {
                Some(now + SWEEP)
            } else {
                exec.deadline
            }
        });
        execs
            .chain(app)
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Wake => self.reap(),
            Source::Listener => self.accept(),
            Source::Output(n) => self.read_output(n),
            Source::Exec(pid) => {
                if let Some(exec) = self.execs.get_mut(&pid) {
                    exec.read();
                }
            }
            Source::Connection(n) => {
                let Some(connection) = self.connections.get_mut(n) else {
                    return;
                };
                connection.flush();
                let id = connection.id;
                for request in connection.receive() {
                    self.answer(id, request);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            self.next_connection += 1;
            if let Ok(mut connection) = Conn::new(self.next_connection, stream) {
                connection.send(&Reply::Status(self.record.clone()));
                self.connections.push(connection);
            }
        }
    }

    fn answer(&mut self, connection: u64, request: Request) {
        match request {
            Request::Stop { signal, grace_ms } => self.stop(signal, grace_ms),
            Request::Forget => self.forgotten = true,
            Request::Converse { id, argv, streams } => {
                if let Err(message) = self.begin_conversation(connection, id, &argv, &streams) {
                    let outcome = ExecOutcome::NotStarted { message };
                    self.send(connection, &Reply::Executed { id, outcome });
                }
            }
            Request::Exec {
                id,
                argv,
                timeout_ms,
            } => {
                if let Err(message) = self.execute(connection, id, &argv, timeout_ms) {
                    let outcome = ExecOutcome::NotStarted { message };
                    self.send(connection, &Reply::Executed { id, outcome });
                }
            }
        }
    }

    fn send(&mut self, connection: u64, reply: &Reply) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == connection) {
            connection.send(reply);
        }
    }

    fn execute(
        &mut self,
        connection: u64,
        id: u64,
        argv: &[String],
        timeout_ms: u64,
    ) -> Result<(), String> {
        if !matches!(self.app, App::Running(_)) {
            return Err("the container is not running".into());
        }
        let probes = self.execs.values().filter(|e| e.deadline.is_some());
        if probes.count() >= MAX_EXECS {
            return Err(format!("{MAX_EXECS} commands are running already"));
        }
        let (pid, pipe) = command::start_beside(&self.spec, argv)?;
        let exec = Exec {
            connection,
            id,
            pipe: Some(pipe.into()),
            output: Vec::new(),
            deadline: Some(Instant::now() + Duration::from_millis(timeout_ms)),
            killed: false,
        };
        self.execs.insert(pid, exec);
        Ok(())
    }

    fn begin_conversation(
        &mut self,
        connection: u64,
        id: u64,
        argv: &[String],
        streams: &Streams,
    ) -> Result<(), String> {
        if !matches!(self.app, App::Running(_)) {
            return Err("the container is not running".into());
        }
        let open = self.execs.values().filter(|e| e.deadline.is_none());
        if open.count() >= MAX_CONVERSATIONS {
            return Err(format!("{MAX_CONVERSATIONS} commands are open already"));
        }
        let pid = command::start_conversation(&self.spec, argv, streams)?;
        let exec = Exec {
            connection,
            id,
            pipe: None,
            output: Vec::new(),
            deadline: None,
            killed: false,
        };
        self.execs.insert(pid, exec);
        self.send(connection, &Reply::Begun { id });
        Ok(())
    }

    /// Ends the commands whose callers have hung up.
    fn end_conversations(&mut self) {
        let now = Instant::now();
        for exec in self.execs.values_mut().filter(|e| e.deadline.is_none()) {
            if !self.connections.iter().any(|c| c.id == exec.connection) {
                exec.deadline = Some(now);
            }
        }
    }

    /// Asks the application and its strays to end, and sets the time of SIGKILL.
    fn stop(&mut self, signal: i32, grace_ms: u64) {
        let App::Running(app) = self.app else {
            return;
        };
        let at = Instant::now() + Duration::from_millis(grace_ms);
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        let signal = Signal::from_named_raw(signal).unwrap_or(Signal::TERM);
        // The group of an application that was not yet waited for cannot be anyone else's.
        let _ = kill_process_group(app, signal);
        let group = app.as_raw_nonzero().get();
        for child in tree::children() {
            if child.group != group && !self.execs.contains_key(&child.pid) {
                let _ = kill_process(child.pid, signal);
            }
        }
    }

    /// Takes the exit statuses of all children that have ended.
    fn reap(&mut self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        if let App::Running(app) = self.app
            && has_ended(app)
        {
            // As long as it is not waited for, its number names its group and no other.
            let _ = kill_process_group(app, Signal::KILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => {
                    if let App::Sweeping { exit, .. } = self.app {
                        let record_at = Instant::now();
                        self.app = App::Gone { exit, record_at };
                    }
                    break;
                }
            }
        }
        let _ = self.reaped.try_send(());
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        if let App::Running(app) = self.app
            && app == pid
        {
            let since = Instant::now();
            let uptime = since.saturating_duration_since(self.started);
            let exit = Exit {
                code: status.exit_status(),
                signal: status.terminating_signal(),
                finished_at: Timestamp::now(),
                uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            };
            self.app = App::Sweeping { since, exit };
            kill_children();
        } else if let Some(mut exec) = self.execs.remove(&pid) {
            exec.read();
            let reply = Reply::Executed {
                id: exec.id,
                outcome: exec.outcome(status),
            };
            self.send(exec.connection, &reply);
        }
    }

    fn read_output(&mut self, n: usize) {
        let Some(output) = self.outputs.get_mut(n) else {
            return;
        };
        let now = Instant::now();
        let time = format!("{:.9}", Timestamp::now());
        let mut chunk = [0; 32 << 10];
        let mut batch = Vec::new();
        let mut open = true;
        for _ in 0..READS_IN_A_ROW {
            match output.pipe.read(&mut chunk) {
                Ok(0) => {
                    open = false;
                    let records = output.lines.finish(&time, &mut batch);
                    self.log.write(&time, &batch, records, now);
                    break;
                }
                Ok(len) => {
                    let bytes = chunk.get(..len).unwrap_or_default();
                    let records = output.lines.push(&time, bytes, &mut batch);
                    self.log.write(&time, &batch, records, now);
                    batch.clear();
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if !open {
            self.outputs.remove(n);
        }
    }

    /// What time alone brings about; `true` when the shim has nothing left to do.
    fn advance(&mut self, now: Instant) -> bool {
        for (pid, exec) in &mut self.execs {
            if exec.deadline.is_some_and(|deadline| now >= deadline) {
                exec.killed = true;
                // It is in `execs`, so it was not waited for: its number and its group are still its own.
                let _ = kill_process_group(*pid, Signal::KILL);
            }
        }
        match self.app {
            App::Running(app) => {
                if self.kill_at.is_some_and(|at| now >= at) {
                    let _ = kill_process_group(app, Signal::KILL);
                    kill_children();
                    self.kill_at = Some(now + SWEEP);
                }
                false
            }
            App::Sweeping { since, exit } => {
                kill_children();
                if now.saturating_duration_since(since) >= SWEEP_LIMIT {
                    self.app = App::Gone {
                        exit,
                        record_at: now,
                    };
                }
                false
            }
            App::Gone { exit, record_at } => now >= record_at && self.write_end(exit, now),
        }
    }

    /// Writes the end down and tells everyone; `true` when the shim may go.
    fn write_end(&mut self, exit: Exit, now: Instant) -> bool {
        let time = format!("{:.9}", Timestamp::now());
        let mut rounds = 0;
        // Nobody is left who could write: what is in the pipes is all there will be.
        while !self.outputs.is_empty() && rounds < 8 {
            for n in (0..self.outputs.len()).rev() {
                self.read_output(n);
            }
            rounds += 1;
        }
        self.log.finish(&time);
        self.record.exit = Some(exit);
        let written = record::write(Path::new("."), &self.record).is_ok();
        let reply = Reply::Status(self.record.clone());
        for connection in &mut self.connections {
            connection.send(&reply);
        }
        let record_at = now + RECORD_RETRY;
        self.app = App::Gone { exit, record_at };
        written || self.forgotten
    }
}

impl Exec {
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else {
            return;
        };
        let mut chunk = [0; 4096];
        for _ in 0..READS_IN_A_ROW {
            match pipe.read(&mut chunk) {
                Ok(0) => {
                    self.pipe = None;
                    return;
                }
                Ok(len) => {
                    let room = MAX_EXEC_OUTPUT_BYTES - self.output.len();
                    self.output
                        .extend_from_slice(chunk.get(..len.min(room)).unwrap_or_default());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn outcome(&self, status: WaitStatus) -> ExecOutcome {
        if self.killed {
            return ExecOutcome::Killed;
        }
        let signal = status.terminating_signal().map(|signal| 128 + signal);
        ExecOutcome::Exited {
            code: status.exit_status().or(signal).unwrap_or(-1),
            output: String::from_utf8_lossy(&self.output).into_owned(),
        }
    }
}

/// Whether a child has ended, without taking its status.
fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

fn kill_children() {
    for child in tree::children() {
        let _ = kill_process(child.pid, Signal::KILL);
    }
}

/// Starts the thread that sleeps until a child ends and wakes the loop. It leaves the status in place and waits until the
/// loop has taken it, so that only the loop decides when a process number becomes free.
fn watch_children(wake: &Arc<OwnedFd>) -> std::io::Result<SyncSender<()>> {
    let (reaped, acknowledged) = sync_channel(1);
    let wake = Arc::clone(wake);
    std::thread::Builder::new()
        .name("reaper".into())
        .stack_size(64 << 10)
        .spawn(move || wait_for_children(&wake, &acknowledged))?;
    Ok(reaped)
}

fn wait_for_children(wake: &OwnedFd, acknowledged: &Receiver<()>) {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => continue,
            result => {
                let _ = rustix::io::write(wake.as_fd(), &1_u64.to_ne_bytes());
                // An error means that no child is left: the loop finds that out by itself and nothing more will come.
                if result.is_err() || acknowledged.recv().is_err() {
                    return;
                }
            }
        }
    }
}
