//! Which nodes a plan does something to, for policy: a row of a group touches all its members, and a table that is
//! replaced touches every node that has a row in it.

use std::collections::BTreeSet;

use state::{RowChange, State, TableId, schema};

use crate::monitor::Deed;
use crate::plan::{Effect, Helper, Plan};

/// Tables whose rows belong to no node and say nothing about who may do what: machines that wait for a name.
const WAITING: [&str; 1] = ["discovered"];
/// The row that all nodes inherit from, in the tables that have it.
const DEFAULTS: &str = "xcatdefaults";

/// What a plan does something to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Nodes in byte order; names of nodes that do not exist yet included.
    pub nodes: Vec<String>,
    /// Also rows that belong to no node.
    pub beyond: bool,
}

impl Plan {
    /// What the plan does something to.
    pub fn touches(&self, state: &State) -> Touched {
        let mut nodes = BTreeSet::new();
        let mut beyond = false;
        match self {
            Plan::FanOut(fan_out) => nodes.extend(fan_out.nodes.iter().cloned()),
            Plan::Adapters(adapters) => nodes.extend(adapters.nodes.iter().cloned()),
            Plan::Change(change) => {
                for change in &change.changes {
                    of_change(state, change, &mut nodes);
                    beyond |= is_beyond(change);
                }
                for effect in &change.effects {
                    if let Effect::Monitor(order) = effect {
                        nodes.extend(order.nodes.iter().cloned());
                    }
                }
            }
            Plan::Helper(Helper::Monitor(asked)) => {
                let order = &asked.1;
                nodes.extend(order.nodes.iter().cloned());
                // Without nodes it is for all of them.
                beyond |= order.nodes.is_empty() && order.deed != Deed::Describe;
            }
            _ => {}
        }
        Touched { nodes: nodes.into_iter().collect(), beyond }
    }
}

fn is_beyond(change: &RowChange) -> bool {
    let table = match change {
        RowChange::Set { table, .. }
        | RowChange::Delete { table, .. }
        | RowChange::Restore { table, .. }
        | RowChange::Clear { table } => table,
        RowChange::ForgetNode { .. } => return false,
    };
    let of_nodes = schema().table(table).is_some_and(|table| schema().def(table).node.is_some());
    !of_nodes && !WAITING.contains(&table.as_str())
}

fn of_change(state: &State, change: &RowChange, nodes: &mut BTreeSet<String>) {
    let table = |name: &str| schema().table(name).filter(|table| schema().def(*table).node.is_some());
    match change {
        RowChange::Set { table: name, key, cells } => {
            let Some(table) = table(name) else { return };
            // A row may get another owner.
            for owner in owner(table, key).into_iter().chain(named(table, cells)) {
                of_owner(state, owner, nodes);
            }
        }
        RowChange::Delete { table: name, key } => {
            if let Some(owner) = table(name).and_then(|table| owner(table, key)) {
                of_owner(state, owner, nodes);
            }
        }
        RowChange::Restore { table: name, cells, .. } => {
            if let Some(owner) = table(name).and_then(|table| named(table, cells)) {
                of_owner(state, owner, nodes);
            }
        }
        RowChange::ForgetNode { node } => {
            nodes.insert(node.clone());
        }
        RowChange::Clear { table: name } => {
            let Some(table) = table(name) else { return };
            let Some(column) = schema().def(table).node else { return };
            for (_, row) in state.table(table).rows() {
                of_owner(state, row.text(column), nodes);
            }
        }
    }
}

fn owner(table: TableId, key: &[String]) -> Option<&str> {
    let def = schema().def(table);
    let at = def.keys.iter().position(|column| Some(*column) == def.node)?;
    key.get(at).map(String::as_str)
}

/// The owner that cells name.
fn named(table: TableId, cells: &[(String, String)]) -> Option<&str> {
    let def = schema().def(table);
    let column = def.columns[def.node?].name;
    cells.iter().find(|(name, owner)| name == column && !owner.is_empty()).map(|(_, owner)| owner.as_str())
}

/// A node is itself, a group its members, the defaults are everybody's, anything else is a node that is being made.
fn of_owner(state: &State, name: &str, nodes: &mut BTreeSet<String>) {
    if name == DEFAULTS {
        nodes.extend(state.node_names().map(str::to_owned));
        return;
    }
    let members = if state.is_node(name) { None } else { state.members(name) };
    match members {
        Some(members) => nodes.extend(members.into_iter().map(str::to_owned)),
        None => {
            nodes.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use state::{Entry, Transaction};

    use super::*;
    use crate::plan::Change;

    #[test]
    fn a_group_row_touches_its_members_and_a_replaced_table_everybody_in_it() {
        let mut state = State::new();
        let changes = vec![
            RowChange::set("nodelist", &["n1"], &[("groups", "all,g")]),
            RowChange::set("nodelist", &["n2"], &[("groups", "all,g")]),
            RowChange::set("nodelist", &["n3"], &[("groups", "all")]),
            RowChange::set("mac", &["n3"], &[("mac", "x")]),
        ];
        state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
        let touches = |changes| Plan::Change(Change { changes, ..Change::default() }).touches(&state).nodes;
        assert_eq!(touches(vec![RowChange::set("nodehm", &["g"], &[("mgt", "x")])]), ["n1", "n2"]);
        assert_eq!(touches(vec![RowChange::set("nodehm", &["n1"], &[("mgt", "x")])]), ["n1"]);
        assert_eq!(touches(vec![RowChange::set("nodelist", &["n9"], &[("groups", "g")])]), ["n9"]);
        assert_eq!(touches(vec![RowChange::Clear { table: "mac".into() }]), ["n3"]);
        let defaults = RowChange::set("postscripts", &["xcatdefaults"], &[("postscripts", "x")]);
        assert_eq!(touches(vec![defaults]), ["n1", "n2", "n3"]);
        let change = |changes| Plan::Change(Change { changes, ..Change::default() }).touches(&state);
        let site = RowChange::set("site", &["domain"], &[("value", "x")]);
        assert_eq!(change(vec![site]), Touched { nodes: Vec::new(), beyond: true });
        assert!(!change(vec![RowChange::set("mac", &["n1"], &[("mac", "x")])]).beyond);
    }
}
