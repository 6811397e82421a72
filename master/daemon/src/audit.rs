//! Who asked what. What changes something, touches machines or was denied goes through the replicated log;
//! plain questions go to a bounded ring here, whose losses are counted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use service::Counter;
use state::{RowChange, State};

use crate::core::Caller;

/// Questions remembered on this master.
const REMEMBERED: usize = 10_000;

/// A question somebody asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Unix seconds.
    pub time: u64,
    /// Who.
    pub user: String,
    /// Address.
    pub address: String,
    /// The command with its arguments, passwords masked.
    pub command: String,
}

/// The ring of questions.
#[derive(Debug, Default)]
pub struct Questions {
    ring: Mutex<VecDeque<Question>>,
    asked: Counter,
    lost: Counter,
}

impl Questions {
    /// Remembers one; the oldest is lost when the ring is full.
    pub fn remember(&self, question: Question) {
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

    /// The newest ones, newest last.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Question> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().skip(ring.len().saturating_sub(count)).cloned().collect()
    }
}

/// Rows of the audit log that are kept; the oldest go when it is longer.
const ROWS: usize = 100_000;
/// Rows that go at once.
const TRIMMED: usize = 1000;

/// The row of `auditlog` for a request.
#[must_use]
pub fn row(
    caller: &Caller,
    command: &str,
    range: &str,
    argv: &[String],
    verdict: &str,
    now: u64,
) -> RowChange {
    RowChange::set(
        "auditlog",
        &[""],
        &[
            ("audittime", &commands::action::stamp(now)),
            ("userid", &caller.user),
            ("clientname", caller.host()),
            ("clienttype", "cli"),
            ("command", command),
            ("noderange", range),
            ("args", &masked_arguments(argv)),
            ("status", verdict),
        ],
    )
}

/// Changes that drop the oldest rows of an audit log that is too long.
#[must_use]
pub fn trim(state: &State) -> Vec<RowChange> {
    let Some(table) = state.named("auditlog").filter(|table| table.len() > ROWS) else { return Vec::new() };
    table.rows().take(TRIMMED).map(|(_, row)| RowChange::delete("auditlog", &table.key_of(row))).collect()
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
            let question =
                Question { time, user: String::new(), address: String::new(), command: String::new() };
            questions.remember(question);
        }
        assert_eq!(questions.counts(), (REMEMBERED as u64 + 3, 3));
        assert_eq!(questions.newest(1)[0].time, REMEMBERED as u64 + 2);
    }
}
