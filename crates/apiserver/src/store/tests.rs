use std::fs;
use std::io::{Seek, SeekFrom, Write as _};

use serde_json::{Value, json};

use super::*;

mod copies;
pub(super) mod crash;
mod killed;

fn key(name: &str) -> Key {
    Key::new("", "configmaps", "default", name)
}

fn object(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "uid": name},
        "data": {"text": text}})
}

fn put(name: &str, expect: Expect, text: &str) -> Write {
    Write {
        key: key(name),
        expect,
        op: Op::Put(Draft::new(&object(name, text))),
        by: None,
    }
}

fn remove(name: &str, rv: u64) -> Write {
    Write {
        key: key(name),
        expect: Expect::Version(rv),
        op: Op::Remove(Draft::new(&object(name, "last"))),
        by: None,
    }
}

fn state_file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    (dir, path)
}

#[tokio::test]
async fn writes_hold_their_expectation() {
    for store in [Store::in_memory(), Store::open(&state_file().1).unwrap()] {
        let first = store.write(put("a", Expect::Absent, "1")).await.unwrap();
        assert_eq!(
            store
                .write(put("a", Expect::Absent, "2"))
                .await
                .unwrap_err(),
            WriteError::Exists
        );
        let second = store
            .write(put("a", Expect::Version(first.rv), "2"))
            .await
            .unwrap();
        assert_eq!(second.rv, first.rv + 1);
        assert_eq!(
            store
                .write(put("a", Expect::Version(first.rv), "3"))
                .await
                .unwrap_err(),
            WriteError::Conflict
        );
        assert_eq!(store.get(&key("a")).unwrap().value()["data"]["text"], "2");
        let gone = store.write(remove("a", second.rv)).await.unwrap();
        assert_eq!(gone.rv, second.rv + 1);
        assert!(store.get(&key("a")).is_none());
        assert_eq!(
            store.write(remove("a", gone.rv)).await.unwrap_err(),
            WriteError::Missing
        );
    }
}

#[tokio::test]
async fn concurrent_writes_share_commits_and_none_is_lost() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    let writes = (0..100).map(|i| {
        let store = store.clone();
        async move {
            store
                .write(put(&format!("n{i}"), Expect::Absent, "x"))
                .await
                .unwrap()
                .rv
        }
    });
    let mut versions = futures::future::join_all(writes).await;
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 100);
    assert_eq!(store.shared().list("/configmaps/", None).records.len(), 100);
}

#[tokio::test]
async fn what_was_answered_is_there_after_opening_again() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    let a = store.write(put("a", Expect::Absent, "1")).await.unwrap();
    let b = store.write(put("b", Expect::Absent, "1")).await.unwrap();
    let a2 = store
        .write(put("a", Expect::Version(a.rv), "2"))
        .await
        .unwrap();
    store.write(remove("b", b.rv)).await.unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), a2);
    assert!(store.get(&key("b")).is_none());
    assert!(store.damaged().is_empty());
    let shared = store.shared();
    // Watches go on where they were, and know what each object was before.
    let (changes, upto) = shared.changes(a.rv, "/configmaps/").unwrap();
    let told: Vec<_> = changes
        .iter()
        .map(|c| (c.kind, c.record.key.name(), c.previous.is_some()))
        .collect();
    assert_eq!(
        told,
        [
            (ChangeKind::Added, "b", false),
            (ChangeKind::Modified, "a", true),
            (ChangeKind::Deleted, "b", true)
        ]
    );
    assert_eq!(upto, shared.version());
    let c = store.write(put("c", Expect::Absent, "1")).await.unwrap();
    assert_eq!(c.rv, upto + 1);
}

