//! The state as projections and discovery read it.

use super::{Row, Tables};
use crate::apply::State;
use crate::schema::{TableId, schema};

/// Tables in which the rows of a node and of all its groups count together.
const TOGETHER: &[&str] = &["nodemounts", "useraccounts", "noderoutes"];

/// A stored row by column names.
pub(crate) fn row_of(table: TableId, row: &crate::row::Row) -> Row {
    let def = schema().def(table);
    row.values().map(|(column, text)| (def.columns[column].name.to_owned(), text.to_owned())).collect()
}

impl Tables for State {
    fn attribute(&self, node: &str, table: &str, column: &str) -> String {
        let Some(table) = schema().table(table) else { return String::new() };
        let Some(column) = schema().def(table).column(column) else { return String::new() };
        self.value(node, table, column).map(|found| found.text.into_owned()).unwrap_or_default()
    }

    fn node_rows(&self, node: &str, table: &str) -> Vec<Row> {
        let rows = if TOGETHER.contains(&table) {
            self.all_rows(node, table)
        } else {
            State::rows(self, node, table)
        };
        let named = |row: std::collections::BTreeMap<&'static str, String>| {
            row.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
        };
        rows.into_iter().map(named).collect()
    }

    fn row(&self, table: &str, key: &[&str]) -> Option<Row> {
        let id = schema().table(table)?;
        let table = self.table(id);
        let (_, row) = table.find(key)?;
        table.enabled(row).then(|| row_of(id, row))
    }

    fn rows(&self, table: &str) -> Vec<Row> {
        let Some(id) = schema().table(table) else { return Vec::new() };
        let table = self.table(id);
        table.rows().filter(|(_, row)| table.enabled(row)).map(|(_, row)| row_of(id, row)).collect()
    }

    fn is_node(&self, name: &str) -> bool {
        State::is_node(self, name)
    }

    fn nodes(&self) -> Vec<String> {
        self.node_names().map(str::to_owned).collect()
    }

    fn groups_of(&self, node: &str) -> Vec<String> {
        State::groups_of(self, node).map(str::to_owned).collect()
    }

    fn members(&self, group: &str) -> Vec<String> {
        let members = State::members(self, group).unwrap_or_default();
        members.into_iter().map(str::to_owned).collect()
    }

    fn config_revision(&self, node: &str) -> u64 {
        State::config_revision(self, node)
    }
}
