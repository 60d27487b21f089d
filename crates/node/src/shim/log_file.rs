//! The log of one run: bounded in size and in rate, and never a reason for the application to wait.
//!
//! What cannot be kept (the disk is full, the output comes faster than the limit) is counted and dropped; a line in the log
//! says how much and why as soon as one can be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::wire::LogSpec;

/// Seconds of the allowed rate that may come at once.
const BURST_SECONDS: u64 = 4;
/// How long the log stays closed after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// The file being written, and what was dropped since the last line of it.
#[derive(Debug)]
pub(super) struct LogFile {
    spec: LogSpec,
    file: Option<File>,
    /// Bytes in the file that form whole records.
    size: u64,
    /// Bytes that may be written before the rate limit bites.
    tokens: u64,
    refilled: Instant,
    retry_at: Option<Instant>,
    dropped: Option<Dropped>,
}

#[derive(Debug)]
struct Dropped {
    records: u64,
    bytes: u64,
    why: String,
}

impl LogFile {
    /// Opens nothing yet: the first write does.
    pub(super) fn new(spec: LogSpec, now: Instant) -> Self {
        Self {
            tokens: spec.max_bytes_per_second.saturating_mul(BURST_SECONDS),
            spec,
            file: None,
            size: 0,
            refilled: now,
            retry_at: None,
            dropped: None,
        }
    }

    /// Keeps `batch`, whole records only, or counts it as dropped.
    pub(super) fn write(&mut self, time: &str, batch: &[u8], records: u64, now: Instant) {
        if batch.is_empty() {
            return;
        }
        self.refill(now);
        let len = batch.len() as u64;
        // Once it drops it goes on dropping until a quarter of the burst is there again: a few long gaps, not many short ones.
        let need = if self.dropped.is_some() {
            len.max(self.spec.max_bytes_per_second)
        } else {
            len
        };
        if self.tokens < need {
            let why = format!(
                "more than {} bytes a second",
                self.spec.max_bytes_per_second
            );
            return self.drop_records(records, len, why);
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return self.drop_records(records, len, String::new());
        }
        match self.append(time, batch) {
            Ok(()) => {
                self.tokens -= len;
                self.retry_at = None;
            }
            Err(error) => {
                self.file = None;
                self.retry_at = Some(now + RETRY);
                self.drop_records(records, len, error.to_string());
            }
        }
    }

    /// Writes the line about dropped records, if there are any and it can be written.
    pub(super) fn finish(&mut self, time: &str) {
        if self.dropped.is_some() {
            let _ = self.append(time, &[]);
        }
    }

    fn drop_records(&mut self, records: u64, bytes: u64, why: String) {
        let dropped = self.dropped.get_or_insert(Dropped {
            records: 0,
            bytes: 0,
            why,
        });
        dropped.records += records;
        dropped.bytes += bytes;
    }

    fn refill(&mut self, now: Instant) {
        let rate = self.spec.max_bytes_per_second;
        let elapsed = now.saturating_duration_since(self.refilled);
        let earned = u128::from(rate) * elapsed.as_millis() / 1000;
        if earned > 0 {
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            self.tokens = self
                .tokens
                .saturating_add(earned)
                .min(rate.saturating_mul(BURST_SECONDS));
            self.refilled = now;
        }
    }

    fn append(&mut self, time: &str, batch: &[u8]) -> io::Result<()> {
        let marker = self.dropped.as_ref().map(|d| d.marker(time));
        let marker = marker.as_deref().unwrap_or_default().as_bytes();
        let len = (marker.len() + batch.len()) as u64;
        if self.size > 0 && self.size + len > self.spec.max_bytes {
            self.rotate()?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        if let Err(error) = file.write_all(marker).and_then(|()| file.write_all(batch)) {
            // A torn record would be taken for a broken log: back to the last whole one.
            let _ = file.set_len(self.size);
            return Err(error);
        }
        self.size += len;
        self.file = Some(file);
        self.dropped = None;
        Ok(())
    }

    fn open(&mut self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.spec.path)?;
        self.size = file.metadata()?.len();
        Ok(file)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let kept = self.spec.max_files.max(1) - 1;
        if kept == 0 {
            fs::remove_file(&self.spec.path)?;
        }
        for n in (1..=kept).rev() {
            let from = if n == 1 {
                self.spec.path.clone()
            } else {
                self.numbered(n - 1)
            };
            match fs::rename(from, self.numbered(n)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = self.spec.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }
}

impl Dropped {
    fn marker(&self, time: &str) -> String {
        let Self {
            records,
            bytes,
            why,
        } = self;
        format!("{time} stderr F [serin] {records} lines ({bytes} bytes) were not kept: {why}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dir: &tempfile::TempDir, max_bytes: u64, rate: u64) -> LogSpec {
        LogSpec {
            path: dir.path().join("0.log"),
            max_bytes,
            max_files: 3,
            max_bytes_per_second: rate,
        }
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_rotated_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut log = LogFile::new(spec(&dir, 100, 1 << 20), now);
        for n in 0..40 {
            log.write(
                "T",
                format!("T stdout F line number {n:02}\n").as_bytes(),
                1,
                now,
            );
        }
        assert_eq!(names(&dir), ["0.log", "0.log.1", "0.log.2"]);
        let total: u64 = names(&dir)
            .iter()
            .map(|n| fs::metadata(dir.path().join(n)).unwrap().len())
            .sum();
        assert!(total <= 300);
        let last = fs::read_to_string(dir.path().join("0.log")).unwrap();
        assert!(last.ends_with("line number 39\n"));
    }

    #[test]
    fn a_flood_is_dropped_with_a_marker() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut log = LogFile::new(spec(&dir, 1 << 20, 10), now);
        log.write("T", &[b'a'; 40], 1, now);
        log.write("T", &[b'b'; 20], 3, now);
        log.write("T", &[b'b'; 20], 3, now);
        log.write("T", b"T stdout F c\n", 1, now + Duration::from_secs(3));
        let text = fs::read_to_string(dir.path().join("0.log")).unwrap();
        assert_eq!(
            text.trim_start_matches('a'),
            "T stderr F [serin] 6 lines (40 bytes) were not kept: more than 10 bytes a second\nT stdout F c\n"
        );
    }

    #[test]
    fn a_log_that_cannot_be_written_costs_lines_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut spec = spec(&dir, 1 << 20, 1 << 20);
        spec.path = dir.path().join("late").join("0.log");
        let mut log = LogFile::new(spec, now);
        log.write("T", b"lost\n", 1, now);
        fs::create_dir(dir.path().join("late")).unwrap();
        log.write("T", b"lost too\n", 1, now);
        log.write("T", b"T stdout F kept\n", 1, now + RETRY);
        let text = fs::read_to_string(dir.path().join("late/0.log")).unwrap();
        assert_eq!(
            text,
            "T stderr F [serin] 2 lines (14 bytes) were not kept: No such file or directory (os error 2)\nT stdout F kept\n"
        );
    }
}
