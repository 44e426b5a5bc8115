//! Opening the database: what it must be, how safe it writes, and its migrations.
//!
//! What enters: the path. What leaves: a connection to a checked database in the newest version, or
//! an error that leaves the file as it was. A released step is never edited: a change is a new step
//! at the end of [`STEPS`].

use super::fault::{Fault, STAGE, damaged};
use crate::base::error::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// How long a write waits for another program that looks into the database, such as a backup.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
/// What the write-ahead log may keep on the disk after a checkpoint.
const WAL_KEPT_BYTES: i64 = 16 * 1024 * 1024;
/// "SPRK", in the header of the file: tells our databases from other programs'.
const APPLICATION_ID: i64 = 0x5350_524B;

/// The step from version N to N + 1 is at index N.
pub(super) const STEPS: &[&str] = &[
    "
    PRAGMA application_id = 1397772875;
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        priority INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        deaths INTEGER NOT NULL DEFAULT 0,
        suspect INTEGER NOT NULL DEFAULT 0,
        record TEXT NOT NULL
    );
    CREATE INDEX jobs_by_state ON jobs (state, number);
    CREATE INDEX jobs_by_end ON jobs (ended_ms) WHERE ended_ms IS NOT NULL;
    CREATE TABLE outbox (
        sequence INTEGER PRIMARY KEY,
        job TEXT NOT NULL,
        body TEXT NOT NULL,
        set_aside_ms INTEGER,
        why TEXT
    );
    CREATE INDEX outbox_due ON outbox (job, sequence) WHERE set_aside_ms IS NULL;
    CREATE INDEX outbox_aside ON outbox (set_aside_ms) WHERE set_aside_ms IS NOT NULL;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('journal.identity', lower(hex(randomblob(16))));
",
    // A record that cannot be read must not keep the journal from opening: CASE looks no further than it
    // has to, AND may.
    "
    ALTER TABLE jobs ADD COLUMN has_output INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET has_output = 1 WHERE ended_ms IS NOT NULL AND CASE
        WHEN typeof(record) <> 'text' THEN 0
        WHEN NOT json_valid(record) THEN 0
        ELSE coalesce(json_extract(record, '$.outputs') <> '{}', 0)
    END;
    CREATE INDEX jobs_by_output ON jobs (has_output, ended_ms) WHERE ended_ms IS NOT NULL;
",
];

/// Opens the database, checks it and brings it to the newest version. `create`: where there is none,
/// an empty one is made.
///
/// # Errors
/// `journal_newer`, `journal_damaged`, `no_space`, `journal_failed`.
pub(super) fn open(database: &Path, create: bool) -> Result<Connection> {
    open_with(database, create, STEPS)
}

fn open_with(database: &Path, create: bool, steps: &[&str]) -> Result<Connection> {
    let opened = || -> Result<Connection, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let flags = if create { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
        let mut db = Connection::open_with_flags(database, flags)?;
        db.busy_timeout(BUSY_LIMIT)?;
        // A file that is refused stays as it is, its log included.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        recognise(&db, database, steps.len())?;
        check(&db, database)?;
        configure(&db, database)?;
        migrate(&mut db, steps)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(db)
    };
    opened().map_err(|fault| fault.told(database))
}

/// Refuses what is not ours, or from a later time. Only reads.
fn recognise(db: &Connection, database: &Path, newest: usize) -> Result<(), Fault> {
    let version = version(db)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || version != 0) {
        return Err(damaged(database, "it is the database of another program").into());
    }
    match usize::try_from(version) {
        Ok(version) if version > newest => Err(newer(database, version, newest).into()),
        Ok(_) => Ok(()),
        Err(_) => Err(damaged(database, &format!("its version is {version}")).into()),
    }
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn newer(database: &Path, version: usize, newest: usize) -> Error {
    let message = format!(
        "the journal {} has version {version}, and this program knows versions up to {newest}",
        database.display()
    );
    Error::new(ErrorKind::Unsupported, "journal_newer", STAGE, message)
        .hint("run the newer program again, or give this one a state folder of its own with paths.state")
}

fn check(db: &Connection, database: &Path) -> Result<(), Fault> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(database, &verdict).into()) }
}

