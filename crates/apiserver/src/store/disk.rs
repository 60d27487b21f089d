//! The state file: one SQLite database, opened by one process at a time.
//!
//! Tables: `objects` has the present state, `log` the recent changes so that watches go on after a restart, `history` who
//! has written what, `meta` the number of the last write and the digest of the objects. Every row has a checksum: SQLite notices a broken page but not a
//! changed byte in a value. A row that does not fit its checksum is never served; an object of the recent changes is taken
//! from there instead. The digest, the sum of the checksums, notices a row that is gone or of yesterday, and the head file
//! beside ([`super::head`]) a file that ends too early.

mod copy;
mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::error::{DamagedRow, StoreError};
use super::fail;
use super::head::{self, Found, Head, HeadFile};
use super::record::{Change, ChangeKind, Key, Record};
use super::state::RING_CHANGES;

pub use self::copy::{Copied, check_copy, copy_of, restore};
pub(crate) use self::history::{Entry, MOST_ANSWERED, Query, Signature};

/// Marks the file as ours: `SERN`.
const APPLICATION_ID: i64 = 0x5345_524e;
/// The layout of the tables; one more for every change to it.
const FORMAT: i64 = 4;
/// The first format with a history.
const FORMAT_WITH_HISTORY: i64 = 4;
/// The first format with a digest.
const FORMAT_WITH_DIGEST: i64 = 3;
/// The first format whose rows have checksums.
const FORMAT_WITH_SUMS: i64 = 2;
/// The log is cut after this many writes beyond what is kept.
const LOG_SLACK: u64 = 1024;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