#[tokio::test]
async fn changes_from_before_the_ring_or_from_the_future_are_expired() {
    let store = Store::in_memory();
    let mut last = store.write(put("a", Expect::Absent, "0")).await.unwrap();
    let first = last.rv;
    for i in 0..=state::RING_CHANGES {
        last = store
            .write(put("a", Expect::Version(last.rv), &i.to_string()))
            .await
            .unwrap();
    }
    let shared = store.shared();
    assert!(shared.changes(first, "").is_err());
    assert!(shared.list_at("", first).is_err());
    assert!(shared.list_at("", last.rv + 1).is_err());
    let page = shared.list_at("/configmaps/", last.rv - 5).unwrap();
    assert_eq!(page.records.len(), 1);
    assert!(shared.changes(last.rv + 1, "").is_err());
    assert_eq!(shared.changes(last.rv, "").unwrap().0.len(), 0);
    assert_eq!(shared.changes(last.rv - 5, "").unwrap().0.len(), 5);
}

#[tokio::test]
async fn a_change_concerns_those_who_watch_its_kind() {
    let store = Store::in_memory();
    let secret = |name: &str| Write {
        key: Key::new("", "secrets", "default", name),
        ..put(name, Expect::Absent, "1")
    };
    let mut all = store.subscribe("");
    let maps = store.subscribe("/configmaps/default/");
    let mut secrets = store.subscribe("/secrets/");
    let begun = store.write(secret("first")).await.unwrap().rv;
    assert_eq!(*all.borrow_and_update(), begun);
    assert_eq!(*secrets.borrow_and_update(), begun);
    assert!(!maps.has_changed().unwrap(), "no map has changed");

    let mut last = store.write(put("a", Expect::Absent, "0")).await.unwrap();
    for _ in 0..=state::RING_CHANGES {
        let again = put("a", Expect::Version(last.rv), "1");
        last = store.write(again).await.unwrap();
    }
    assert!(all.has_changed().unwrap() && maps.has_changed().unwrap());
    assert!(!secrets.has_changed().unwrap(), "no secret has changed");
    // Who slept all the time has missed nothing of his kind, though others have changed more often than is remembered.
    let shared = store.shared();
    let (changes, upto) = shared.changes(begun, "/secrets/").unwrap();
    assert_eq!((changes.len(), upto), (0, last.rv));
    let second = store.write(secret("second")).await.unwrap();
    assert_eq!(*secrets.borrow_and_update(), second.rv);
    assert_eq!(shared.changes(begun, "/secrets/").unwrap().0.len(), 1);
    // What is not remembered is expired for its kind, and for who asks for all.
    assert!(shared.changes(begun - 1, "/secrets/").is_err());
    assert!(shared.changes(begun, "/configmaps/default/").is_err());
    assert!(shared.changes(begun, "").is_err());
}

#[tokio::test]
async fn a_second_opening_is_refused() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Locked { .. })));
    drop(store);
    Store::open(&path).unwrap();
}

#[tokio::test]
async fn broken_files_are_refused_with_their_name_and_a_remedy() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    let mut rv = store.write(put("a", Expect::Absent, "1")).await.unwrap().rv;
    for _ in 0..200 {
        rv = store
            .write(put("a", Expect::Version(rv), &"x".repeat(2000)))
            .await
            .unwrap()
            .rv;
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let refused = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(error.to_string().contains("state.db"), "{error}");
        assert_eq!(
            fs::read(&path).unwrap(),
            content,
            "a refused file is left as it is"
        );
        let log = path.with_file_name("state.db-wal");
        assert!(!log.exists(), "nothing is left beside it");
        error
    };
    assert!(matches!(refused(b""), StoreError::Corrupt { .. }));
    assert!(matches!(refused(&whole[..7]), StoreError::Corrupt { .. }));
    assert!(matches!(
        refused(&whole[..whole.len() / 2]),
        StoreError::Corrupt { .. }
    ));
    assert!(matches!(
        refused(b"# some notes of mine\n"),
        StoreError::Foreign { .. }
    ));
    let mut mangled = whole.clone();
    mangled[4096..12288].fill(0xAA);
    assert!(matches!(refused(&mangled), StoreError::Corrupt { .. }));
    fs::write(&path, &whole).unwrap();
    assert!(Store::open(&path).is_ok());
}

