//! The value of an attribute for a node: its own row, then its groups in their order, then the pattern.
//!
//! Inheritance is per column. A disabled row is not there. What a node does not have and no group gives is
//! absent; so is a value whose pattern comes out empty.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use crate::apply::State;
use crate::row::Row;
use crate::schema::{TableId, schema};

/// A value ending in this is joined with the next one found.
const NEXT: &str = "+=NEXTRECORD";

/// A value and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// The computed text, never empty.
    pub text: Cow<'a, str>,
    /// The group whose row holds it; `None`: the node's own row.
    pub group: Option<&'a str>,
}

/// A column with what nodes of the same groups inherit in it, looked up once for all of them.
#[derive(Debug)]
pub struct Column<'a> {
    state: &'a State,
    table: TableId,
    column: usize,
    /// A value is that of one row: neither the node's name nor joined of several.
    simple: bool,
    /// By the address of the shared list of groups.
    inherited: RefCell<HashMap<usize, Option<(&'a str, &'a str)>>>,
}

impl<'a> Column<'a> {
    /// As [`State::value`].
    pub fn value<'n>(&self, node: &'n str) -> Option<Found<'n>>
    where
        'a: 'n,
    {
        let state = self.state;
        if !self.simple || !state.table(self.table).fills(self.column) {
            return state.value(node, self.table, self.column);
        }
        let own = state.enabled_rows(self.table, node).find_map(|row| row.get(self.column));
        let (owner, text) = own.map(|text| (node, text)).or_else(|| self.inherited(node))?;
        if text.ends_with(NEXT) || own.is_none() && owner == node {
            return state.value(node, self.table, self.column);
        }
        let group = own.is_none().then_some(owner);
        Some(Found { text: state.computed(text, node)?, group })
    }

    /// The group that gives the value, and its text.
    fn inherited(&self, node: &str) -> Option<(&'a str, &'a str)> {
        let (state, table) = (self.state, self.table);
        let groups = state.nodes.get(node).filter(|_| schema().def(table).inherits)?;
        let look = || {
            groups.iter().find_map(|group| {
                let text = state.enabled_rows(table, group).find_map(|row| row.get(self.column))?;
                Some((&**group, text))
            })
        };
        *self.inherited.borrow_mut().entry(groups.as_ptr() as usize).or_insert_with(look)
    }
}

impl State {
    /// The value of a column for a node.
    pub fn value<'a>(&'a self, node: &'a str, table: TableId, column: usize) -> Option<Found<'a>> {
        let def = schema().def(table);
        let node_column = def.node?;
        if column == node_column {
            return Some(Found { text: Cow::Borrowed(node), group: None });
        }
        if !self.table(table).fills(column) {
            return None;
        }
        if self.joined(def.columns.get(column)?.name) {
            return self.union(node, table, column);
        }
        let mut kept = String::new();
        for (owner, text) in self.candidates(node, table, column) {
            let group = (owner != node).then_some(owner);
            if let Some(front) = text.strip_suffix(NEXT) {
                kept.push_str(front);
                continue;
            }
            let text = self.computed(text, node)?;
            return match kept.is_empty() {
                true => Some(Found { text, group }),
                false => Some(Found { text: Cow::Owned(format!("{kept}{text}")), group }),
            };
        }
        (!kept.is_empty()).then_some(Found { text: Cow::Owned(kept), group: None })
    }