const SCHEMA: &str = "
    CREATE TABLE objects (key TEXT PRIMARY KEY, rv INTEGER NOT NULL, json BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;
    CREATE TABLE log (rv INTEGER PRIMARY KEY, key TEXT NOT NULL, type INTEGER NOT NULL, json BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES ('rv', 0), ('digest', 0);
";

/// What a state file held when it was opened.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) rv: u64,
    pub(super) records: Vec<Record>,
    /// In order of versions; the state before each change is not known.
    pub(super) log: Vec<Change>,
    pub(super) damaged: Vec<DamagedRow>,
    /// Damaged objects that were taken from the recent changes.
    mended: Vec<Key>,
    /// The sum of the checksums of all rows of objects.
    digest: i64,
    /// What that sum is said to be; `None` in formats that did not say.
    said: Option<i64>,
}

/// The open file.
pub(super) struct Disk {
    path: PathBuf,
    db: Connection,
    head: HeadFile,
    digest: i64,
    /// The version up to which the log was cut.
    cut: u64,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<(Self, Loaded), StoreError> {
        let log = beside(path, "-wal");
        let had_log = log.try_exists().map_err(|e| StoreError::io(path, e))?;
        let opened = Self::open_file(path);
        // The log of a refused file is kept, and an empty one that SQLite has made by looking at the file is not.
        if let Err(StoreError::Corrupt { .. } | StoreError::Behind { .. }) = &opened
            && !had_log
            && fs::metadata(&log).is_ok_and(|log| log.len() == 0)
        {
            remove_if_there(&log).map_err(|e| StoreError::io(path, e))?;
        }
        opened
    }

    fn open_file(path: &Path) -> Result<(Self, Loaded), StoreError> {
        let io = |e| StoreError::io(path, e);
        let head_path = head_path(path);
        let head = head::read(&head_path).map_err(io)?;
        if !path.try_exists().map_err(io)? {
            match head {
                Found::At(head) if head.rv > 0 => return Err(StoreError::behind(path, 0, head.rv)),
                _ => create(path)?,
            }
        }
        check_header(path)?;
        let db = connect(path)?;
        let database = |e| StoreError::database(path, &e);
        let format = check_content(path, &db)?;
        if format < FORMAT_WITH_SUMS {
            add_sums(&db).map_err(database)?;
        }
        let mut loaded = load(&db).map_err(database)?;
        if format >= FORMAT_WITH_DIGEST && loaded.said.is_none() {
            return Err(StoreError::corrupt(path, "its digest is missing"));
        }
        check_head(path, &loaded, head)?;
        write_mended(&db, &mut loaded).map_err(database)?;
        if format < FORMAT_WITH_DIGEST {
            add_digest(&db, loaded.digest).map_err(database)?;
        }
        if format < FORMAT_WITH_HISTORY {
            add_history(&db).map_err(database)?;
        }
        let now = Head {
            rv: loaded.rv,
            digest: loaded.said.unwrap_or(loaded.digest),
        };
        let head = HeadFile::begin(&head_path, now).map_err(io)?;
        keep_log_at_close(&db, false).map_err(database)?;
        for row in &loaded.damaged {
            tracing::error!(
                key = row.key,
                why = row.why,
                "an object of the state file cannot be read and is not served"
            );
        }
        let disk = Self {
            path: path.to_owned(),
            db,
            head,
            digest: loaded.digest,
            cut: 0,
        };
        Ok((disk, loaded))
    }

    /// Writes all changes in one transaction; when it answers they are on disk.
    pub(super) fn persist(&mut self, changes: &[Arc<Change>]) -> Result<(), rusqlite::Error> {
        let Some(rv) = changes.last().map(|c| c.record.rv) else {
            return Ok(());
        };
        let keep_from = rv.saturating_sub(RING_CHANGES as u64);
        let mut digest = self.digest;
        fail::point("before the transaction");
        let transaction = self.db.transaction()?;
        for change in changes {
            digest = digest.wrapping_add(write_change(&transaction, change)?);
            history::note(&transaction, change)?;
        }
        for (name, value) in [("rv", number(rv)), ("digest", digest)] {
            transaction
                .prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?
                .execute(params![name, value])?;
        }
        let cut = keep_from > self.cut + LOG_SLACK;
        if cut {
            transaction
                .prepare_cached("DELETE FROM log WHERE rv <= ?1")?
                .execute([number(keep_from)])?;
            if let Some(by) = changes.iter().rev().find_map(|c| c.by.as_ref()) {
                history::tidy(&transaction, by.at_ms)?;
            }
        }
        fail::point("before the commit");
        transaction.commit()?;
        fail::point("after the commit");
        if cut {
            self.cut = keep_from;
        }
        self.digest = digest;
        if let Err(error) = self.head.advance(Head { rv, digest }) {
            // The write itself is on disk; only the proof of it is missing.
            tracing::error!(%error, "the head file of the state file cannot be written");
        }
        fail::point("after the head");
        Ok(())
    }

    /// Who has written what, the latest first.
    pub(super) fn history(&self, query: &Query) -> Result<Vec<Entry>, rusqlite::Error> {
        history::read(&self.db, query)
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &Connection {
        &self.db
    }

    /// Lets the file grow to `pages` pages only, which is how tests fill a disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.db
            .pragma_update(None, "max_page_count", pages)
            .unwrap();
    }
}

/// Writes a change; answers by how much the digest changes with it.
fn write_change(db: &Connection, change: &Change) -> Result<i64, rusqlite::Error> {
    let record = &*change.record;
    let (key, rv, json) = (record.key.as_str(), number(record.rv), &record.json[..]);
    let kind: i64 = match change.kind {
        ChangeKind::Added => 0,
        ChangeKind::Modified => 1,
        ChangeKind::Deleted => 2,
    };
    let sum = checksum(key, rv, json);
    db.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![rv, key, kind, json, sum])?;
    let replaced: Option<i64> = db
        .prepare_cached("SELECT sum FROM objects WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    let before = replaced.unwrap_or(0);
    if change.kind == ChangeKind::Deleted {
        db.prepare_cached("DELETE FROM objects WHERE key = ?1")?
            .execute([key])?;
        return Ok(before.wrapping_neg());
    }
    db.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key, rv, json, sum])?;
    Ok(sum.wrapping_sub(before))
}

