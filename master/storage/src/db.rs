//! The database: one RocksDB with the column families `log`, `meta` and two for the state, of which one
//! is current (the other one takes an arriving snapshot).

use std::path::Path;

use prost::Message as _;
use raft::eraftpb::{ConfState, HardState};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    IteratorMode, Options, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use crate::StorageError;

const LOG: &str = "log";
const META: &str = "meta";
const STATE: [&str; 2] = ["state-a", "state-b"];

const HARD_STATE: &[u8] = b"hard-state";
const CONF_STATE: &[u8] = b"conf-state";
const APPLIED: &[u8] = b"applied";
const TRUNCATED: &[u8] = b"truncated";
const CURRENT: &[u8] = b"current-state";
const OWNER: &[u8] = b"owner";

const MIB: usize = 1024 * 1024;
/// What a master may spend on the database's memory: write buffers of all column families and the cache.
const WRITE_BUFFER: usize = 4 * MIB;
const ALL_WRITE_BUFFERS: usize = 16 * MIB;
const BLOCK_CACHE: usize = 8 * MIB;
const MAX_WAL: u64 = 32 * 1024 * 1024;
const MAX_OPEN_FILES: i32 = 64;

/// Index and term of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// A key and its value.
type Row = (Box<[u8]>, Box<[u8]>);

/// The opened database.
pub(crate) struct Db {
    rocks: DB,
}

/// Writes that reach the disk together.
#[derive(Default)]
pub(crate) struct Batch(WriteBatch);

/// What `meta` holds, as it was found at the start.
pub(crate) struct Meta {
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    pub(crate) applied: Position,
    pub(crate) truncated: Position,
    pub(crate) current: usize,
}

impl Db {
    pub(crate) fn open(directory: &Path) -> Result<Self, StorageError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        // A torn last record is a write that nobody was told of; damage before it is an error.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_recycle_log_file_num(0);
        options.set_db_write_buffer_size(ALL_WRITE_BUFFERS);
        options.set_max_total_wal_size(MAX_WAL);
        options.set_max_open_files(MAX_OPEN_FILES);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(MIB);
        options.set_stats_dump_period_sec(0);
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let family = |name: &str| {
            let mut blocks = BlockBasedOptions::default();
            blocks.set_block_cache(&cache);
            let mut options = Options::default();
            options.set_write_buffer_size(WRITE_BUFFER);
            options.set_max_write_buffer_number(2);
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_block_based_table_factory(&blocks);
            ColumnFamilyDescriptor::new(name, options)
        };
        let families = [LOG, META, STATE[0], STATE[1]].map(family);
        let rocks = DB::open_cf_descriptors(&options, directory, families).map_err(failed("open it"))?;
        Ok(Self { rocks })
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.rocks.cf_handle(name).expect("every column family is named when the database is opened")
    }

    pub(crate) fn write(&self, batch: Batch, sync: bool, attempt: &'static str) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.rocks.write_opt(batch.0, &options).map_err(failed(attempt))
    }

    pub(crate) fn meta(&self) -> Result<Meta, StorageError> {
        let get = |key| self.rocks.get_cf(self.family(META), key).map_err(failed("read its head"));
        Ok(Meta {
            hard_state: decoded(get(HARD_STATE)?.as_deref())?,
            conf_state: decoded(get(CONF_STATE)?.as_deref())?,
            applied: position(get(APPLIED)?.as_deref())?,
            truncated: position(get(TRUNCATED)?.as_deref())?,
            current: current(get(CURRENT)?.as_deref())?,
        })
    }

    /// Who this database belongs to; `None` when it is new.
    pub(crate) fn owner(&self) -> Result<Option<String>, StorageError> {
        let owner = self.rocks.get_cf(self.family(META), OWNER).map_err(failed("read its owner"))?;
        Ok(owner.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// One entry of the log.
    pub(crate) fn entry(&self, index: u64) -> Result<Option<raft::eraftpb::Entry>, StorageError> {
        let bytes = self.rocks.get_pinned_cf(self.family(LOG), index.to_be_bytes());
        match bytes.map_err(failed("read the log"))? {
            Some(bytes) => decoded(Some(&bytes)).map(Some),
            None => Ok(None),
        }
    }

    /// The last entry of the log.
    pub(crate) fn last_entry(&self) -> Result<Option<raft::eraftpb::Entry>, StorageError> {
        match self.rocks.iterator_cf(self.family(LOG), IteratorMode::End).next() {
            Some(row) => decoded(Some(&row.map_err(failed("read the log"))?.1)).map(Some),
            None => Ok(None),
        }
    }

    /// Every row of the state. Stops at the first row that cannot be read; `fault` says so then.
    pub(crate) fn rows<'a>(
        &'a self,
        current: usize,
        fault: &'a mut Option<StorageError>,
    ) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + 'a {
        let rows = self.rocks.iterator_cf(self.family(STATE[current]), IteratorMode::Start);
        rows.map_while(move |row| match row {
            Ok((key, value)) => Some((key.into_vec(), value.into_vec())),
            Err(source) => {
                *fault = Some(failed("read the state")(source));
                None
            }
        })
    }

    /// A frozen view of applied position, members and rows that belong together.
    pub(crate) fn frozen(&self) -> Result<Frozen<'_>, StorageError> {
        let view = self.rocks.snapshot();
        let get = |key| view.get_cf(self.family(META), key).map_err(failed("read its head"));
        let (applied, conf) = (position(get(APPLIED)?.as_deref())?, decoded(get(CONF_STATE)?.as_deref())?);
        let current = current(get(CURRENT)?.as_deref())?;
        Ok(Frozen { db: self, view, applied, conf, current })
    }
}

