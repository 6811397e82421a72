//! What the runner of a registration did last, in a file that outlives the daemon.
//!
//! Invariant: the file belongs to whoever holds its lock. A call is written down before it begins and when it has
//! ended; a call that is not in the file was not begun by whoever held the lock before.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use state::notify::Place;

/// Longest file that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// An attempt at a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The revision that made the registration.
    pub since: u64,
    /// The call's revision.
    pub revision: u64,
    /// Its number there.
    pub call: u32,
    /// The attempt's number.
    pub attempt: u32,
}

impl Attempt {
    /// An attempt of a registration.
    #[must_use]
    pub fn new(since: u64, at: Place, attempt: u32) -> Self {
        Self { since, revision: at.revision, call: at.call, attempt }
    }
}

/// What is known of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was not begun.
    NotBegun,
    /// It was begun, and nobody wrote down its end.
    Begun,
    /// It ended; with what was wrong.
    Ended(Option<String>),
}

#[derive(Serialize, Deserialize)]
struct Line {
    attempt: Attempt,
    ended: bool,
    fault: Option<String>,
}

/// The locked file.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Waits until nobody else has the file.
    ///
    /// # Errors
    /// When it cannot be opened or locked.
    pub fn lock(path: &Path) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        Ok(Self(file))
    }

    /// Writes down that an attempt begins; what was before is forgotten.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn begin(&mut self, attempt: &Attempt) -> std::io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.line(&Line { attempt: attempt.clone(), ended: false, fault: None })
    }

    /// Writes down how it ended.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn end(&mut self, attempt: &Attempt, fault: Option<String>) -> std::io::Result<()> {
        self.line(&Line { attempt: attempt.clone(), ended: true, fault })
    }

    fn line(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.0.write_all(&text)?;
        self.0.sync_data()
    }

    /// What is known of an attempt.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn known(&mut self, attempt: &Attempt) -> std::io::Result<Known> {
        self.0.rewind()?;
        let mut text = Vec::new();
        (&self.0).take(LONGEST).read_to_end(&mut text)?;
        let mut known = Known::NotBegun;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(line) if line.attempt == *attempt => {
                    known = if line.ended { Known::Ended(line.fault) } else { Known::Begun };
                }
                Ok(_) => {}
                // The machine went down while it was written: it may have been this attempt.
                Err(_) if known == Known::NotBegun => known = Known::Begun,
                Err(_) => {}
            }
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_of_an_attempt_is_known_to_whoever_has_the_file_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify/x");
        let attempt = Attempt::new(3, Place { revision: 7, call: 1 }, 2);
        let other = Attempt { attempt: 3, ..attempt.clone() };
        let mut journal = Journal::lock(&path).unwrap();
        assert_eq!(journal.known(&attempt).unwrap(), Known::NotBegun);
        journal.begin(&attempt).unwrap();
        drop(journal);
        let mut journal = Journal::lock(&path).unwrap();
        assert_eq!(journal.known(&attempt).unwrap(), Known::Begun);
        assert_eq!(journal.known(&other).unwrap(), Known::NotBegun);
        journal.end(&attempt, Some("no".into())).unwrap();
        assert_eq!(journal.known(&attempt).unwrap(), Known::Ended(Some("no".into())));
        journal.begin(&other).unwrap();
        assert_eq!(journal.known(&attempt).unwrap(), Known::NotBegun);
        drop(journal);
        std::fs::write(&path, b"{\"atte").unwrap();
        let mut journal = Journal::lock(&path).unwrap();
        assert_eq!(journal.known(&attempt).unwrap(), Known::Begun, "a torn line says nothing for sure");
    }
}
