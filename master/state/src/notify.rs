//! How far each registration of the table `notification` was told of changes.
//!
//! A registration has a cursor from the revision that made its row until the row goes or is disabled. It moves by
//! steps in the log only, each of which holds for one registration, one place and one attempt: whoever acts on
//! an old picture changes nothing. Cursors are no rows: moving one makes no revision.
//!
//! Knows nothing of programs and calls. Invariant: everything before [`Cursor::at`] was delivered, given up or not
//! wanted; an attempt that [`Cursor::open`] names was begun by that master and by nobody after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::frame::{decode, encode};
use wire::{Decode, Encode};

use crate::apply::{Applied, State};
use crate::schema::schema;

/// The table whose rows are the registrations.
pub const TABLE: &str = "notification";
/// Most bytes of a text that a step carries.
pub const TEXT: usize = 500;

const KEY: &[u8] = b"n/";

/// A call of a handler, by the revision and its number among all calls that the revision makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Place {
    /// Revision.
    pub revision: u64,
    /// Counts from 0.
    pub call: u32,
}

impl Place {
    /// The first call of a revision.
    #[must_use]
    pub fn first(revision: u64) -> Place {
        Place { revision, call: 0 }
    }

    /// The call behind this one.
    #[must_use]
    pub fn next(self) -> Place {
        Place { call: self.call.saturating_add(1), ..self }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.revision, self.call)
    }
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Trouble {
    /// Where.
    pub at: Place,
    /// Unix seconds at the master that saw it.
    pub time: u64,
    /// One line.
    pub text: String,
}

/// How far a registration is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Cursor {
    /// The revision that made the registration.
    pub since: u64,
    /// The first call that is not done.
    pub at: Place,
    /// How often the call at `at` was begun.
    pub attempt: u32,
    /// How many of these attempts failed.
    pub failures: u32,
    /// The master that carries the last attempt out, as long as its end is not known.
    pub open: Option<u64>,
    /// Calls that were done.
    pub delivered: u64,
    /// Calls that were given up.
    pub given_up: u64,
    /// Attempts of which nobody knows how they ended.
    pub repeated: u64,
    /// The last call that ended was given up.
    pub failing: bool,
    /// What went wrong last.
    pub trouble: Option<Trouble>,
    /// The first and last revision of the newest gap: what they changed was not kept long enough.
    pub gap: Option<(u64, u64)>,
}

/// What happened to a registration's cursor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// The registration.
    pub file: String,
    /// Its [`Cursor::since`].
    pub since: u64,
    /// The call, or where the cursor moves to.
    pub at: Place,
    /// What.
    pub what: What,
}

/// See [`Step`]. Variants are only appended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum What {
    /// A master begins an attempt.
    Begin {
        /// Which master.
        member: u64,
        /// Its number.
        attempt: u32,
    },
    /// The attempt of this number is over.
    End {
        /// Its number.
        attempt: u32,
        /// Unix seconds at the master.
        time: u64,
        /// How.
        end: End,
    },
    /// Nothing before `at` is wanted.
    Pass,
    /// What was wanted before `at` is not kept any more.
    Gap,
}

/// How an attempt ended. Variants are only appended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum End {
    /// The handler has it.
    Delivered,
    /// The handler failed; there will be another attempt.
    Failed(String),
    /// The handler failed and will not be called again for this.
    GivenUp(String),
    /// The handler was never started.
    NotBegun,
    /// Nobody can tell; there will be another attempt.
    Unknown(String),
}

