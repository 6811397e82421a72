//! Rows of one table in the order they were made, found by key and by node.

use std::collections::{BTreeMap, HashMap};

use crate::schema::{TableDef, TableId, schema};

/// A row. Empty text is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    cells: Box<[Option<Box<str>>]>,
    /// The revision that changed the row last.
    pub revision: u64,
}

impl Row {
    /// A row without values.
    pub fn empty(def: &TableDef) -> Row {
        Row { cells: vec![None; def.columns.len()].into_boxed_slice(), revision: 0 }
    }

    /// The value of a column.
    pub fn get(&self, column: usize) -> Option<&str> {
        self.cells.get(column)?.as_deref()
    }

    /// The value of a column, empty when there is none.
    pub fn text(&self, column: usize) -> &str {
        self.get(column).unwrap_or("")
    }

    /// Sets or clears a value.
    pub fn set(&mut self, column: usize, value: Option<&str>) {
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = value.filter(|v| !v.is_empty()).map(Box::from);
        }
    }

    /// Columns that have a value.
    pub fn values(&self) -> impl Iterator<Item = (usize, &str)> {
        self.cells.iter().enumerate().filter_map(|(i, cell)| Some((i, cell.as_deref()?)))
    }
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    id: TableId,
    rows: BTreeMap<u64, Row>,
    keys: HashMap<Box<str>, u64>,
    /// Rows of a node in order; empty when the node is the whole key.
    nodes: HashMap<Box<str>, Vec<u64>>,
}

impl Table {
    /// A table without rows.
    pub fn new(id: TableId) -> Table {
        Table { id, rows: BTreeMap::new(), keys: HashMap::new(), nodes: HashMap::new() }
    }

    /// Its definition.
    pub fn def(&self) -> &'static TableDef {
        schema().def(self.id)
    }

    /// All rows with their numbers, in the order they were made; disabled ones too.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &Row)> {
        self.rows.iter().map(|(id, row)| (*id, row))
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
        let id = *self.keys.get(joined(key.iter().map(AsRef::as_ref)).as_str())?;
        Some((id, self.rows.get(&id)?))
    }

    /// Rows whose node column is this name, in order, disabled ones too.
    pub fn of_node<'a>(&'a self, name: &str) -> impl Iterator<Item = (u64, &'a Row)> + 'a {
        let ids: &[u64] = match self.whole_key_is_node() {
            true => self.keys.get(name).map(std::slice::from_ref).unwrap_or(&[]),
            false => self.nodes.get(name).map(Vec::as_slice).unwrap_or(&[]),
        };
        ids.iter().filter_map(|id| Some((*id, self.rows.get(id)?)))
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
        self.rows.last_key_value().map_or(1, |(id, _)| id + 1)
    }

    /// Puts a row in, replacing the one of this number.
    pub(crate) fn put(&mut self, id: u64, row: Row) -> Option<Row> {
        let old = self.remove(id);
        self.keys.insert(joined(self.key_of(&row).into_iter()).into(), id);
        if !self.whole_key_is_node()
            && let Some(column) = self.def().node
        {
            let ids = self.nodes.entry(row.text(column).into()).or_default();
            if let Err(at) = ids.binary_search(&id) {
                ids.insert(at, id);
            }
        }
        self.rows.insert(id, row);
        old
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        let key = joined(self.key_of(&row).into_iter());
        if self.keys.get(key.as_str()) == Some(&id) {
            self.keys.remove(key.as_str());
        }
        if let Some(column) = self.def().node
            && let Some(ids) = self.nodes.get_mut(row.text(column))
        {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.nodes.remove(row.text(column));
            }
        }
        Some(row)
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
