//! Row changes of one command, gathered: several values of a row become one change, and what was read in order to
//! be written becomes a precondition.

use std::collections::{HashMap, HashSet};

use state::{Precondition, RowChange, State, TableId, schema};

use crate::plan::{Change, Output};

/// Changes being gathered.
#[derive(Debug)]
pub(crate) struct Edit<'a> {
    state: &'a State,
    rows: Vec<Pending>,
    index: HashMap<(TableId, Vec<String>), usize>,
    guards: Vec<Precondition>,
    guarded: HashSet<(TableId, Vec<String>)>,
    removals: Vec<RowChange>,
}

#[derive(Debug)]
struct Pending {
    table: TableId,
    key: Vec<String>,
    cells: Vec<(usize, String)>,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(state: &'a State) -> Edit<'a> {
        Edit {
            state,
            rows: Vec::new(),
            index: HashMap::new(),
            guards: Vec::new(),
            guarded: HashSet::new(),
            removals: Vec::new(),
        }
    }

    /// Sets or clears a value.
    pub(crate) fn set(&mut self, table: TableId, key: &[&str], column: usize, value: &str) {
        let key: Vec<String> = key.iter().map(|&k| k.to_owned()).collect();
        let at = *self.index.entry((table, key.clone())).or_insert_with(|| {
            self.rows.push(Pending { table, key, cells: Vec::new() });
            self.rows.len() - 1
        });
        let cells = &mut self.rows[at].cells;
        match cells.iter_mut().find(|(known, _)| *known == column) {
            Some((_, text)) => *text = value.to_owned(),
            None => cells.push((column, value.to_owned())),
        }
    }

    /// The value as it will be: pending, else stored.
    pub(crate) fn text(&self, table: TableId, key: &[&str], column: usize) -> String {
        let owned: Vec<String> = key.iter().map(|&k| k.to_owned()).collect();
        if let Some(at) = self.index.get(&(table, owned))
            && let Some((_, text)) = self.rows[*at].cells.iter().find(|(known, _)| *known == column)
        {
            return text.clone();
        }
        self.state.table(table).find(key).map_or_else(String::new, |(_, row)| row.text(column).to_owned())
    }

    /// The new value depends on the row as it is: nobody may change it meanwhile.
    pub(crate) fn guard(&mut self, table: TableId, key: &[&str]) {
        let precondition = Precondition::Unchanged {
            table: schema().def(table).name.to_owned(),
            key: key.iter().map(|&k| k.to_owned()).collect(),
            existed: self.state.table(table).find(key).is_some(),
            at: self.state.revision(),
        };
        if self.guarded.insert((table, key.iter().map(|&k| k.to_owned()).collect())) {
            self.guards.push(precondition);
        }
    }

    /// Removes something before the values are set.
    pub(crate) fn remove(&mut self, change: RowChange) {
        self.removals.push(change);
    }

    /// The gathered change with its answer.
    pub(crate) fn finish(self, output: Output) -> Change {
        let mut changes = self.removals;
        let fresh = !changes.is_empty();
        for row in self.rows {
            let exists = !fresh && self.state.table(row.table).find(&row.key).is_some();
            if !exists && row.cells.iter().all(|(_, text)| text.is_empty()) {
                continue;
            }
            let def = schema().def(row.table);
            changes.push(RowChange::Set {
                table: def.name.to_owned(),
                key: row.key,
                cells: row
                    .cells
                    .into_iter()
                    .map(|(column, text)| (def.columns[column].name.to_owned(), text))
                    .collect(),
            });
        }
        Change { changes, preconditions: self.guards, output, ..Change::default() }
    }
}