/// FNV-1a of 64 bits: every step is one to one, so any single changed byte changes the result.
pub(super) fn checksum(key: &str, rv: i64, json: &[u8]) -> i64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let rv = rv.to_le_bytes();
    let all = key.as_bytes().iter().chain(&[0]).chain(&rv).chain(json);
    let sum = all.fold(START, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(PRIME)
    });
    sum.cast_signed()
}

/// Brings a file of format 1, which had no checksums, to this format: all of it or nothing.
fn add_sums(db: &Connection) -> Result<(), rusqlite::Error> {
    let transaction = db.unchecked_transaction()?;
    for table in ["objects", "log"] {
        transaction.execute_batch(&format!(
            "ALTER TABLE {table} ADD COLUMN sum INTEGER NOT NULL DEFAULT 0"
        ))?;
        let mut rows = transaction.prepare(&format!("SELECT rowid, key, rv, json FROM {table}"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (key, json): (String, Vec<u8>) = (row.get(1)?, row.get(3)?);
            let sum = checksum(&key, row.get(2)?, &json);
            transaction
                .prepare_cached(&format!("UPDATE {table} SET sum = ?1 WHERE rowid = ?2"))?
                .execute(params![sum, row.get::<_, i64>(0)?])?;
        }
    }
    transaction.pragma_update(None, "user_version", FORMAT_WITH_SUMS)?;
    transaction.commit()
}

/// Brings a file of format 2, which had no digest, to this format.
fn add_digest(db: &Connection, digest: i64) -> Result<(), rusqlite::Error> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute(
        "INSERT OR REPLACE INTO meta VALUES ('digest', ?1)",
        [digest],
    )?;
    transaction.pragma_update(None, "user_version", FORMAT_WITH_DIGEST)?;
    transaction.commit()
}

/// Brings a file of format 3, which had no history, to this format.
fn add_history(db: &Connection) -> Result<(), rusqlite::Error> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(history::SCHEMA)?;
    transaction.pragma_update(None, "user_version", FORMAT_WITH_HISTORY)?;
    transaction.commit()
}

/// Whether the objects are the ones that were last written.
fn check_whole(path: &Path, loaded: &Loaded) -> Result<(), StoreError> {
    // A row that cannot be read is told by its name, and the others are served.
    let unread = !loaded.damaged.is_empty() || !loaded.mended.is_empty();
    if !unread && loaded.said.is_some_and(|said| said != loaded.digest) {
        let why = "its objects are not the last ones that were written";
        return Err(StoreError::corrupt(path, why));
    }
    Ok(())
}

/// Whether what was read is all that was ever acknowledged.
fn check_head(path: &Path, loaded: &Loaded, head: Found) -> Result<(), StoreError> {
    check_whole(path, loaded)?;
    match head {
        Found::At(head) if head.rv > loaded.rv => Err(StoreError::behind(path, loaded.rv, head.rv)),
        Found::At(head) if head.rv == loaded.rv && Some(head.digest) != loaded.said => {
            let why = format!("its write {} is not the one that was acknowledged", head.rv);
            Err(StoreError::corrupt(path, why))
        }
        Found::At(_) => Ok(()),
        Found::Nothing | Found::Damaged => {
            if loaded.said.is_some() && loaded.rv > 0 {
                let head = head_path(path).display().to_string();
                tracing::warn!(
                    head,
                    "the head file is missing or damaged; it is made anew from the state file"
                );
            }
            Ok(())
        }
    }
}

/// Whether closing leaves the write-ahead log as it is: of a file that may yet be refused nothing may change.
fn keep_log_at_close(db: &Connection, keep: bool) -> Result<(), rusqlite::Error> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map(drop)
}

