//! Copies of the state file, and what comes back from them.

use std::io::Read as _;

use super::*;

async fn copy_of(store: &Store, to: &Path) {
    let mut bytes = Vec::new();
    store.copy().await.unwrap().read_to_end(&mut bytes).unwrap();
    fs::write(to, bytes).unwrap();
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|e| {
            let name = e.file_name().into_string().unwrap();
            (name, fs::read(e.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_copy_comes_back_with_versions_that_nobody_has_seen() {
    let (dir, path) = state_file();
    let copy = dir.path().join("backup");
    let store = Store::open(&path).unwrap();
    let a = store.write(put("a", Expect::Absent, "1")).await.unwrap();
    copy_of(&store, &copy).await;
    let at_copy = store.shared().version();
    let objects = store.shared().list("", None).records.len();
    let later = store.write(put("b", Expect::Absent, "1")).await.unwrap();
    drop(store);
    let whole = Copied {
        objects,
        version: at_copy,
    };
    assert_eq!(check_copy(&copy).unwrap(), whole);
    let restored = restore(&copy, &path).unwrap();
    assert_eq!(restored.objects, objects);
    assert!(restored.version > later.rv);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(&key("a")), Some(Arc::clone(&a)));
    assert!(store.get(&key("b")).is_none());
    assert!(
        store.shared().changes(later.rv, "").is_err(),
        "watches list again"
    );
    let next = store.write(put("c", Expect::Absent, "1")).await.unwrap();
    assert!(next.rv > restored.version);
    drop(store);
    let kept = Store::open(&dir.path().join("state.db-replaced")).unwrap();
    assert!(
        kept.get(&key("b")).is_some(),
        "what was there before is kept"
    );
}

#[tokio::test]
async fn a_lost_state_is_restored_whatever_is_left_of_it() {
    let (dir, path) = state_file();
    let copy = dir.path().join("backup");
    let store = Store::open(&path).unwrap();
    store.write(put("a", Expect::Absent, "1")).await.unwrap();
    copy_of(&store, &copy).await;
    drop(store);
    for left in ["state.db", "state.db-head"] {
        fs::write(dir.path().join(left), b"").unwrap();
        restore(&copy, &path).unwrap();
        assert!(Store::open(&path).unwrap().get(&key("a")).is_some());
    }
    fs::remove_file(&path).unwrap();
    restore(&copy, &path).unwrap();
    assert!(Store::open(&path).unwrap().get(&key("a")).is_some());
}

#[tokio::test]
async fn a_copy_that_is_damaged_changes_nothing() {
    let (dir, path) = state_file();
    let copy = dir.path().join("backup");
    let store = Store::open(&path).unwrap();
    store
        .write(put("a", Expect::Absent, "it-is-this"))
        .await
        .unwrap();
    copy_of(&store, &copy).await;
    drop(store);
    let whole = fs::read(&copy).unwrap();
    let mut changed = whole.clone();
    let text = b"it-is-this";
    for at in 0..changed.len() - text.len() {
        if changed[at..].starts_with(text) {
            changed[at] ^= 1;
        }
    }
    let notes = b"these are my notes".to_vec();
    for damaged in [
        changed,
        whole[..whole.len() / 2].to_vec(),
        notes,
        Vec::new(),
    ] {
        fs::write(&copy, damaged).unwrap();
        let before = files(dir.path());
        let error = restore(&copy, &path).unwrap_err();
        assert!(error.to_string().contains("backup"), "{error}");
        assert!(files(dir.path()) == before, "{error}");
    }
}

#[tokio::test]
async fn a_store_without_a_file_says_so() {
    let error = Store::in_memory().copy().await.unwrap_err();
    assert!(matches!(error, WriteError::Failed(_)), "{error}");
}