/// FULL: a commit is on the disk when it returns, not only in the system's memory.
fn configure(db: &Connection, database: &Path) -> Result<(), Fault> {
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    // Sorting must not want a temporary file when the disk is full.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let message = format!("the journal {} cannot have a write-ahead log ({mode})", database.display());
        let error = Error::new(ErrorKind::Unsupported, "journal_failed", STAGE, message);
        return Err(error.hint("put the state folder on a local disk").into());
    }
    let _: i64 = db.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT_BYTES, |row| row.get(0))?;
    Ok(())
}

/// All missing steps in one transaction: the database has its old version or the newest.
fn migrate(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let from = usize::try_from(version(db)?).unwrap_or(usize::MAX);
    if from >= steps.len() {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for step in steps.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// Version 1 as it was released. It must not follow changes of [`STEPS`].
    const VERSION_1: &str = "
        PRAGMA application_id = 1397772875;
        CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL, priority INTEGER NOT NULL, created_ms INTEGER NOT NULL, ended_ms INTEGER,
            deaths INTEGER NOT NULL DEFAULT 0, suspect INTEGER NOT NULL DEFAULT 0, record TEXT NOT NULL);
        CREATE INDEX jobs_by_state ON jobs (state, number);
        CREATE INDEX jobs_by_end ON jobs (ended_ms) WHERE ended_ms IS NOT NULL;
        CREATE TABLE outbox (sequence INTEGER PRIMARY KEY, job TEXT NOT NULL, body TEXT NOT NULL,
            set_aside_ms INTEGER, why TEXT);
        CREATE INDEX outbox_due ON outbox (job, sequence) WHERE set_aside_ms IS NULL;
        CREATE INDEX outbox_aside ON outbox (set_aside_ms) WHERE set_aside_ms IS NOT NULL;
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        INSERT INTO meta VALUES ('journal.identity', 'abc');
        PRAGMA user_version = 1;";

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        (dir, path)
    }

    /// Columns and indices, without white space.
    fn shape(db: &Connection) -> Vec<String> {
        let mut rows =
            db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|sql| sql.unwrap().split_whitespace().collect()).collect()
    }

    #[test]
    fn an_empty_place_gets_the_newest_version_and_the_safe_settings() {
        let (_dir, path) = place();
        let db = open(&path, true).unwrap();
        let ask = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(ask("user_version"), STEPS.len() as i64);
        assert_eq!((ask("application_id"), ask("synchronous")), (APPLICATION_ID, 2));
        let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_database_of_version_1_opens_in_the_newest_with_what_is_in_it() {
        let (_dir, path) = place();
        let old = Connection::open(&path).unwrap();
        old.execute_batch(VERSION_1).unwrap();
        let row =
            "INSERT INTO jobs (id, state, priority, created_ms, record) VALUES ('a', 'queued', 5, 7, '{}')";
        old.execute_batch(row).unwrap();
        drop(old);
        let db = open(&path, false).unwrap();
        assert_eq!(version(&db).unwrap(), STEPS.len() as i64);
        let found: (String, i64) = db
            .query_row("SELECT id, created_ms FROM jobs", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(found, ("a".into(), 7));
        let (_dir, path) = place();
        assert_eq!(shape(&db), shape(&open(&path, true).unwrap()), "as one that was made new");
    }

    #[test]
    fn the_outputs_of_version_1_are_found_and_no_record_keeps_the_journal_shut() {
        let (_dir, path) = place();
        let old = Connection::open(&path).unwrap();
        old.execute_batch(VERSION_1).unwrap();
        let deep = format!("'{}'", "[".repeat(5_000));
        let rows = [
            ("with", "7", r#"'{"outputs":{"master":{"uri":"nas://o","path":"/stream/o"}}}'"#, 1),
            ("spaced", "7", r#"'{ "outputs" : { "file" : { } } }'"#, 1),
            ("without", "7", r#"'{"outputs":{}}'"#, 0),
            ("empty", "7", r#"'{ "outputs" : { } }'"#, 0),
            ("live", "NULL", r#"'{"outputs":{"master":{}}}'"#, 0),
            ("older", "7", "'{}'", 0),
            ("null", "7", r#"'{"outputs":null}'"#, 0),
            ("torn", "7", r#"'{"outputs":{"mas'"#, 0),
            ("nothing", "7", "''", 0),
            ("bytes", "7", "x'FF00'", 0),
            ("number", "7", "12", 0),
            ("not utf-8", "7", "CAST(x'7B22FF223A317D' AS TEXT)", 0),
            ("deep", "7", deep.as_str(), 0),
        ];
        for (id, ended_ms, record, _) in &rows {
            let row = format!(
                "INSERT INTO jobs (id, state, priority, created_ms, ended_ms, record) \
                 VALUES ('{id}', 'succeeded', 5, 7, {ended_ms}, {record})"
            );
            old.execute_batch(&row).unwrap();
        }
        drop(old);
        let db = open(&path, false).unwrap();
        for (id, _, _, expected) in rows {
            let ask = "SELECT has_output FROM jobs WHERE id = ?1";
            let found: i64 = db.query_row(ask, [id], |row| row.get(0)).unwrap();
            assert_eq!(found, expected, "{id}");
        }
    }

    #[test]
    fn steps_are_applied_from_the_version_on_and_all_or_none() {
        let (_dir, path) = place();
        drop(open_with(&path, true, &STEPS[..1]).unwrap());
        let first = STEPS[0];
        let failing = [first, "CREATE TABLE extra (x)", "CREATE TABLE extra (x)"];
        assert_eq!(open_with(&path, false, &failing).unwrap_err().code(), "journal_failed");
        let raw = Connection::open(&path).unwrap();
        assert_eq!(version(&raw).unwrap(), 1);
        assert!(!shape(&raw).iter().any(|sql| sql.contains("extra")), "nothing of it stayed");
        drop(raw);
        let db =
            open_with(&path, false, &[first, "CREATE TABLE extra (x)", "CREATE TABLE more (x)"]).unwrap();
        assert_eq!(version(&db).unwrap(), 3);
        drop(db);
        let e = open_with(&path, false, &[first, "CREATE TABLE extra (x)"]).unwrap_err();
        assert_eq!(e.code(), "journal_newer");
    }

    #[test]
    fn a_newer_database_is_refused_and_not_touched_with_its_log() {
        let (dir, path) = place();
        let newer = open(&path, true).unwrap();
        newer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        drop(newer);
        let wal = dir.path().join("journal.db-wal");
        let before = (fs::read(&path).unwrap(), fs::read(&wal).unwrap());
        assert!(!before.1.is_empty(), "the version is in the log only");
        let e = open(&path, true).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Unsupported, "journal_newer"));
        assert!(e.message().contains("99"), "{e}");
        assert!((fs::read(&path).unwrap(), fs::read(&wal).unwrap()) == before);
    }

    #[test]
    fn what_is_not_a_journal_is_refused_with_advice_and_left_alone() {
        let other = |path: &Path| {
            let db = Connection::open(path).unwrap();
            db.execute_batch("CREATE TABLE jobs (theirs)").unwrap();
        };
        let text = |path: &Path| {
            fs::write(path, "not a database, but long enough to be looked at. ".repeat(40)).unwrap()
        };
        let negative = |path: &Path| {
            drop(open(path, true).unwrap());
            Connection::open(path).unwrap().pragma_update(None, "user_version", -3).unwrap();
        };
        for (what, make) in [("other", &other as &dyn Fn(&Path)), ("text", &text), ("negative", &negative)] {
            let (dir, path) = place();
            make(&path);
            let before = fs::read(&path).unwrap();
            let e = open(&path, true).unwrap_err();
            assert_eq!(e.code(), "journal_damaged", "{what}");
            assert!(e.hint_text().unwrap().contains(&*dir.path().to_string_lossy()), "{e}");
            assert!(fs::read(&path).unwrap() == before, "{what}");
        }
    }

    #[test]
    fn damage_inside_is_found_at_the_start() {
        let (_dir, path) = place();
        let db = open(&path, true).unwrap();
        let sql =
            "INSERT INTO jobs (id, state, priority, created_ms, record) VALUES (?1, 'queued', 5, 7, ?2)";
        for n in 0..200 {
            db.execute(sql, (n.to_string(), "x".repeat(300))).unwrap();
        }
        drop(db);
        let mut bytes = fs::read(&path).unwrap();
        let page = 4096;
        assert!(bytes.len() > 12 * page);
        // Every page but the first one, whose header says that it is a database.
        for page in bytes.chunks_mut(page).skip(1) {
            page[..64].fill(0xA5);
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(open(&path, true).unwrap_err().code(), "journal_damaged");
        assert!(fs::read(&path).unwrap() == bytes, "never repaired, never removed");
    }

    #[test]
    fn reopening_makes_nothing() {
        let (_dir, path) = place();
        assert_eq!(open(&path, false).unwrap_err().code(), "journal_failed");
        assert!(!path.exists());
    }
}
