//! Who may do what: the rows of the table `policy`, in the order of their priority.
//!
//! The first rule that holds in every field decides. A rule with a noderange decides when it covers all nodes of
//! the request; an allowing rule that covers some takes them out and the rest is looked at further; a denying rule
//! that covers some denies. No rule: denied. Nothing becomes allowed because a field cannot be read.

mod hours;
mod rule;

use crate::apply::State;
pub use hours::Hours;
pub use rule::{Misfit, Rule, Says};

/// A request to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The name in the caller's certificate; `None` when there is none.
    pub user: Option<&'a str>,
    /// Address of the caller's machine.
    pub host: &'a str,
    /// The command.
    pub command: &'a str,
    /// Its other names.
    pub aliases: &'a [&'a str],
    /// Its arguments.
    pub arguments: &'a [String],
    /// The nodes of the request; empty when it has none.
    pub nodes: &'a [String],
    /// Unix seconds.
    pub time: u64,
}

/// The judgment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// May be done.
    pub allowed: bool,
    /// Priority of the rule that decided; `None`: no rule held.
    pub rule: Option<String>,
    /// The rule is `trusted`: the user name inside the request may be believed.
    pub trusted: bool,
    /// Nodes that it was denied for; empty when it is denied for all, or allowed.
    pub nodes: Vec<String>,
}

/// What became of a rule on the way to a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It does not hold.
    Passed(Misfit),
    /// It allows these nodes; the others are looked at further.
    Takes(Vec<String>),
    /// It decides.
    Decides,
}

/// What xCAT says to a denied request.
pub const DENIED: &str = "Permission denied for request";

/// The rules of a cluster, or those that are to be tried.
#[derive(Debug, Clone)]
pub struct Rules<'a> {
    state: &'a State,
    rules: Vec<Rule>,
}

impl<'a> Rules<'a> {
    /// The rules in the table `policy`.
    pub fn of(state: &'a State) -> Rules<'a> {
        let Some(table) = state.named("policy") else { return Rules::new(state, Vec::new()) };
        let rules = table.rows().filter(|(_, row)| table.enabled(row)).map(|(_, row)| {
            Rule::read(|column| table.def().column(column).map_or("", |column| row.text(column)))
        });
        Rules::new(state, rules.collect())
    }

    /// These rules, for the nodes and groups of `state`. Of rules with equal priorities the first comes first.
    pub fn new(state: &'a State, mut rules: Vec<Rule>) -> Rules<'a> {
        rules.sort_by(|a, b| a.place().total_cmp(&b.place()));
        Rules { state, rules }
    }

    /// In the order in which they are asked.
    pub fn list(&self) -> &[Rule] {
        &self.rules
    }

    /// Judges a request.
    pub fn decide(&self, question: &Question<'_>) -> Verdict {
        self.explain(question, &mut |_, _| ())
    }

    /// Judges a request and tells of each rule that was asked.
    pub fn explain(&self, question: &Question<'_>, tell: &mut dyn FnMut(&Rule, Step)) -> Verdict {
        let mut left: Vec<&str> = question.nodes.iter().map(String::as_str).collect();
        for rule in &self.rules {
            if let Some(misfit) = rule.misfit(self.state, question) {
                tell(rule, Step::Passed(misfit));
                continue;
            }
            match self.covers(rule, &left) {
                Covers::None(misfit) => tell(rule, Step::Passed(misfit)),
                Covers::Some(hit, rest) if rule.says.allows() => {
                    tell(rule, Step::Takes(hit));
                    left = rest;
                }
                Covers::Some(hit, _) => {
                    tell(rule, Step::Decides);
                    return verdict(rule, hit);
                }
                Covers::All => {
                    tell(rule, Step::Decides);
                    return verdict(rule, Vec::new());
                }
            }
        }
        let whole = left.len() == question.nodes.len();
        let nodes = if whole { Vec::new() } else { left.into_iter().map(str::to_owned).collect() };
        Verdict { allowed: false, rule: None, trusted: false, nodes }
    }

    fn covers<'n>(&self, rule: &Rule, left: &[&'n str]) -> Covers<'n> {
        if rule.is_for_all() {
            return Covers::All;
        }
        let covered = match rule.nodes(self.state) {
            Ok(covered) => covered,
            Err(reason) => {
                return rule.unreadable("noderange", reason).map_or(Covers::All, Covers::None);
            }
        };
        if left.is_empty() {
            return Covers::None(Misfit::NoNodes);
        }
        let (hit, rest): (Vec<&str>, Vec<&str>) =
            left.iter().partition(|node| covered.binary_search_by(|known| known.as_str().cmp(node)).is_ok());
        match (hit.is_empty(), rest.is_empty()) {
            (true, _) => Covers::None(Misfit::OtherNodes),
            (_, true) => Covers::All,
            _ => Covers::Some(hit.into_iter().map(str::to_owned).collect(), rest),
        }
    }
}

enum Covers<'n> {
    All,
    Some(Vec<String>, Vec<&'n str>),
    None(Misfit),
}

fn verdict(rule: &Rule, nodes: Vec<String>) -> Verdict {
    Verdict {
        allowed: rule.says.allows(),
        rule: Some(rule.priority.clone()),
        trusted: rule.says == Says::Trust,
        nodes,
    }
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
            host: "10.0.0.1",
            command,
            aliases: &["other"],
            arguments: &["stat".to_owned()],
            nodes: &nodes,
            time: 0,
        };
        let verdict = Rules::of(state).decide(&question);
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
    fn a_row_that_cannot_be_read_never_allows_and_always_denies() {
        let bad = [("noderange", "(n1"), ("parameters", "("), ("time", "soon")];
        for (column, text) in bad {
            let state = state(&[
                ("1", &[(column, text), ("name", "bob"), ("rule", "allow")]),
                ("2", &[(column, text), ("rule", "deny")]),
                ("3", &[("rule", "allow")]),
            ]);
            assert_eq!(ask(&state, "bob", "rpower", &["n1"]), (false, Some("2".into())), "{column}");
        }
    }

    #[test]
    fn a_rule_for_another_name_of_a_command_is_a_rule_for_the_command() {
        let state =
            state(&[("1", &[("commands", "x, other"), ("rule", "deny")]), ("2", &[("rule", "allow")])]);
        assert_eq!(ask(&state, "bob", "rpower", &[]), (false, Some("1".into())));
    }

    #[test]
    fn a_node_that_is_hidden_is_still_denied() {
        let mut state =
            state(&[("1", &[("noderange", "n3"), ("rule", "deny")]), ("2", &[("rule", "allow")])]);
        let changes = vec![RowChange::set("site", &["excludenodes"], &[("value", "n3")])];
        state.apply(2, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
        assert_eq!(ask(&state, "bob", "nodech", &["n3"]), (false, Some("1".into())));
    }
}
