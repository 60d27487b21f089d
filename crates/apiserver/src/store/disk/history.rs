//! Who has written what and when: a table beside the objects, for people and for reports. It never holds what was written.

use rusqlite::{Connection, params};

use super::number;
use crate::store::record::{Change, ChangeKind};

/// Rows that are kept.
const MOST_ROWS: i64 = 100_000;
/// Milliseconds for which a row is kept: 90 days.
const MOST_AGE: i64 = 90 * 24 * 3600 * 1000;
/// Rows of one answer.
pub(crate) const MOST_ANSWERED: usize = 1000;

pub(super) const SCHEMA: &str = "
    CREATE TABLE history (
        rv INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, user TEXT NOT NULL, agent TEXT NOT NULL, verb TEXT NOT NULL,
        api_group TEXT NOT NULL, resource TEXT NOT NULL, subresource TEXT NOT NULL, namespace TEXT NOT NULL,
        name TEXT NOT NULL, change TEXT NOT NULL, from_rv INTEGER
    ) STRICT;
";

/// By whom a write was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    pub(crate) user: Box<str>,
    /// The program, as it names itself.
    pub(crate) agent: Box<str>,
    pub(crate) verb: Box<str>,
    /// Which part of the object; empty for the object itself.
    pub(crate) subresource: Box<str>,
}

/// One row: a write, from one version of an object to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) rv: i64,
    pub(crate) signature: Signature,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `created`, `updated` or `deleted`.
    pub(crate) change: String,
    /// `None` for an object that was not there before.
    pub(crate) from_rv: Option<i64>,
}

/// Which rows are wanted; `None` for any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) group: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) user: Option<String>,
    /// Only writes before this version.
    pub(crate) before: Option<i64>,
    /// At most so many, the latest ones first.
    pub(crate) limit: usize,
}

/// Whether a write is kept: those that beat all the time say nothing of who wants what.
fn is_kept(change: &Change, signature: &Signature) -> bool {
    let key = &change.record.key;
    let beats = matches!(
        (key.group(), key.plural()),
        ("", "events") | ("events.k8s.io", "events") | ("coordination.k8s.io", "leases")
    );
    !beats && &*signature.subresource != "status"
}

/// Writes down a change that somebody has signed.
pub(super) fn note(db: &Connection, change: &Change) -> Result<(), rusqlite::Error> {
    let Some(signature) = change.by.as_deref().filter(|by| is_kept(change, by)) else {
        return Ok(());
    };
    let key = &change.record.key;
    let what = match change.kind {
        ChangeKind::Added => "created",
        ChangeKind::Modified => "updated",
        ChangeKind::Deleted => "deleted",
    };
    db.prepare_cached(
        "INSERT OR REPLACE INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        number(change.record.rv),
        signature.at_ms,
        signature.user,
        signature.agent,
        signature.verb,
        key.group(),
        key.plural(),
        signature.subresource,
        key.namespace(),
        key.name(),
        what,
        change.previous.as_ref().map(|before| number(before.rv)),
    ])
    .map(drop)
}

/// Forgets the oldest rows.
pub(super) fn tidy(db: &Connection, now_ms: i64) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "DELETE FROM history WHERE rv <= (SELECT rv FROM history ORDER BY rv DESC LIMIT 1 OFFSET ?1)",
    )?
    .execute([MOST_ROWS])?;
    // The oldest row that is young enough; the rows are in the order of time.
    db.prepare_cached(
        "DELETE FROM history WHERE rv < (SELECT rv FROM history WHERE at_ms >= ?1 ORDER BY rv LIMIT 1)",
    )?
    .execute([now_ms.saturating_sub(MOST_AGE)])
    .map(drop)
}

/// The rows that are wanted, the latest first.
pub(super) fn read(db: &Connection, query: &Query) -> Result<Vec<Entry>, rusqlite::Error> {
    let mut statement = db.prepare_cached(
        "SELECT rv, at_ms, user, agent, verb, api_group, resource, subresource, namespace, name, change, from_rv
         FROM history
         WHERE (?1 IS NULL OR api_group = ?1) AND (?2 IS NULL OR resource = ?2) AND (?3 IS NULL OR namespace = ?3)
           AND (?4 IS NULL OR name = ?4) AND (?5 IS NULL OR user = ?5) AND (?6 IS NULL OR rv < ?6)
         ORDER BY rv DESC LIMIT ?7",
    )?;
    let limit = i64::try_from(query.limit.min(MOST_ANSWERED)).unwrap_or(0);
    let wanted = params![
        query.group,
        query.resource,
        query.namespace,
        query.name,
        query.user,
        query.before,
        limit
    ];
    let rows = statement.query_map(wanted, |row| {
        Ok(Entry {
            rv: row.get(0)?,
            signature: Signature {
                at_ms: row.get(1)?,
                user: row.get(2)?,
                agent: row.get(3)?,
                verb: row.get(4)?,
                subresource: row.get(7)?,
            },
            group: row.get(5)?,
            resource: row.get(6)?,
            namespace: row.get(8)?,
            name: row.get(9)?,
            change: row.get(10)?,
            from_rv: row.get(11)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db
    }

    fn fill(db: &Connection, count: i64, at_ms: impl Fn(i64) -> i64) {
        let mut insert = db
            .prepare("INSERT INTO history VALUES (?1, ?2, 'u', '', 'create', '', 'pods', '', 'n', 'p', 'created', NULL)")
            .unwrap();
        db.execute_batch("BEGIN").unwrap();
        for rv in 1..=count {
            insert.execute(params![rv, at_ms(rv)]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }

    fn left(db: &Connection) -> (i64, i64) {
        let count = "SELECT count(*), min(rv) FROM history";
        db.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    }

    #[test]
    fn rows_are_bounded_by_number_and_by_age() {
        let db = table();
        fill(&db, MOST_ROWS + 500, |_| 0);
        tidy(&db, 0).unwrap();
        assert_eq!(left(&db), (MOST_ROWS, 501));
        let db = table();
        fill(&db, 10, |rv| rv);
        tidy(&db, MOST_AGE + 4).unwrap();
        assert_eq!(left(&db), (7, 4));
        // The last rows are kept when all are old: somebody may yet ask who was here last.
        tidy(&db, MOST_AGE + 400).unwrap();
        assert_eq!(left(&db), (7, 4));
    }

    #[test]
    fn an_answer_is_bounded() {
        let db = table();
        fill(&db, 1500, |rv| rv);
        let all = Query {
            limit: usize::MAX,
            ..Query::default()
        };
        let rows = read(&db, &all).unwrap();
        assert_eq!(
            (rows.len(), rows.first().map(|r| r.rv)),
            (MOST_ANSWERED, Some(1500))
        );
    }
}
