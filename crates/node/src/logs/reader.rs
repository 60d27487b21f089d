//! Reads the log of one run as one text, through its rotated files and along with their growth.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::format::LogRecord;

/// The most lines that a tail looks back; more means all.
const MAX_TAIL: usize = 1 << 20;
/// The longest record that is read; a longer one is no record of ours.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// A position in the log of a run.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    /// The file being read; `None` when there is none yet.
    current: Option<BufReader<File>>,
    /// What was read of a record that is not complete yet.
    torn: Vec<u8>,
    since: Option<Timestamp>,
    timestamps: bool,
    /// Whether the next record begins a line.
    at_line_start: bool,
    /// Bytes that may still be given.
    budget: u64,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something was read; there may be more.
    More,
    /// Everything that is there now was read.
    CaughtUp,
    /// The limit is reached.
    Limit,
}

impl Reader {
    /// Opens the log of a run, at the last `tail` lines (`None`: at its beginning).
    pub(super) fn open(
        path: &Path,
        tail: Option<usize>,
        since: Option<Timestamp>,
        timestamps: bool,
        budget: Option<u64>,
    ) -> io::Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            current: None,
            torn: Vec::new(),
            since,
            timestamps,
            at_line_start: true,
            budget: budget.unwrap_or(u64::MAX),
        };
        let files = reader.files()?;
        let start = match tail {
            Some(lines) if lines < MAX_TAIL => tail_start(&files, lines)?,
            _ => files.first().map(|first| (first.clone(), 0)),
        };
        if let Some((path, offset)) = start {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            reader.current = Some(BufReader::new(file));
        }
        Ok(reader)
    }

    /// Reads on, about `max` bytes, and appends the text to `out`.
    pub(super) fn read(&mut self, max: usize, out: &mut Vec<u8>) -> io::Result<Progress> {
        loop {
            if self.budget == 0 {
                return Ok(Progress::Limit);
            }
            if out.len() >= max {
                return Ok(Progress::More);
            }
            let Some(current) = &mut self.current else {
                let Some(first) = self.files()?.into_iter().next() else {
                    return Ok(Progress::CaughtUp);
                };
                self.current = Some(BufReader::new(File::open(first)?));
                continue;
            };
            let room = MAX_RECORD_BYTES.saturating_sub(self.torn.len() as u64);
            let read = current
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut self.torn)?;
            if self.torn.last() == Some(&b'\n') {
                self.torn.pop();
                let record = std::mem::take(&mut self.torn);
                self.give(&record, out);
            } else if self.torn.len() as u64 >= MAX_RECORD_BYTES {
                self.torn.clear();
            } else if read == 0 && !self.next_file()? {
                return Ok(Progress::CaughtUp);
            }
        }
    }

    fn give(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(record) = LogRecord::parse(line) else {
            return;
        };
        if let Some(since) = self.since
            && record.timestamp().is_some_and(|time| time < since)
        {
            return;
        }
        let before = out.len();
        if self.timestamps && self.at_line_start {
            out.extend_from_slice(record.time);
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if !record.partial {
            out.push(b'\n');
        }
        self.at_line_start = !record.partial;
        let given = (out.len() - before) as u64;
        if given > self.budget {
            out.truncate(before + usize::try_from(self.budget).unwrap_or(usize::MAX));
        }
        self.budget = self.budget.saturating_sub(given);
    }

    /// At the end of a file: goes on with the next newer one, if the file was put aside meanwhile. `false`: it is the newest.
    fn next_file(&mut self) -> io::Result<bool> {
        let Some(current) = &self.current else {
            return Ok(false);
        };
        let inode = current.get_ref().metadata()?.ino();
        let files = self.files()?;
        let inodes = files.iter().map(|f| fs::metadata(f).map(|m| m.ino()).ok());
        let position = inodes
            .collect::<Vec<_>>()
            .iter()
            .position(|i| *i == Some(inode));
        // A file that is gone was older than all that are left.
        let next = position.map_or(0, |n| n + 1);
        let Some(next) = files.get(next) else {
            return Ok(false);
        };
        self.torn.clear();
        self.current = Some(BufReader::new(File::open(next)?));
        Ok(true)
    }

    /// The files of the run that exist, oldest first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for n in 1_u32.. {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            let path = PathBuf::from(name);
            if !path.try_exists()? {
                break;
            }
            files.push(path);
        }
        files.reverse();
        if self.path.try_exists()? {
            files.push(self.path.clone());
        }
        Ok(files)
    }
}

