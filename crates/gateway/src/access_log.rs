//! The access log: one line of JSON for each request that has ended, written by a thread of its own.
//!
//! Workers never wait for it. The queue is bounded; what does not fit is dropped and counted. Requests that failed are always
//! written, the others in the share that the settings ask for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::AccessLogConfig;
use crate::live::wins;
use crate::observers::{Ended, Entry, cut};
use crate::series::Outcome;
use crate::trace::TraceId;

/// Lines that may wait to be written.
const QUEUE: usize = 8 * 1024;
/// Bytes that are put together before they are written, if there is more to write.
const BATCH: usize = 64 * 1024;
/// How often it is looked whether somebody has moved the file away.
const LOOK: Duration = Duration::from_secs(1);

/// Where workers leave what they have to tell.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Arc<Ended>>,
    /// Of how many of a million requests that went well.
    share: u32,
    dropped: AtomicU64,
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'static str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    request_bytes: u64,
    response_bytes: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    route: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    service: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    revision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<SocketAddr>,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
}

impl AccessLog {
    /// Begins the log of the settings in `home`.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub(crate) fn start(home: &Path, config: &AccessLogConfig) -> io::Result<Self> {
        let output = Output::open(home, config)?;
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&lines, output))?;
        Ok(Self {
            queue,
            share: crate::lower::per_million(config.sample * 100.0),
            dropped: AtomicU64::new(0),
        })
    }

    /// Whether there is to be a line of this request.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        entry.failed() || wins(self.share)
    }

    /// Hands a request to the writer.
    pub(crate) fn tell(&self, ended: Arc<Ended>) {
        if self.queue.try_send(ended).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests that were not written because the writer could not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn line(ended: &Ended) -> Line<'_> {
    let entry = &ended.entry;
    let key = entry.series.as_ref().map(|series| &series.key);
    let latency = match entry.outcome {
        Some(Outcome::Answered { latency, .. }) => Some(millis(latency)),
        _ => None,
    };
    Line {
        time: ended.time,
        method: entry.method.as_str(),
        scheme: entry.scheme,
        host: cut(&entry.host),
        path: cut(&entry.path),
        protocol: match entry.protocol {
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        client: &entry.client,
        status: entry.status,
        failure: entry.failure(),
        duration_ms: millis(ended.passed),
        latency_ms: latency,
        request_bytes: entry.received,
        response_bytes: entry.sent,
        route: key.map_or("", |key| &key.route),
        service: key.map_or("", |key| &key.service),
        revision: key.map_or("", |key| &key.revision),
        instance: entry.instance,
        retries: entry.retries,
        trace_id: entry.traced.trace,
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Writes lines until no worker is left. What waits is written at once when the queue is empty.
fn write_all(lines: &Receiver<Arc<Ended>>, mut output: Output) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut complaint = String::new();
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(ended) => add(&mut batch, &ended),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while batch.len() < BATCH
            && let Ok(ended) = lines.try_recv()
        {
            add(&mut batch, &ended);
        }
        match output.write(&batch) {
            Ok(()) => complaint.clear(),
            Err(error) => {
                let error = error.to_string();
                if error != complaint {
                    tracing::error!(%error, "the access log cannot be written; its lines are lost until it can");
                    complaint = error;
                }
            }
        }
        batch.clear();
    }
}

fn add(batch: &mut Vec<u8>, ended: &Ended) {
    // Writing to memory cannot fail, and every field is text or a number.
    if serde_json::to_writer(&mut *batch, &line(ended)).is_ok() {
        batch.push(b'\n');
    }
}

/// Where lines go.
enum Output {
    Stdout,
    File(Rotating),
}

/// A file that is put aside when it is full, and opened again when somebody else has put it aside.
struct Rotating {
    path: PathBuf,
    file: File,
    looked: Instant,
    most_bytes: u64,
    kept: u32,
}

impl Output {
    fn open(home: &Path, config: &AccessLogConfig) -> io::Result<Self> {
        if config.path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let path = home.join(&config.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self::File(Rotating {
            file: append_to(&path)?,
            path,
            looked: Instant::now(),
            most_bytes: config.max_bytes,
            kept: config.keep,
        }))
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout if batch.is_empty() => Ok(()),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::File(file) => file.write(batch),
        }
    }
}