#[test]
fn files_of_others_and_of_later_versions_are_refused() {
    let (_dir, path) = state_file();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE x (y)").unwrap();
    drop(db);
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Foreign { .. })
    ));
    fs::remove_file(&path).unwrap();
    drop(Store::open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Newer {
            found: 99,
            known: 4,
            ..
        })
    ));
}

#[test]
fn a_missing_directory_is_told() {
    let error = Store::open(Path::new("/nonexistent/state.db")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[tokio::test]
async fn one_unreadable_object_does_not_take_the_others_with_it() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    for name in ["a", "b", "c"] {
        store.write(put(name, Expect::Absent, "1")).await.unwrap();
    }
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    let broken = "UPDATE objects SET json = x'7b' WHERE key = '/configmaps/default/b'";
    assert_eq!(db.execute(broken, []).unwrap(), 1);
    // So old that it is not among the recent changes.
    db.execute("DELETE FROM log", []).unwrap();
    drop(db);
    let store = Store::open(&path).unwrap();
    let [damaged] = store.damaged() else {
        panic!("{:?}", store.damaged());
    };
    assert_eq!(damaged.key, "/configmaps/default/b");
    assert!(store.get(&key("a")).is_some() && store.get(&key("c")).is_some());
    assert!(store.get(&key("b")).is_none());
    store
        .write(put("b", Expect::Absent, "again"))
        .await
        .unwrap();
    drop(store);
    assert!(Store::open(&path).unwrap().damaged().is_empty());
}

/// One changed byte of the value of `a`, in these tables; what is served of it then.
async fn with_a_changed_byte(tables: &[&str]) -> Option<Arc<Record>> {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    store.write(put("a", Expect::Absent, "on")).await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    for table in tables {
        let change = format!(
            "UPDATE {table} SET json = CAST(replace(CAST(json AS TEXT), '\"on\"', '\"no\"') AS BLOB) WHERE key = '/configmaps/default/a'"
        );
        assert_eq!(db.execute(&change, []).unwrap(), 1);
    }
    drop(db);
    let store = Store::open(&path).unwrap();
    let served = store.get(&key("a"));
    assert_eq!(store.damaged().is_empty(), served.is_some());
    served
}

#[tokio::test]
async fn a_changed_byte_is_never_served() {
    let whole = with_a_changed_byte(&[]).await;
    assert!(whole.is_some());
    assert_eq!(with_a_changed_byte(&["log"]).await, whole);
    assert_eq!(with_a_changed_byte(&["objects"]).await, whole);
    assert_eq!(with_a_changed_byte(&["objects", "log"]).await, None);
}

#[tokio::test]
async fn a_file_without_checksums_gets_them() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    let written = store.write(put("a", Expect::Absent, "1")).await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    let older = "ALTER TABLE objects DROP COLUMN sum; ALTER TABLE log DROP COLUMN sum; \
                 DELETE FROM meta WHERE name = 'digest'; DROP TABLE history; PRAGMA user_version = 1;";
    db.execute_batch(older).unwrap();
    drop(db);
    fs::remove_file(disk::head_path(&path)).unwrap();
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert!(store.damaged().is_empty());
        assert_eq!(store.get(&key("a")), Some(Arc::clone(&written)));
    }
}

#[tokio::test]
async fn a_file_without_a_history_gets_one() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    let written = store.write(put("a", Expect::Absent, "1")).await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("DROP TABLE history; PRAGMA user_version = 3;")
        .unwrap();
    drop(db);
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get(&key("a")), Some(Arc::clone(&written)));
        assert_eq!(store.history(Query::default()).await, Ok(Vec::new()));
    }
}

