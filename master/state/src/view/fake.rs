//! Tables for tests: rows in memory, group rows, one kind of pattern (`|$|-bmc|`-like suffix patterns).

use std::collections::BTreeMap;

use super::{Row, Tables, column, words};

/// Rows by table.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fake {
    pub(crate) tables: BTreeMap<String, Vec<Row>>,
    pub(crate) config: BTreeMap<String, u64>,
}

impl Fake {
    /// Adds a row written as `column=value` parts.
    pub(crate) fn add(&mut self, table: &str, parts: &[&str]) -> Row {
        let row: Row = parts
            .iter()
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.tables.entry(table.to_owned()).or_default().push(row.clone());
        row
    }

    /// Carries writes out as the state does.
    pub(crate) fn apply(&mut self, writes: &[crate::discovery::Write]) {
        use crate::discovery::Write;
        for write in writes {
            let (table, key) = match write {
                Write::Set { table, key, .. } | Write::Delete { table, key } => (*table, key),
                Write::Audit { who, what, allowed } => {
                    self.add(
                        "auditlog",
                        &[&format!("userid={who}"), &format!("args={what}"), &format!("status={allowed}")],
                    );
                    continue;
                }
            };
            let rows = self.tables.entry(table.to_owned()).or_default();
            let at = rows.iter().position(|row| key.iter().all(|(name, value)| column(row, name) == value));
            if let Write::Set { values, .. } = write {
                let at = at.unwrap_or_else(|| {
                    rows.push(key.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
                    rows.len() - 1
                });
                for (name, value) in values {
                    if value.is_empty() {
                        rows[at].remove(*name);
                    } else {
                        rows[at].insert((*name).to_owned(), value.clone());
                    }
                }
            } else if let Some(at) = at {
                rows.remove(at);
            }
        }
    }

    fn of(&self, table: &str, owner: &str) -> impl Iterator<Item = &Row> {
        let owner = owner.to_owned();
        let key = if table == "switches" { "switch" } else { "node" };
        self.tables.get(table).into_iter().flatten().filter(move |row| column(row, key) == owner)
    }

    fn resolve(node: &str, value: &str) -> String {
        match value.strip_prefix("|$|").and_then(|rest| rest.strip_suffix('|')) {
            Some(suffix) => format!("{node}{suffix}"),
            None => value.to_owned(),
        }
    }
}

impl Tables for Fake {
    fn attribute(&self, node: &str, table: &str, name: &str) -> String {
        let mut owners = vec![node.to_owned()];
        if table != "nodelist" {
            owners.extend(self.groups_of(node));
        }
        owners
            .iter()
            .flat_map(|owner| self.of(table, owner))
            .map(|row| Self::resolve(node, column(row, name)))
            .find(|value| !value.is_empty())
            .unwrap_or_default()
    }

    fn node_rows(&self, node: &str, table: &str) -> Vec<Row> {
        let mut owners = vec![node.to_owned()];
        owners.extend(self.groups_of(node));
        owners.iter().flat_map(|owner| self.of(table, owner)).cloned().collect()
    }

    fn row(&self, table: &str, key: &[&str]) -> Option<Row> {
        let names: &[&str] = match table {
            "site" => &["key"],
            "discoverydata" => &["uuid"],
            "discovered" => &["id"],
            "servicenodes" => &["name"],
            "taskstate" => &["node", "command"],
            "routes" => &["routename"],
            _ => &["node"],
        };
        let matches = |row: &&Row| names.iter().zip(key).all(|(name, value)| column(row, name) == *value);
        self.tables.get(table)?.iter().find(matches).cloned()
    }

    fn rows(&self, table: &str) -> Vec<Row> {
        self.tables.get(table).cloned().unwrap_or_default()
    }

    fn is_node(&self, name: &str) -> bool {
        self.of("nodelist", name).next().is_some()
    }

    fn nodes(&self) -> Vec<String> {
        self.rows("nodelist").iter().map(|row| column(row, "node").to_owned()).collect()
    }

    fn groups_of(&self, node: &str) -> Vec<String> {
        let list = self.of("nodelist", node).next().map(|row| column(row, "groups").to_owned());
        words(&list.unwrap_or_default()).map(str::to_owned).collect()
    }

    fn members(&self, group: &str) -> Vec<String> {
        self.nodes()
            .into_iter()
            .filter(|node| self.groups_of(node).iter().any(|name| name == group))
            .collect()
    }

    fn config_revision(&self, node: &str) -> u64 {
        self.config.get(node).copied().unwrap_or(0)
    }
}
