//! Who may do what: the rows of the table `policy`, in the order of their priority.
//!
//! The first row that matches in every field decides. A row with a noderange decides when it covers all nodes of
//! the request; an allowing row that covers some takes them out and the rest is looked at further; a denying row
//! that covers some denies. No row: denied.

use noderange::Options;

use crate::apply::State;
use crate::groups::Files;
use crate::row::Row;

/// A request to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The name in the caller's certificate; `None` when there is none.
    pub user: Option<&'a str>,
    /// Names and address of the caller's machine.
    pub hosts: &'a [String],
    /// The command.
    pub command: &'a str,
    /// Its arguments.
    pub arguments: &'a [String],
    /// The nodes of the request; empty when it has none.
    pub nodes: &'a [String],
}

/// The judgment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// May be done.
    pub allowed: bool,
    /// Priority of the row that decided; `None`: no row matched.
    pub rule: Option<String>,
    /// The rule is `trusted`: the user name inside the request may be believed.
    pub trusted: bool,
}

/// What xCAT says to a denied request.
pub const DENIED: &str = "Permission denied for request";

/// Judges a request.
pub fn decide(state: &State, question: &Question<'_>) -> Verdict {
    let no = Verdict { allowed: false, rule: None, trusted: false };
    let Some(table) = state.named("policy") else { return no };
    let def = table.def();
    let columns = ["priority", "name", "host", "commands", "noderange", "parameters", "rule"];
    let [priority, name, host, commands, range, parameters, rule] =
        columns.map(|column| def.column(column).unwrap_or(usize::MAX));
    let mut rows: Vec<(f64, &Row)> = table
        .rows()
        .filter(|(_, row)| table.enabled(row))
        .map(|(_, row)| (row.text(priority).parse().unwrap_or(f64::MAX), row))
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut left: Vec<&str> = question.nodes.iter().map(String::as_str).collect();
    for (_, row) in rows {
        let fits = fits_name(row.text(name), question.user)
            && fits_list(row.text(host), question.hosts)
            && fits_command(row.text(commands), question.command)
            && fits_parameters(row.text(parameters), question.arguments);
        if !fits {
            continue;
        }
        let text = row.text(rule).to_ascii_lowercase();
        let trusted = text.contains("trusted");
        let allowed = trusted || text.contains("allow") || text.contains("accept");
        let verdict = Verdict { allowed, rule: Some(row.text(priority).to_owned()), trusted };
        let wanted = row.text(range);
        if wanted.is_empty() || wanted == "*" {
            return verdict;
        }
        let Ok(covered) = state.expand(wanted, &Files::new(), &Options::default()) else {
            // A rule that cannot be read must not widen what is allowed.
            if allowed {
                continue;
            }
            return verdict;
        };
        let (hit, rest): (Vec<&str>, Vec<&str>) =
            left.iter().partition(|node| covered.nodes.binary_search_by(|n| n.as_str().cmp(node)).is_ok());
        if hit.is_empty() {
            continue;
        }
        if rest.is_empty() || !allowed {
            return verdict;
        }
        left = rest;
    }
    no
}

fn fits_name(field: &str, user: Option<&str>) -> bool {
    match field {
        "" => true,
        "*" => user.is_some(),
        list => user.is_some_and(|user| list.split(',').any(|name| name == user)),
    }
}

fn fits_list(field: &str, hosts: &[String]) -> bool {
    field.is_empty() || field == "*" || field.split(',').any(|name| hosts.iter().any(|host| host == name))
}

fn fits_command(field: &str, command: &str) -> bool {
    field.is_empty() || field == "*" || field.split(',').any(|name| name == command)
}

fn fits_parameters(field: &str, arguments: &[String]) -> bool {
    if field.is_empty() || field == "*" {
        return true;
    }
    let built = regex::RegexBuilder::new(field).size_limit(1 << 20).build();
    built.is_ok_and(|regex| regex.is_match(&arguments.join(" ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Entry, RowChange, Transaction};

    fn state(rows: &[(&str, &[(&str, &str)])]) -> State {
        let mut state = State::new();
        let mut changes: Vec<RowChange> =
            rows.iter().map(|(priority, cells)| RowChange::set("policy", &[priority], cells)).collect();
        for node in ["n1", "n2", "n3"] {
            changes.push(RowChange::set("nodelist", &[node], &[("groups", "all")]));
        }
        state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
        state
    }

    fn ask(state: &State, user: &str, command: &str, nodes: &[&str]) -> (bool, Option<String>) {
        let nodes: Vec<String> = nodes.iter().map(|n| (*n).to_owned()).collect();
        let question = Question {
            user: Some(user),
            hosts: &[],
            command,
            arguments: &["stat".to_owned()],
            nodes: &nodes,
        };
        let verdict = decide(state, &question);
        (verdict.allowed, verdict.rule)
    }

    #[test]
    fn the_lowest_matching_priority_decides_by_number() {
        let state = state(&[
            ("10", &[("name", "bob"), ("rule", "deny")]),
            ("9", &[("name", "bob"), ("commands", "nodels,rpower"), ("rule", "allow")]),
        ]);
        assert_eq!(ask(&state, "bob", "nodels", &[]), (true, Some("9".into())));
        assert_eq!(ask(&state, "bob", "noderm", &[]), (false, Some("10".into())));
        assert_eq!(ask(&state, "eve", "nodels", &[]), (false, None));
    }

    #[test]
    fn an_allowing_row_for_some_nodes_leaves_the_rest_to_later_rows() {
        let state = state(&[
            ("1", &[("name", "bob"), ("noderange", "n1"), ("rule", "allow")]),
            ("2", &[("name", "bob"), ("noderange", "n2"), ("rule", "allow")]),
        ]);
        assert_eq!(ask(&state, "bob", "rpower", &["n1", "n2"]), (true, Some("2".into())));
        assert_eq!(ask(&state, "bob", "rpower", &["n1", "n3"]), (false, None));
        assert_eq!(ask(&state, "bob", "rpower", &[]), (false, None));
    }

    #[test]
    fn a_denying_row_that_hits_one_node_denies_all() {
        let state = state(&[("1", &[("noderange", "n3"), ("rule", "deny")]), ("2", &[("rule", "allow")])]);
        assert_eq!(ask(&state, "bob", "rpower", &["n1", "n3"]), (false, Some("1".into())));
        assert_eq!(ask(&state, "bob", "rpower", &["n1"]), (true, Some("2".into())));
    }

    #[test]
    fn a_row_that_cannot_be_read_never_allows() {
        let state = state(&[
            ("1", &[("noderange", "(n1"), ("rule", "allow")]),
            ("2", &[("parameters", "("), ("rule", "allow")]),
        ]);
        assert_eq!(ask(&state, "bob", "rpower", &["n1"]), (false, None));
    }
}