impl Rotating {
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.reopen_if_moved()?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let size = self.file.metadata()?.len();
        if size > 0 && size + batch.len() as u64 > self.most_bytes {
            self.rotate()?;
        }
        self.file.write_all(batch)
    }

    fn reopen_if_moved(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let there = std::fs::metadata(&self.path);
        let is_own = there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if !is_own {
            self.file = append_to(&self.path)?;
        }
        Ok(())
    }

    /// `access.log` becomes `access.log.1`, that `access.log.2`, and the last one goes. A gateway that is being replaced writes
    /// into the same file: whoever comes second finds it small and leaves it.
    fn rotate(&mut self) -> io::Result<()> {
        self.reopen_if_moved()?;
        if self.file.metadata()?.len() < self.most_bytes / 2 {
            return Ok(());
        }
        let aside = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.kept == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            for number in (1..self.kept).rev() {
                let _ = std::fs::rename(aside(number), aside(number + 1));
            }
            std::fs::rename(&self.path, aside(1))?;
        }
        self.file = append_to(&self.path)?;
        Ok(())
    }
}

/// For the owner alone: addresses and paths of users are in it.
fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::os::fd::AsRawFd;

    use super::*;

    fn shown(ended: &Ended) -> String {
        serde_json::to_string(&line(ended)).unwrap()
    }

    #[test]
    fn a_line_says_what_became_of_the_request() {
        expect_test::expect![[r#"{"time":"2026-01-02T03:04:05Z","method":"POST","scheme":"https","host":"app.example.com","path":"/a\"\u0001b","protocol":"HTTP/2","client":"192.0.2.1","status":200,"duration_ms":4.0,"latency_ms":1.5,"request_bytes":10,"response_bytes":2000,"route":"httproute/default/web","service":"default/web","revision":"v2","instance":"127.0.0.1:9000","retries":1,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#]]
        .assert_eq(&shown(&Ended::example()));
        expect_test::expect![[r#"{"time":"2026-01-02T03:04:05Z","method":"POST","scheme":"https","host":"app.example.com","path":"/a\"\u0001b","protocol":"HTTP/2","client":"192.0.2.1","failure":"client_gone","duration_ms":4.0,"request_bytes":10,"response_bytes":2000,"retries":1}"#]]
        .assert_eq(&shown(&Ended::unanswered()));
    }

    #[test]
    fn a_full_file_is_put_aside_and_one_that_was_moved_is_opened_again() {
        let home = tempfile::tempdir().unwrap();
        let config = AccessLogConfig {
            path: "logs/access.log".into(),
            max_bytes: 100,
            keep: 2,
            ..AccessLogConfig::default()
        };
        let Output::File(mut file) = Output::open(home.path(), &config).unwrap() else {
            panic!("a file was asked for");
        };
        let line = |text: &str| format!("{text:79}\n").into_bytes();
        for text in ["one", "two", "three", "four"] {
            file.write(&line(text)).unwrap();
        }
        let read = |name: &str| {
            let text = std::fs::read_to_string(home.path().join("logs").join(name));
            text.unwrap_or_default().trim().to_owned()
        };
        let all = ["access.log", "access.log.1", "access.log.2", "access.log.3"].map(read);
        assert_eq!(all, ["four", "three", "two", ""]);
        let path = home.path().join("logs/access.log");
        std::fs::rename(&path, home.path().join("logs/moved")).unwrap();
        file.reopen_if_moved().unwrap();
        file.write(&line("five")).unwrap();
        assert_eq!(
            (read("access.log"), read("moved")),
            ("five".into(), "four".into())
        );
    }

    /// The log into a pipe that nobody reads yet.
    fn piped(sample: f64) -> (AccessLog, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let config = AccessLogConfig {
            path: format!("/proc/self/fd/{}", writer.as_raw_fd()).into(),
            sample,
            ..AccessLogConfig::default()
        };
        (
            AccessLog::start(Path::new("/nowhere"), &config).unwrap(),
            reader,
        )
    }

    #[test]
    fn requests_that_failed_are_always_written() {
        let (log, _reader) = piped(0.0);
        let mut ended = Ended::example();
        assert!(!log.wants(&ended.entry));
        ended.entry.outcome = Some(Outcome::Timeout);
        assert!(log.wants(&ended.entry));
    }

    #[test]
    fn workers_never_wait_and_what_does_not_fit_is_counted() {
        const QUEUED: u64 = 8 * 1024;
        const TOLD: u64 = 500_000;
        let (log, reader) = piped(1.0);
        let ended = Arc::new(Ended::example());
        for _ in 0..TOLD {
            log.tell(Arc::clone(&ended));
        }
        let dropped = log.dropped();
        drop(log);
        let written = io::BufReader::new(reader).lines().count() as u64;
        assert_eq!(written + dropped, TOLD);
        // Beside those that waited there are what the pipe holds and what was about to go into it.
        let line = shown(&ended).len() as u64 + 1;
        let most = QUEUED + 2 * (BATCH as u64 / line + 1);
        assert!((QUEUED..=most).contains(&written), "{written} of {most}");
    }
}
