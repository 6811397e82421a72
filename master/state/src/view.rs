//! What a service node sees of the tables: typed projections of nodes and of the cluster.
//!
//! Knows nothing of connections. A view is computed from [`Tables`] only, so every master computes the
//! same one. [`affected`] says which views a change of rows touches; nothing else is computed again, so
//! one row of one node costs one node however many there are.

mod affected;
mod config;
mod macs;
mod node;
mod site;
mod tables;

use std::collections::BTreeMap;

pub use affected::{Affected, Touch, affected, is_unseen, shows, shows_config, touches_config};
pub use macs::{MacEntry, parse_macs};
pub use node::{bmc_name, in_scope, node_view, servicenodes_of};
pub use site::{network_of, prefix_length, site_value, site_view};
pub(crate) use tables::row_of;

/// A row: its columns with a value.
pub type Row = BTreeMap<String, String>;

/// What projections and discovery ask of the tables. Values are resolved (group rows, pattern rows) where
/// a node is asked for; disabled rows are never seen.
pub trait Tables {
    /// `table.column` of a node, resolved; empty when unset.
    fn attribute(&self, node: &str, table: &str, column: &str) -> String;
    /// The rows of a node in a table that has several rows a node, resolved: its own and its groups'.
    fn node_rows(&self, node: &str, table: &str) -> Vec<Row>;
    /// The stored row with this key, in the order of the table's key columns.
    fn row(&self, table: &str, key: &[&str]) -> Option<Row>;
    /// All stored rows of a table.
    fn rows(&self, table: &str) -> Vec<Row>;
    /// Whether it is a defined node.
    fn is_node(&self, name: &str) -> bool;
    /// All nodes.
    fn nodes(&self) -> Vec<String>;
    /// A node's groups, in order.
    fn groups_of(&self, node: &str) -> Vec<String>;
    /// The nodes of a group; empty when it is no group.
    fn members(&self, group: &str) -> Vec<String>;
    /// The revision of the last change that touched the node's own configuration; see [`touches_config`].
    fn config_revision(&self, node: &str) -> u64;
}

/// A column of a row; empty when unset.
#[must_use]
pub fn column<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).map_or("", String::as_str)
}

/// The parts of a list that is separated by commas or blanks.
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty())
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