/// Where the head file of a state file is.
pub(super) fn head_path(path: &Path) -> PathBuf {
    beside(path, "-head")
}

/// SQLite integers are signed; versions count writes, so they fit.
fn number(rv: u64) -> i64 {
    i64::try_from(rv).unwrap_or(i64::MAX)
}

/// Makes the file beside its place and moves it there whole: a file found later that is empty or cut off is never one that
/// was just being made.
fn create(path: &Path) -> Result<(), StoreError> {
    let io = |e| StoreError::io(path, e);
    let fresh = beside(path, ".new");
    for leftover in [
        fresh.clone(),
        beside(&fresh, "-journal"),
        beside(path, "-wal"),
        beside(path, "-shm"),
    ] {
        remove_if_there(&leftover).map_err(io)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io)?;
    let make = || {
        let db = Connection::open(&fresh)?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(&format!(
            "BEGIN; {SCHEMA} {} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;",
            history::SCHEMA
        ))
    };
    make().map_err(|e| StoreError::database(path, &e))?;
    fs::rename(&fresh, path).map_err(io)?;
    sync_directory_of(path).map_err(io)
}

/// Makes the names in the directory of `path` durable.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// SQLite takes an empty file for a new database; for us it is a lost one.
fn check_header(path: &Path) -> Result<(), StoreError> {
    let mut magic = Vec::new();
    fs::File::open(path)
        .and_then(|f| f.take(MAGIC.len() as u64).read_to_end(&mut magic))
        .map_err(|e| StoreError::io(path, e))?;
    if magic == MAGIC {
        return Ok(());
    }
    if MAGIC.starts_with(&magic) {
        return Err(StoreError::corrupt(
            path,
            format!("it ends after {} bytes", magic.len()),
        ));
    }
    Err(StoreError::Foreign {
        path: path.to_owned(),
        why: "it is not an SQLite file".into(),
    })
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        keep_log_at_close(&db, true)?;
        db.busy_timeout(std::time::Duration::ZERO)?;
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "journal_size_limit", 4 << 20)?;
        // Takes the lock now rather than at the first write.
        db.execute_batch("BEGIN EXCLUSIVE; COMMIT;")?;
        Ok(db)
    };
    open().map_err(|e| StoreError::database(path, &e))
}

/// The format of a file that is ours and whole.
fn check_content(path: &Path, db: &Connection) -> Result<i64, StoreError> {
    let database = |e| StoreError::database(path, &e);
    let pragma = |name| {
        db.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(database)
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            why: "it is an SQLite file of another program".into(),
        });
    }
    let found = pragma("user_version")?;
    if found > FORMAT {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    let verdict: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(database)?;
    if verdict == "ok" {
        Ok(found)
    } else {
        // The first line only says which database; an error is one line.
        let why = verdict.lines().last().unwrap_or_default();
        Err(StoreError::corrupt(path, why))
    }
}

fn load(db: &Connection) -> Result<Loaded, rusqlite::Error> {
    let mut loaded = Loaded {
        rv: db.query_row("SELECT value FROM meta WHERE name = 'rv'", [], version)?,
        said: db
            .query_row("SELECT value FROM meta WHERE name = 'digest'", [], |row| {
                row.get(0)
            })
            .optional()?,
        ..Loaded::default()
    };
    let mut objects = db.prepare("SELECT rv, key, json, sum FROM objects ORDER BY key")?;
    let mut rows = objects.query([])?;
    while let Some(row) = rows.next()? {
        loaded.digest = loaded.digest.wrapping_add(row.get(3).unwrap_or(0));
        match record(row) {
            Ok(record) => loaded.records.push(record),
            Err(why) => loaded.damaged.push(DamagedRow {
                key: row
                    .get(1)
                    .unwrap_or_else(|_| "(a key that is not text)".into()),
                why,
            }),
        }
    }
    let mut log = db.prepare("SELECT rv, key, json, sum, type FROM log ORDER BY rv")?;
    let mut rows = log.query([])?;
    while let Some(row) = rows.next()? {
        match logged(row) {
            Ok(change) => loaded.log.push(change),
            // The history ends at a gap: a watch from before it must list again.
            Err(_) => loaded.log.clear(),
        }
    }
    repair(&mut loaded);
    let objects = loaded.records.iter().map(|r| r.rv);
    let latest = objects.chain(loaded.log.last().map(|c| c.record.rv)).max();
    loaded.rv = loaded.rv.max(latest.unwrap_or(0));
    Ok(loaded)
}