#[test]
fn a_full_disk_fails_the_write_and_nothing_else() {
    let (_dir, path) = state_file();
    let (disk, loaded) = Disk::open(&path).unwrap();
    disk.limit_pages(14);
    let shared = Arc::new(Shared::load(loaded));
    let mut committer = Committer::new(Arc::clone(&shared), Some(disk));
    let small = committer
        .commit(vec![put("small", Expect::Absent, "x")])
        .remove(0)
        .unwrap();
    let big = "x".repeat(200_000);
    assert_eq!(
        committer
            .commit(vec![put("big", Expect::Absent, &big)])
            .remove(0)
            .unwrap_err(),
        WriteError::Full
    );
    assert_eq!(shared.version(), small.rv);
    assert!(shared.get(&key("big")).is_none());
    committer
        .commit(vec![put("small", Expect::Version(small.rv), "y")])
        .remove(0)
        .unwrap();
    committer.disk().limit_pages(10_000);
    committer
        .commit(vec![put("big", Expect::Absent, &big)])
        .remove(0)
        .unwrap();
    drop(committer);
    let (_, loaded) = Disk::open(&path).unwrap();
    assert_eq!(loaded.records.len(), 2);
}

#[test]
fn a_row_of_yesterday_is_refused() {
    let (_dir, path) = state_file();
    let (disk, loaded) = Disk::open(&path).unwrap();
    let mut committer = Committer::new(Arc::new(Shared::load(loaded)), Some(disk));
    let first = committer.commit(vec![put("a", Expect::Absent, "1")]);
    let row = "SELECT rv, json, sum FROM objects";
    type Row = (i64, Vec<u8>, i64);
    let read = |db: &rusqlite::Connection| -> Row {
        db.query_row(row, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .unwrap()
    };
    let old = read(committer.disk().database());
    let rv = first[0].as_ref().unwrap().rv;
    assert!(committer.commit(vec![put("a", Expect::Version(rv), "2")])[0].is_ok());
    drop(committer);
    // As a page that never reached the disk would leave it: whole in itself, and not the last one.
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("UPDATE objects SET rv = ?1, json = ?2, sum = ?3", old)
        .unwrap();
    drop(db);
    let Err(error) = Disk::open(&path) else {
        panic!("an older row was believed");
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_mended_object_outlives_the_recent_changes() {
    let (_dir, path) = state_file();
    let store = Store::open(&path).unwrap();
    let written = store.write(put("a", Expect::Absent, "on")).await.unwrap();
    drop(store);
    let sql = |statement: &str| {
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(statement).unwrap();
    };
    sql("UPDATE objects SET json = x'7b'");
    drop(Store::open(&path).unwrap());
    sql("DELETE FROM log");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(&key("a")), Some(written));
}

#[test]
fn a_state_file_cut_in_the_write_ahead_log_keeps_what_is_whole() {
    let (_dir, path) = state_file();
    let (disk, loaded) = Disk::open(&path).unwrap();
    let shared = Arc::new(Shared::load(loaded));
    let mut committer = Committer::new(Arc::clone(&shared), Some(disk));
    committer
        .commit(vec![put("a", Expect::Absent, "1")])
        .remove(0)
        .unwrap();
    committer
        .commit(vec![put("b", Expect::Absent, "1")])
        .remove(0)
        .unwrap();
    // As after a power cut: the files as they are now, the last commit torn.
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("state.db");
    fs::copy(&path, &copied).unwrap();
    let log = copy.path().join("state.db-wal");
    fs::copy(path.with_file_name("state.db-wal"), &log).unwrap();
    let mut torn = fs::OpenOptions::new().write(true).open(&log).unwrap();
    torn.seek(SeekFrom::End(-100)).unwrap();
    torn.write_all(&[0xFF; 100]).unwrap();
    drop(torn);
    // The head follows a commit, so it does not know the one that was torn.
    let one = super::head::Head {
        rv: 1,
        digest: super::disk::checksum(
            "/configmaps/default/a",
            1,
            &shared.get(&key("a")).unwrap().json,
        ),
    };
    drop(super::head::HeadFile::begin(&disk::head_path(&copied), one).unwrap());
    let (_, loaded) = Disk::open(&copied).unwrap();
    let names: Vec<_> = loaded.records.iter().map(|r| r.key.name()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(loaded.rv, 1);
}