/// See [`Db::frozen`].
pub(crate) struct Frozen<'a> {
    db: &'a Db,
    view: SnapshotWithThreadMode<'a, DB>,
    pub(crate) applied: Position,
    pub(crate) conf: ConfState,
    current: usize,
}

impl Frozen<'_> {
    /// Rows from one key up to but not including another, in either direction, until `each` says false.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
        backwards: bool,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let family = self.db.family(STATE[self.current]);
        let mut bounds = rocksdb::ReadOptions::default();
        bounds.set_iterate_range(from.to_vec()..to.to_vec());
        bounds.fill_cache(false);
        let mode = if backwards { IteratorMode::End } else { IteratorMode::Start };
        for row in self.view.iterator_cf_opt(family, bounds, mode) {
            let (key, value) = row.map_err(failed("read the state"))?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Row, StorageError>> + '_ {
        let family = self.db.family(STATE[self.current]);
        self.view.iterator_cf(family, IteratorMode::Start).map(|row| row.map_err(failed("read the state")))
    }
}

impl Batch {
    pub(crate) fn append(&mut self, db: &Db, entry: &raft::eraftpb::Entry) {
        self.0.put_cf(db.family(LOG), entry.index.to_be_bytes(), entry.encode_to_vec());
    }

    /// Takes the entries from `from` up to but not including `to` out of the log.
    pub(crate) fn cut(&mut self, db: &Db, from: u64, to: u64) {
        self.0.delete_range_cf(db.family(LOG), from.to_be_bytes(), to.to_be_bytes());
    }

    pub(crate) fn hard_state(&mut self, db: &Db, value: &HardState) {
        self.0.put_cf(db.family(META), HARD_STATE, value.encode_to_vec());
    }

    pub(crate) fn conf_state(&mut self, db: &Db, value: &ConfState) {
        self.0.put_cf(db.family(META), CONF_STATE, value.encode_to_vec());
    }

    pub(crate) fn applied(&mut self, db: &Db, value: Position) {
        self.0.put_cf(db.family(META), APPLIED, bytes(value));
    }

    pub(crate) fn truncated(&mut self, db: &Db, value: Position) {
        self.0.put_cf(db.family(META), TRUNCATED, bytes(value));
    }

    pub(crate) fn owner(&mut self, db: &Db, owner: &str) {
        self.0.put_cf(db.family(META), OWNER, owner);
    }

    pub(crate) fn current(&mut self, db: &Db, current: usize) {
        self.0.put_cf(db.family(META), CURRENT, [u8::from(current == 1)]);
    }

    pub(crate) fn row(&mut self, db: &Db, current: usize, key: &[u8], value: Option<&[u8]>) {
        let family = db.family(STATE[current]);
        match value {
            Some(value) => self.0.put_cf(family, key, value),
            None => self.0.delete_cf(family, key),
        }
    }

    /// Takes every row out of one of the state's column families.
    pub(crate) fn clear(&mut self, db: &Db, current: usize) -> Result<(), StorageError> {
        let family = db.family(STATE[current]);
        if let Some(last) = db.rocks.iterator_cf(family, IteratorMode::End).next() {
            let (mut end, _) =
                last.map(|(key, value)| (key.into_vec(), value)).map_err(failed("read the state"))?;
            end.push(0);
            self.0.delete_range_cf(family, Vec::new(), end);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names the attempt, and tells a full file system from other trouble.
fn failed(attempt: &'static str) -> impl Fn(rocksdb::Error) -> StorageError {
    move |source| {
        let text = source.to_string();
        if text.contains("No space left on device") || text.contains("NoSpace") || text.contains("Disk quota")
        {
            StorageError::DiskFull { attempt }
        } else {
            StorageError::Database { attempt, source }
        }
    }
}

fn decoded<T: prost::Message + Default>(bytes: Option<&[u8]>) -> Result<T, StorageError> {
    match bytes {
        Some(bytes) => T::decode(bytes).map_err(|error| StorageError::Damaged(error.to_string())),
        None => Ok(T::default()),
    }
}

fn bytes(position: Position) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&position.index.to_be_bytes());
    out[8..].copy_from_slice(&position.term.to_be_bytes());
    out
}

fn position(found: Option<&[u8]>) -> Result<Position, StorageError> {
    let Some(found) = found else { return Ok(Position::default()) };
    match (found.first_chunk::<8>(), found.last_chunk::<8>(), found.len()) {
        (Some(index), Some(term), 16) => {
            Ok(Position { index: u64::from_be_bytes(*index), term: u64::from_be_bytes(*term) })
        }
        _ => Err(StorageError::Damaged("a position of the log is malformed".to_owned())),
    }
}

fn current(found: Option<&[u8]>) -> Result<usize, StorageError> {
    match found {
        None | Some([0]) => Ok(0),
        Some([1]) => Ok(1),
        Some(_) => Err(StorageError::Damaged("the current state is malformed".to_owned())),
    }
}
