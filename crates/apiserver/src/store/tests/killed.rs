//! What a killed server leaves, and what may befall it before the next start.

use super::*;

/// A state file with three commits in its write-ahead log, as a killed server leaves it.
struct Killed {
    dir: tempfile::TempDir,
    /// How long the log was after each commit.
    log_lengths: Vec<u64>,
}

const KILLED_FILES: [&str; 3] = ["state.db", "state.db-wal", "state.db-head"];

impl Killed {
    fn new() -> Self {
        let (live, path) = state_file();
        let (disk, loaded) = Disk::open(&path).unwrap();
        let mut committer = Committer::new(Arc::new(Shared::load(loaded)), Some(disk));
        let log_lengths = ["a", "b", "c"].map(|name| {
            let outcome = committer.commit(vec![put(name, Expect::Absent, "1")]);
            assert!(outcome[0].is_ok());
            fs::metadata(live.path().join("state.db-wal"))
                .unwrap()
                .len()
        });
        let dir = tempfile::tempdir().unwrap();
        for name in KILLED_FILES {
            fs::copy(live.path().join(name), dir.path().join(name)).unwrap();
        }
        let log_lengths = log_lengths.to_vec();
        Self { dir, log_lengths }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// What opening says of these files after one of them has become `content`: the names of all objects, or the error, and
    /// then nothing may have changed.
    fn open_with(&self, name: &str, content: Option<&[u8]>) -> Result<Vec<String>, StoreError> {
        let copy = tempfile::tempdir().unwrap();
        for name in KILLED_FILES {
            fs::copy(self.file(name), copy.path().join(name)).unwrap();
        }
        match content {
            Some(content) => fs::write(copy.path().join(name), content).unwrap(),
            None => fs::remove_file(copy.path().join(name)).unwrap(),
        }
        let read = || KILLED_FILES.map(|name| fs::read(copy.path().join(name)).ok());
        let before = read();
        let (_disk, loaded) = Disk::open(&copy.path().join("state.db")).inspect_err(|_| {
            assert!(read() == before, "a refused file is left as it is");
        })?;
        Ok(loaded
            .records
            .iter()
            .map(|r| r.key.name().to_owned())
            .collect())
    }
}

#[test]
fn a_killed_server_has_lost_nothing() {
    let killed = Killed::new();
    let log = fs::read(killed.file("state.db-wal")).unwrap();
    let names = killed.open_with("state.db-wal", Some(&log)).unwrap();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_changed_bit_anywhere_in_the_write_ahead_log_loses_nothing_in_silence() {
    let killed = Killed::new();
    let log = fs::read(killed.file("state.db-wal")).unwrap();
    let mut refused = 0;
    // A prime step visits headers and pages of every frame at ever different places.
    for place in (0..log.len()).step_by(211) {
        let mut changed = log.clone();
        changed[place] ^= 1 << (place % 8);
        match killed.open_with("state.db-wal", Some(&changed)) {
            Ok(names) => assert_eq!(names, ["a", "b", "c"], "byte {place}"),
            Err(StoreError::Behind { .. } | StoreError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("byte {place}: {other}"),
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_write_ahead_log_that_is_cut_or_gone_is_refused() {
    let killed = Killed::new();
    let log = fs::read(killed.file("state.db-wal")).unwrap();
    let two_commits = usize::try_from(killed.log_lengths[1]).unwrap();
    for cut in [0, 31, two_commits, log.len() - 1] {
        let error = killed.open_with("state.db-wal", Some(&log[..cut]));
        let error = error.unwrap_err();
        assert!(
            matches!(error, StoreError::Behind { head: 3, .. }),
            "{error}"
        );
    }
    let error = killed.open_with("state.db-wal", None).unwrap_err();
    assert!(matches!(error, StoreError::Behind { .. }), "{error}");
    let error = killed.open_with("state.db", None).unwrap_err();
    assert!(
        matches!(error, StoreError::Behind { found: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_head_file_that_is_damaged_or_gone_is_made_anew() {
    let killed = Killed::new();
    for content in [Some(&b""[..]), Some(b"SERNHEADxxx"), Some(&[0; 64]), None] {
        let names = killed.open_with("state.db-head", content).unwrap();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