    /// The column, prepared to be looked up for many nodes.
    pub fn column(&self, table: TableId, column: usize) -> Column<'_> {
        let def = schema().def(table);
        let joined = def.columns.get(column).is_some_and(|def| self.joined(def.name));
        let simple = def.node.is_some_and(|node| node != column) && !joined;
        Column { state: self, table, column, simple, inherited: RefCell::default() }
    }

    /// The value of `table.column` for a node; `None` also for an unknown column.
    pub fn attribute(&self, node: &str, column: &str) -> Option<String> {
        let (table, column) = schema().column(column)?;
        Some(self.value(node, table, column)?.text.into_owned())
    }

    /// As [`State::attribute`], empty when there is none.
    pub fn text(&self, node: &str, column: &str) -> String {
        self.attribute(node, column).unwrap_or_default()
    }

    /// The rows of a node in a table with several rows a node: those of the nearest owner that has any (the
    /// node itself, then its groups in order), with column names and computed texts.
    pub fn rows(&self, node: &str, table: &str) -> Vec<BTreeMap<&'static str, String>> {
        let Some(table) = schema().table(table) else { return Vec::new() };
        for owner in self.owners(node, table) {
            let rows: Vec<_> = self.enabled_rows(table, owner).collect();
            if !rows.is_empty() {
                return rows.into_iter().map(|row| self.computed_row(node, table, row)).collect();
            }
        }
        Vec::new()
    }

    /// The rows of a node and of all its groups. Of rows that agree in the other key columns the nearest wins.
    pub fn all_rows(&self, node: &str, table: &str) -> Vec<BTreeMap<&'static str, String>> {
        let Some(table) = schema().table(table) else { return Vec::new() };
        let def = schema().def(table);
        let rest: Vec<&str> =
            def.keys.iter().filter(|&&key| Some(key) != def.node).map(|&key| def.columns[key].name).collect();
        let mut seen: Vec<Vec<String>> = Vec::new();
        let mut out = Vec::new();
        for owner in self.owners(node, table) {
            for row in self.enabled_rows(table, owner) {
                let row = self.computed_row(node, table, row);
                let key: Vec<String> =
                    rest.iter().map(|name| row.get(name).cloned().unwrap_or_default()).collect();
                if !seen.contains(&key) {
                    seen.push(key);
                    out.push(row);
                }
            }
        }
        out
    }

    /// The value of a key of `site`.
    pub fn site(&self, key: &str) -> Option<&str> {
        let table = self.named("site")?;
        let (_, row) = table.find(&[key])?;
        table.enabled(row).then_some(row.get(1)).flatten()
    }

    /// Whether a node of this name is defined and not disabled.
    pub fn is_node(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// All visible nodes in byte order.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(|name| &**name)
    }

    /// The groups of a node, in order.
    pub fn groups_of(&self, node: &str) -> impl Iterator<Item = &str> {
        self.nodes.get(node).into_iter().flat_map(|groups| groups.iter()).map(|group| &**group)
    }

    /// The text of a value for a node: computed when it is a pattern.
    pub fn computed<'a>(&self, text: &'a str, node: &str) -> Option<Cow<'a, str>> {
        match self.patterns.get(text) {
            Some(pattern) => pattern.value(node).map(Cow::Owned),
            None => Some(Cow::Borrowed(text)),
        }
    }

    /// The node, then its groups if the table inherits.
    fn owners<'a>(&'a self, node: &'a str, table: TableId) -> impl Iterator<Item = &'a str> + 'a {
        let inherits = schema().def(table).inherits;
        let groups = self.nodes.get(node).filter(|_| inherits).into_iter().flat_map(|groups| groups.iter());
        std::iter::once(node).chain(groups.map(|g| &**g).filter(move |g| *g != node))
    }

    fn enabled_rows<'a>(&'a self, table: TableId, owner: &str) -> impl Iterator<Item = &'a Row> + 'a {
        let table = self.table(table);
        table.of_node(owner).map(|(_, row)| row).filter(|row| table.enabled(row))
    }

    fn candidates<'a>(
        &'a self,
        node: &'a str,
        table: TableId,
        column: usize,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.owners(node, table).flat_map(move |owner| {
            self.enabled_rows(table, owner).filter_map(move |row| Some((owner, row.get(column)?))).take(1)
        })
    }

    fn computed_row(&self, node: &str, table: TableId, row: &Row) -> BTreeMap<&'static str, String> {
        let def = schema().def(table);
        row.values()
            .filter_map(|(column, text)| {
                let text = match Some(column) == def.node {
                    true => node.to_owned(),
                    false => self.computed(text, node)?.into_owned(),
                };
                Some((def.columns[column].name, text))
            })
            .collect()
    }

    /// Whether `site.hierarchicalattrs` names the column.
    fn joined(&self, column: &str) -> bool {
        self.site("hierarchicalattrs")
            .is_some_and(|list| list.split(',').any(|part| part.split(':').next() == Some(column)))
    }

    fn union<'a>(&'a self, node: &'a str, table: TableId, column: usize) -> Option<Found<'a>> {
        let mut parts: Vec<String> = Vec::new();
        for (_, text) in self.candidates(node, table, column) {
            let Some(text) = self.computed(text, node) else { continue };
            for part in text.split(',') {
                if !parts.iter().any(|known| known == part) {
                    parts.push(part.to_owned());
                }
            }
        }
        (!parts.is_empty()).then(|| Found { text: Cow::Owned(parts.join(",")), group: None })
    }
}
