//! Who asked what. What changes something, touches machines or was denied goes through the replicated log;
//! plain questions go to a bounded ring here, whose losses are counted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use commands::judge::Judgment;
use commands::{Command, Record};
use service::Counter;
use state::{RowChange, State};

use crate::core::Caller;

/// Questions remembered on this master.
const REMEMBERED: usize = 10_000;

/// The ring of questions.
#[derive(Debug, Default)]
pub struct Questions {
    ring: Mutex<VecDeque<Record>>,
    asked: Counter,
    lost: Counter,
}

impl Questions {
    /// Remembers one; the oldest is lost when the ring is full.
    pub fn remember(&self, question: Record) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= REMEMBERED {
            ring.pop_front();
            self.lost.one();
        }
        ring.push_back(question);
        self.asked.one();
    }

    /// How many were asked, and how many of them are no longer remembered.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.asked.value(), self.lost.value())
    }

    /// All that are remembered, newest last.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Tables of what happened.
const LOGS: [&str; 2] = ["auditlog", "eventlog"];
/// Rows of each that are kept; the oldest go when it is longer.
const ROWS: usize = 100_000;
/// Rows that go at once.
const TRIMMED: usize = 1000;
/// The only kind of client there is.
pub const CLIENT: &str = "cli";

/// What is written down of a request.
#[must_use]
pub fn record(
    caller: &Caller,
    (command, argv): (&Command, &[String]),
    judgment: Option<&Judgment>,
    now: u64,
) -> Record {
    let touched = judgment.map_or(&[][..], |judgment| judgment.touched.nodes.as_slice());
    Record {
        time: now,
        user: caller.user.clone(),
        host: caller.host().to_owned(),
        command: command.name.to_owned(),
        range: cut(command.range_text(argv).unwrap_or_default().into_owned()),
        args: masked_arguments(argv),
        status: String::new(),
        rule: judgment.and_then(|judgment| judgment.verdict.rule.clone()).unwrap_or_default(),
        touched: if touched.len() > TOUCHED { String::new() } else { short(noderange::fold(touched)) },
        beyond: judgment.is_some_and(|judgment| judgment.touched.beyond),
    }
}

/// The row of `auditlog` for a request.
#[must_use]
pub fn row(record: &Record, verdict: &str) -> RowChange {
    RowChange::set(
        "auditlog",
        &[""],
        &[
            ("audittime", &commands::action::stamp(record.time)),
            ("userid", &record.user),
            ("clientname", &record.host),
            ("clienttype", CLIENT),
            ("command", &record.command),
            ("noderange", &record.range),
            ("args", &record.args),
            ("status", verdict),
            ("rule", &record.rule),
            ("touched", &record.touched),
            ("beyond", if record.beyond { "1" } else { "" }),
        ],
    )
}

/// Changes that drop the oldest rows of logs that are too long.
#[must_use]
pub fn trim(state: &State) -> Vec<RowChange> {
    let long = |name: &&str| state.named(name).filter(|table| table.len() > ROWS);
    let tables = LOGS.iter().filter_map(|name| Some((name, long(name)?)));
    let oldest = tables.map(|(name, table)| {
        table.rows().take(TRIMMED).map(move |(_, row)| RowChange::delete(name, &table.key_of(row)))
    });
    oldest.flatten().collect()
}

/// The command line as it is written down: values of passwords and tokens are masked.
#[must_use]
pub fn masked(command: &str, argv: &[String]) -> String {
    let mut line = command.to_owned();
    for argument in argv {
        line.push(' ');
        line.push_str(&masked_word(argument));
    }
    cut(line)
}

/// Arguments as they are written down.
#[must_use]
pub fn masked_arguments(argv: &[String]) -> String {
    cut(argv.iter().map(|argument| masked_word(argument)).collect::<Vec<_>>().join(" "))
}

fn masked_word(word: &str) -> String {
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["password", "passwd", "secret", "token", "community", "authkey", "privkey"]
            .iter()
            .any(|part| name.contains(part))
    };
    match word.split_once('=') {
        Some((name, value)) if secret(name) && !value.is_empty() => format!("{name}=***"),
        _ => word.to_owned(),
    }
}

/// No audit line is longer than this.
const LONGEST: usize = 4096;
/// More nodes than these are not written down one by one.
const TOUCHED: usize = 2000;

/// Half a noderange would be another one: the whole or nothing.
fn short(range: String) -> String {
    if range.len() > LONGEST { String::new() } else { range }
}

fn cut(mut line: String) -> String {
    if line.len() > LONGEST {
        let mut end = LONGEST;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_are_not_written_down() {
        let argv = ["n1", "ipmi.password=calvin", "ipmi.bmc=n1-bmc", "password="].map(str::to_owned);
        assert_eq!(masked("nodech", &argv), "nodech n1 ipmi.password=*** ipmi.bmc=n1-bmc password=");
    }

    #[test]
    fn a_full_ring_loses_the_oldest_and_counts_it() {
        let questions = Questions::default();
        for time in 0..REMEMBERED as u64 + 3 {
            questions.remember(Record { time, ..Record::default() });
        }
        assert_eq!(questions.counts(), (REMEMBERED as u64 + 3, 3));
        assert_eq!(questions.all().last().unwrap().time, REMEMBERED as u64 + 2);
    }
}