/// Takes objects that cannot be read from the recent changes, as far as these go back.
fn repair(loaded: &mut Loaded) {
    if loaded.damaged.is_empty() {
        return;
    }
    let latest: BTreeMap<&Key, &Change> = loaded
        .log
        .iter()
        .map(|change| (&change.record.key, change))
        .collect();
    let present: BTreeSet<Key> = loaded.records.iter().map(|r| r.key.clone()).collect();
    let missing = latest
        .into_values()
        .filter(|change| change.kind != ChangeKind::Deleted)
        .filter(|change| !present.contains(&change.record.key));
    for change in missing {
        let latest = &change.record;
        let key = latest.key.as_str();
        tracing::warn!(
            key,
            "an object of the state file was damaged and is taken from the recent changes"
        );
        loaded.damaged.retain(|row| row.key != key);
        loaded.mended.push(latest.key.clone());
        loaded.records.push(Record {
            key: latest.key.clone(),
            rv: latest.rv,
            json: latest.json.clone(),
            facts: latest.facts.clone(),
        });
    }
}

/// Puts mended objects into their rows: the recent changes do not keep them for ever.
fn write_mended(db: &Connection, loaded: &mut Loaded) -> Result<(), rusqlite::Error> {
    if loaded.mended.is_empty() {
        return Ok(());
    }
    let transaction = db.unchecked_transaction()?;
    let is_mended = |record: &&Record| loaded.mended.contains(&record.key);
    for record in loaded.records.iter().filter(is_mended) {
        let (key, rv) = (record.key.as_str(), number(record.rv));
        let sum = checksum(key, rv, &record.json);
        transaction.execute(
            "INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4)",
            params![key, rv, &record.json[..], sum],
        )?;
    }
    let mut digest = 0i64;
    let mut sums = transaction.prepare("SELECT sum FROM objects")?;
    let mut rows = sums.query([])?;
    while let Some(row) = rows.next()? {
        digest = digest.wrapping_add(row.get(0).unwrap_or(0));
    }
    drop(rows);
    drop(sums);
    transaction.execute(
        "INSERT OR REPLACE INTO meta VALUES ('digest', ?1)",
        [digest],
    )?;
    transaction.commit()?;
    loaded.digest = digest;
    loaded.said = Some(digest);
    Ok(())
}

fn version(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::unsigned_abs)
}

fn record(row: &Row<'_>) -> Result<Record, String> {
    let rv = version(row).map_err(|e| e.to_string())?;
    let key: String = row.get(1).map_err(|e| e.to_string())?;
    let json: Vec<u8> = row.get(2).map_err(|e| e.to_string())?;
    let sum: i64 = row.get(3).map_err(|e| e.to_string())?;
    if sum != checksum(&key, number(rv), &json) {
        return Err("its checksum is another".into());
    }
    Record::parse(&key, rv, json)
}

fn logged(row: &Row<'_>) -> Result<Change, String> {
    let kind = match row.get::<_, i64>(4).map_err(|e| e.to_string())? {
        0 => ChangeKind::Added,
        1 => ChangeKind::Modified,
        2 => ChangeKind::Deleted,
        other => return Err(format!("no change has type {other}")),
    };
    Ok(Change {
        kind,
        record: Arc::new(record(row)?),
        previous: None,
        by: None,
    })
}
