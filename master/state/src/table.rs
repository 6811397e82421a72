//! Rows of one table in the order they were made, found by key and by node.

use std::sync::Arc;

use crate::row::Row;
use crate::schema::{TableDef, TableId, schema};
use crate::tree::Tree;

/// A table. A copy costs nothing; see [`Tree`].
#[derive(Debug, Clone)]
pub struct Table {
    id: TableId,
    rows: Tree<u64, Row>,
    keys: Tree<Arc<str>, u64>,
    /// Rows of a node in order; empty when the node is the whole key.
    nodes: Tree<Arc<str>, Arc<[u64]>>,
    /// How many rows have a value in each column.
    filled: Box<[u32]>,
}

impl Table {
    /// A table without rows.
    pub fn new(id: TableId) -> Table {
        let filled = vec![0; schema().def(id).columns.len()].into();
        Table { id, rows: Tree::default(), keys: Tree::default(), nodes: Tree::default(), filled }
    }

    /// Its definition.
    pub fn def(&self) -> &'static TableDef {
        schema().def(self.id)
    }

    /// All rows with their numbers, in the order they were made; disabled ones too.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &Row)> {
        self.rows.iter().map(|(id, row)| (*id, row))
    }

    /// As [`Table::rows`], the one that was made last first.
    pub fn newest(&self) -> impl Iterator<Item = (u64, &Row)> {
        self.rows.newest().map(|(id, row)| (*id, row))
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A row by its number.
    pub fn row(&self, id: u64) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// A row by its whole key, disabled or not.
    pub fn find<S: AsRef<str>>(&self, key: &[S]) -> Option<(u64, &Row)> {
        let id = match key {
            [key] => *self.keys.get(key.as_ref())?,
            _ => *self.keys.get(joined(key.iter().map(AsRef::as_ref)).as_str())?,
        };
        Some((id, self.rows.get(&id)?))
    }

    /// Rows whose node column is this name, in order, disabled ones too.
    pub fn of_node<'a>(&'a self, name: &str) -> impl Iterator<Item = (u64, &'a Row)> + 'a {
        let ids: &[u64] = match self.whole_key_is_node() {
            true => self.keys.get(name).map(std::slice::from_ref).unwrap_or(&[]),
            false => self.nodes.get(name).map(|ids| &**ids).unwrap_or(&[]),
        };
        ids.iter().filter_map(|id| Some((*id, self.rows.get(id)?)))
    }

    /// Whether any row has a value in the column.
    pub fn fills(&self, column: usize) -> bool {
        self.filled.get(column).is_some_and(|rows| *rows > 0)
    }

    /// The texts of the key columns.
    pub fn key_of<'a>(&self, row: &'a Row) -> Vec<&'a str> {
        self.def().keys.iter().map(|&k| row.text(k)).collect()
    }

    /// Whether readers see the row.
    pub fn enabled(&self, row: &Row) -> bool {
        self.def().disable.is_none_or(|column| row.get(column).is_none())
    }

    /// The number the next new row gets.
    pub(crate) fn next(&self) -> u64 {
        self.rows.last().map_or(1, |(id, _)| id + 1)
    }

    /// Puts a row in, replacing the one of this number.
    pub(crate) fn put(&mut self, id: u64, row: Row) -> Option<Row> {
        let same = self.rows.get(&id).is_some_and(|old| {
            let def = self.def();
            def.keys.iter().chain(&def.node).all(|&column| old.text(column) == row.text(column))
        });
        if same {
            self.count(&row, 1);
            let old = self.rows.insert(id, row);
            old.iter().for_each(|old| self.count(old, -1));
            return old;
        }
        let old = self.remove(id);
        self.keys.insert(joined(self.key_of(&row).into_iter()).into(), id);
        if !self.whole_key_is_node()
            && let Some(column) = self.def().node
        {
            let name = row.text(column);
            let mut ids = self.nodes.get(name).map_or_else(Vec::new, |ids| ids.to_vec());
            if let Err(at) = ids.binary_search(&id) {
                ids.insert(at, id);
                self.nodes.insert(name.into(), ids.into());
            }
        }
        self.count(&row, 1);
        self.rows.insert(id, row);
        old
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        self.count(&row, -1);
        let key = joined(self.key_of(&row).into_iter());
        if self.keys.get(key.as_str()) == Some(&id) {
            self.keys.remove(key.as_str());
        }
        if let Some(column) = self.def().node
            && let Some(ids) = self.nodes.get(row.text(column))
        {
            let ids: Vec<u64> = ids.iter().copied().filter(|known| *known != id).collect();
            match ids.is_empty() {
                true => self.nodes.remove(row.text(column)),
                false => self.nodes.insert(row.text(column).into(), ids.into()),
            };
        }
        Some(row)
    }

    fn count(&mut self, row: &Row, by: i32) {
        for (column, _) in row.values() {
            if let Some(filled) = self.filled.get_mut(column) {
                *filled = filled.saturating_add_signed(by);
            }
        }
    }

    fn whole_key_is_node(&self) -> bool {
        let def = self.def();
        matches!((def.keys.as_slice(), def.node), ([key], Some(node)) if *key == node)
    }
}

/// Key texts as one; the separator cannot be typed on a command line.
fn joined<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push('\0');
        }
        out.push_str(part);
    }
    out
}
