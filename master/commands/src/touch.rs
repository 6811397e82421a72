//! Which nodes a plan does something to, for policy: a row of a group touches all its members, and a table that is
//! replaced touches every node that has a row in it.

use std::collections::BTreeSet;

use state::{RowChange, State, TableId, schema};

use crate::plan::Plan;

impl Plan {
    /// The nodes the plan does something to, in byte order; names of nodes that do not exist yet included.
    pub fn touches(&self, state: &State) -> Vec<String> {
        let mut nodes = BTreeSet::new();
        match self {
            Plan::FanOut(fan_out) => nodes.extend(fan_out.nodes.iter().cloned()),
            Plan::Adapters(adapters) => nodes.extend(adapters.nodes.iter().cloned()),
            Plan::Change(change) => {
                change.changes.iter().for_each(|change| of_change(state, change, &mut nodes));
            }
            _ => {}
        }
        nodes.into_iter().collect()
    }
}

fn of_change(state: &State, change: &RowChange, nodes: &mut BTreeSet<String>) {
    let table = |name: &str| schema().table(name).filter(|table| schema().def(*table).node.is_some());
    match change {
        RowChange::Set { table: name, key, .. } | RowChange::Delete { table: name, key } => {
            if let Some(owner) = table(name).and_then(|table| owner(table, key)) {
                of_owner(state, owner, nodes);
            }
        }
        RowChange::Restore { table: name, cells, .. } => {
            let column = table(name).and_then(|table| schema().def(table).node);
            let column = table(name).zip(column).map(|(table, at)| schema().def(table).columns[at].name);
            let owner = column.and_then(|column| cells.iter().find(|(name, _)| name == column));
            if let Some((_, owner)) = owner {
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

/// A node is itself, a group its members, anything else a node that is being made.
fn of_owner(state: &State, name: &str, nodes: &mut BTreeSet<String>) {
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
        let touches = |changes| Plan::Change(Change { changes, ..Change::default() }).touches(&state);
        assert_eq!(touches(vec![RowChange::set("nodehm", &["g"], &[("mgt", "x")])]), ["n1", "n2"]);
        assert_eq!(touches(vec![RowChange::set("nodehm", &["n1"], &[("mgt", "x")])]), ["n1"]);
        assert_eq!(touches(vec![RowChange::set("nodelist", &["n9"], &[("groups", "g")])]), ["n9"]);
        assert_eq!(touches(vec![RowChange::Clear { table: "mac".into() }]), ["n3"]);
        assert!(touches(vec![RowChange::set("site", &["domain"], &[("value", "x")])]).is_empty());
    }
}
