//! What an enrolled node reports, as rows.

use wire::agent::{Booted, Report};
use wire::hardware::Adapter;

use super::inventory::{self, changed};
use super::machine::text;
use super::{Notice, Outcome, Times, Verdict, Write, adapters, calendar, chain, waits};
use crate::view::{Tables, column, in_scope, site_value};

/// Longest status word.
const MAX_STATUS: usize = 64;
/// Most host keys that are kept.
const MAX_HOST_KEYS: usize = 16;

/// A node's report. Its name comes from its certificate; `rack` must be its service node.
pub(super) fn report(
    tables: &dyn Tables,
    rack: &str,
    node: &str,
    report: &Report,
    at: u64,
    times: Times,
) -> Verdict {
    if !tables.is_node(node) {
        return Verdict::rejected(format!("node {node} is not defined"));
    }
    if !in_scope(tables, node, rack) {
        let reason = format!("node {node} does not belong to service node {rack}");
        let what = format!("report for node {node}, which does not belong to it");
        return Verdict::refused(rack, &what, Outcome::Rejected(reason));
    }
    // A report may have waited at its service node; it cannot come from the future.
    let when = at.min(times.wall);
    match report {
        Report::Adapters(list) => adapters_report(tables, node, list, times),
        Report::Hardware(hardware) => stored(inventory::hardware(tables, node, hardware)),
        Report::Status(word) => match status_word(word) {
            Some(word) => stored(status(tables, node, word, when)),
            None => Verdict::rejected("a status is one to 64 letters, digits, blanks, dashes or parentheses"),
        },
        Report::NextDestiny { done, status } => next_destiny(tables, node, done, *status, when),
        Report::Booted(booted) => stored(booted_report(tables, node, booted, when)),
        Report::HostKeys(keys) => {
            let keys: Vec<String> =
                keys.iter().take(MAX_HOST_KEYS).map(|key| key.trim().chars().take(2048).collect()).collect();
            let row = tables.row("identity", &[node]).unwrap_or_default();
            let value = keys.join("|");
            if column(&row, "hostkeys") == value || value.chars().any(char::is_control) {
                return stored(Vec::new());
            }
            stored(vec![Write::node("identity", node, vec![("hostkeys", value)])])
        }
    }
}

fn stored(writes: Vec<Write>) -> Verdict {
    Verdict::new(Outcome::Stored, writes)
}

fn adapters_report(tables: &dyn Tables, node: &str, list: &[Adapter], times: Times) -> Verdict {
    if let Some(reason) = adapters::fault(list) {
        return Verdict::rejected(reason);
    }
    let value = adapters::column_value(list);
    let mut verdict = stored(Vec::new());
    if let Some(value) = &value {
        verdict.writes.extend(changed(tables, "nics", node, vec![("nicsadapter", value.clone())]));
    }
    let answered = waits::answered(tables, node, value.as_deref().unwrap_or_default(), times);
    if !answered.is_empty() {
        verdict.writes.extend(answered);
        verdict.notices.push(Notice::Adapters {
            node: node.to_owned(),
            lines: adapters::lines(node, list),
            stored: value.is_some(),
        });
    }
    verdict
}

/// The next step of the chain. A report that was sent again names a step that is over: it changes nothing.
fn next_destiny(tables: &dyn Tables, node: &str, done: &str, status: i32, when: u64) -> Verdict {
    let text = |column| tables.attribute(node, "chain", column);
    let state = text("currstate");
    if done != state {
        return stored(Vec::new());
    }
    let step = chain::next(&state, &text("currchain"), &text("chain"));
    let mut writes = chain::writes(tables, node, &step, when);
    if status != 0 {
        let what = format!("step '{}' of node {node} ended with status {status}", self::text(done));
        writes.push(Write::Audit { who: node.to_owned(), what, allowed: true });
    }
    stored(writes)
}

fn booted_report(tables: &dyn Tables, node: &str, booted: &Booted, when: u64) -> Vec<Write> {
    let failed: Vec<String> = booted
        .failed_steps
        .iter()
        .take(64)
        .map(|(step, reason)| format!("{}: {}", text(step), text(reason)))
        .collect();
    let mut writes = status(tables, node, "booted", when);
    writes.push(Write::node(
        "selfconf",
        node,
        vec![
            ("generation", booted.generation.to_string()),
            ("failedsteps", failed.join("; ")),
            ("startstatus", booted.start_status.map(|status| status.to_string()).unwrap_or_default()),
            ("reported", calendar::stamp(when)),
        ],
    ));
    writes
}

/// `nodelist.status` and its time; nothing when it is so already or the site does not want it.
pub(super) fn status(tables: &dyn Tables, node: &str, word: &str, when: u64) -> Vec<Write> {
    let unwanted = matches!(site_value(tables, "nodestatus").to_lowercase().as_str(), "n" | "no" | "0");
    if unwanted || tables.attribute(node, "nodelist", "status") == word {
        return Vec::new();
    }
    let values = vec![("status", word.to_owned()), ("statustime", calendar::stamp(when))];
    vec![Write::node("nodelist", node, values)]
}

fn status_word(word: &str) -> Option<&str> {
    let word = word.trim();
    let good = |letter: char| letter.is_ascii_alphanumeric() || " -_()%".contains(letter);
    (!word.is_empty() && word.len() <= MAX_STATUS && word.chars().all(good)).then_some(word)
}