impl Cursor {
    /// Takes a step if it is about what is so now.
    fn take(&mut self, step: &Step) -> bool {
        let here = step.at == self.at;
        match &step.what {
            What::Begin { member, attempt } => {
                let next = here && *attempt == self.attempt.saturating_add(1);
                let ahead = step.at > self.at && *attempt == 1;
                if self.open.is_some() || !next && !ahead {
                    return false;
                }
                if ahead {
                    self.move_to(step.at);
                }
                (self.open, self.attempt) = (Some(*member), *attempt);
            }
            What::End { attempt, time, end } => {
                if !here || *attempt != self.attempt || self.open.is_none() {
                    return false;
                }
                self.open = None;
                let trouble =
                    |text: &str| Some(Trouble { at: step.at, time: *time, text: cut(text).to_owned() });
                match end {
                    End::Delivered => {
                        self.delivered += 1;
                        self.failing = false;
                        self.move_to(step.at.next());
                    }
                    End::Failed(text) => {
                        self.failures += 1;
                        self.trouble = trouble(text);
                    }
                    End::GivenUp(text) => {
                        self.given_up += 1;
                        self.failing = true;
                        self.trouble = trouble(text);
                        self.move_to(step.at.next());
                    }
                    End::NotBegun => {}
                    End::Unknown(text) => {
                        self.repeated += 1;
                        self.trouble = trouble(text);
                    }
                }
            }
            What::Pass | What::Gap => {
                if step.at <= self.at || self.open.is_some() {
                    return false;
                }
                if step.what == What::Gap {
                    self.gap = Some((self.at.revision, step.at.revision.saturating_sub(1)));
                }
                self.move_to(step.at);
            }
        }
        true
    }

    fn move_to(&mut self, at: Place) {
        (self.at, self.attempt, self.failures) = (at, 0, 0);
    }
}

impl State {
    /// The cursors of all registrations.
    #[must_use]
    pub fn cursors(&self) -> &BTreeMap<String, Cursor> {
        &self.cursors
    }

    /// The newest revision that changed a table; 0 when there is no such table.
    #[must_use]
    pub fn changed_at(&self, table: &str) -> u64 {
        schema().table(table).map_or(0, |table| self.changed[table.0])
    }

    pub(crate) fn take_steps(&mut self, steps: &[Step]) -> Applied {
        let mut applied = Applied::default();
        let mut moved = BTreeSet::new();
        for step in steps {
            let cursor = Arc::make_mut(&mut self.cursors)
                .get_mut(&step.file)
                .filter(|cursor| cursor.since == step.since);
            if cursor.is_some_and(|cursor| cursor.take(step)) {
                moved.insert(step.file.as_str());
            }
        }
        for file in moved {
            self.write_cursor(file, &mut applied);
        }
        applied
    }

    /// Begins and ends cursors with the rows of the registrations.
    pub(crate) fn note_registrations(&mut self, applied: &mut Applied) {
        let mut files = BTreeSet::new();
        for event in applied.events.iter().filter(|event| event.table_name() == TABLE) {
            files.extend([event.old_text("filename"), event.new_text("filename")].map(str::to_owned));
        }
        for file in files {
            let registered = self.named(TABLE).is_some_and(|table| {
                table.find(&[&file]).is_some_and(|(_, row)| !file.is_empty() && table.enabled(row))
            });
            match (registered, self.cursors.contains_key(&file)) {
                (true, false) => {
                    let since = self.revision;
                    let cursor = Cursor { since, at: Place::first(since + 1), ..Cursor::default() };
                    Arc::make_mut(&mut self.cursors).insert(file.clone(), cursor);
                }
                (false, true) => {
                    Arc::make_mut(&mut self.cursors).remove(&file);
                }
                _ => continue,
            }
            self.write_cursor(&file, applied);
        }
    }

    fn write_cursor(&self, file: &str, applied: &mut Applied) {
        let value = self.cursors.get(file).and_then(|cursor| encode(cursor).ok());
        applied.writes.push(([KEY, file.as_bytes()].concat(), value));
    }

    /// Reads a pair that a cursor was written as; false when it is another's.
    pub(crate) fn load_cursor(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(file) = key.strip_prefix(KEY) else { return false };
        if let (Ok(file), Ok(cursor)) = (std::str::from_utf8(file), decode::<Cursor>(value)) {
            Arc::make_mut(&mut self.cursors).insert(file.to_owned(), cursor);
        }
        true
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