/// The file and the offset at which the last `lines` lines begin; `None` without files.
fn tail_start(files: &[PathBuf], lines: usize) -> io::Result<Option<(PathBuf, u64)>> {
    let mut starts: VecDeque<(usize, u64)> = VecDeque::new();
    let mut end = (files.len().saturating_sub(1), 0);
    let mut begins = true;
    let mut line = Vec::new();
    for (n, path) in files.iter().enumerate() {
        let mut file = BufReader::new(File::open(path)?);
        let mut offset = 0;
        loop {
            line.clear();
            let len = file
                .by_ref()
                .take(MAX_RECORD_BYTES)
                .read_until(b'\n', &mut line)? as u64;
            if len == 0 {
                break;
            }
            if begins {
                starts.push_back((n, offset));
                if starts.len() > lines {
                    starts.pop_front();
                }
            }
            begins = LogRecord::parse(&line).is_none_or(|record| !record.partial);
            offset += len;
        }
        end = (n, offset);
    }
    let (n, offset) = starts.front().copied().unwrap_or(end);
    Ok(files.get(n).map(|path| (path.clone(), offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn all(reader: &mut Reader) -> String {
        let mut out = Vec::new();
        while reader.read(usize::MAX, &mut out).unwrap() == Progress::More {}
        String::from_utf8(out).unwrap()
    }

    const OLD: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n";
    const NEW: &str =
        "2026-01-01T00:00:02Z stderr F o\nbroken\n2026-01-01T00:00:03Z stdout F three\n";

    fn read(
        tail: Option<usize>,
        since: Option<&str>,
        timestamps: bool,
        budget: Option<u64>,
    ) -> String {
        let dir = dir(&[("0.log.1", OLD), ("0.log", NEW)]);
        let since = since.map(|s| s.parse().unwrap());
        let path = dir.path().join("0.log");
        all(&mut Reader::open(&path, tail, since, timestamps, budget).unwrap())
    }

    #[test]
    fn options_choose_lines() {
        assert_eq!(read(None, None, false, None), "one\ntwo\nthree\n");
        assert_eq!(read(Some(0), None, false, None), "");
        assert_eq!(read(Some(1), None, false, None), "three\n");
        assert_eq!(read(Some(9), None, false, None), "one\ntwo\nthree\n");
        assert_eq!(
            read(None, Some("2026-01-01T00:00:03Z"), false, None),
            "three\n"
        );
        assert_eq!(read(None, None, false, Some(6)), "one\ntw");
        assert_eq!(
            read(None, None, true, None),
            "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n"
        );
    }

    #[test]
    fn a_tail_begins_with_a_whole_line_across_files() {
        let dir = dir(&[
            ("0.log.1", "T stdout F a\nT stdout F b\n"),
            ("0.log", "T stdout P c\nT stdout F d\n"),
        ]);
        let tail = |n| {
            all(&mut Reader::open(&dir.path().join("0.log"), Some(n), None, false, None).unwrap())
        };
        assert_eq!(tail(1), "cd\n");
        assert_eq!(tail(2), "b\ncd\n");
    }

    #[test]
    fn growth_and_rotation_are_followed() {
        let dir = dir(&[]);
        let path = dir.path().join("0.log");
        let mut reader = Reader::open(&path, None, None, false, None).unwrap();
        assert_eq!(all(&mut reader), "");
        fs::write(&path, "T stdout F a\nT stdout F to").unwrap();
        assert_eq!(all(&mut reader), "a\n");
        fs::write(&path, "T stdout F a\nT stdout F torn\n").unwrap();
        fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        fs::write(&path, "T stdout F next\n").unwrap();
        assert_eq!(all(&mut reader), "torn\nnext\n");
        fs::rename(dir.path().join("0.log.1"), dir.path().join("0.log.2")).unwrap();
        fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        fs::write(&path, "T stdout F last\n").unwrap();
        assert_eq!(all(&mut reader), "last\n");
    }
}
