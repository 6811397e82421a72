//! A small file beside the database that remembers how far the log went, so that a database which comes
//! back older than it was (a lost write-ahead log, a restored folder) is noticed before it votes.
//!
//! Invariant: what the file says was on the disk before the file was written; a log never falls behind
//! it in (term of the last entry, index of the last entry), not even when entries are replaced.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::StorageError;
use crate::db::Position;

const NAME: &str = "high-water";
const NEW: &str = "high-water.new";

/// How far the log went and which term was voted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HighWater {
    pub(crate) term: u64,
    pub(crate) last: Position,
}

/// The file.
pub(crate) struct Mark {
    directory: PathBuf,
    written: HighWater,
}

impl Mark {
    /// Compares what the database says with what it said before.
    pub(crate) fn check(directory: &Path, now: HighWater) -> Result<Self, StorageError> {
        let before = match std::fs::read_to_string(directory.join(NAME)) {
            Ok(text) => parse(&text).ok_or_else(|| StorageError::Damaged(format!("{NAME} is malformed")))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HighWater::default(),
            Err(source) => return Err(StorageError::System { attempt: "read the high-water file", source }),
        };
        let order = |position: Position| (position.term, position.index);
        if now.term < before.term || order(now.last) < order(before.last) {
            return Err(StorageError::Amnesia {
                found: format!("entry {} of term {}", now.last.index, now.last.term),
                before: format!("entry {} of term {}", before.last.index, before.last.term),
            });
        }
        Ok(Self { directory: directory.to_owned(), written: before })
    }

    /// Whether a vote or a new term is not in the file yet.
    pub(crate) fn is_behind(&self, now: HighWater) -> bool {
        now.term != self.written.term
    }

    /// Replaces the file, down to the disk, if there is something new.
    pub(crate) fn write(&mut self, now: HighWater) -> Result<(), StorageError> {
        if now == self.written {
            return Ok(());
        }
        let attempt = "write the high-water file";
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::StorageFull => StorageError::DiskFull { attempt },
            _ => StorageError::System { attempt, source },
        };
        let (new, place) = (self.directory.join(NEW), self.directory.join(NAME));
        let mut file = File::create(&new).map_err(failed)?;
        let HighWater { term, last } = now;
        let line = format!("term {term} last {} {}\n", last.term, last.index);
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, &place).map_err(failed)?;
        File::open(&self.directory).and_then(|folder| folder.sync_all()).map_err(failed)?;
        self.written = now;
        Ok(())
    }
}

fn parse(text: &str) -> Option<HighWater> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["term", term, "last", last_term, index] = words[..] else { return None };
    let last = Position { index: index.parse().ok()?, term: last_term.parse().ok()? };
    Some(HighWater { term: term.parse().ok()?, last })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(term: u64, last_term: u64, index: u64) -> HighWater {
        HighWater { term, last: Position { index, term: last_term } }
    }

    #[test]
    fn a_log_that_is_older_than_the_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        Mark::check(directory.path(), at(0, 0, 0)).unwrap().write(at(3, 2, 10)).unwrap();
        for older in [at(2, 2, 10), at(3, 2, 9), at(3, 1, 20), at(0, 0, 0)] {
            assert!(matches!(Mark::check(directory.path(), older), Err(StorageError::Amnesia { .. })));
        }
        // Entries of a lost leader may be replaced by fewer of a newer one.
        for newer in [at(3, 2, 10), at(4, 2, 10), at(4, 4, 5)] {
            Mark::check(directory.path(), newer).unwrap();
        }
    }

    #[test]
    fn a_file_of_noise_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(NAME), "term x").unwrap();
        assert!(matches!(Mark::check(directory.path(), at(0, 0, 0)), Err(StorageError::Damaged(_))));
    }
}
