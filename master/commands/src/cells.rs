//! Changed rows as lines: `~ nodelist n1.groups: "all" -> "all,rack1"`, `+` for a new row, `-` for a removed one.

use std::collections::BTreeMap;

use state::{PastRow, schema};

use crate::plan::Output;

/// Prints each changed cell.
pub(crate) fn print(rows: &[PastRow], output: &mut Output) {
    for row in rows {
        let Some(table) = schema().table(&row.table) else { continue };
        let def = schema().def(table);
        let key = row.key().join(",");
        for (column, old, new) in row.cells() {
            let Some(column) = def.columns.get(column) else { continue };
            let what = match (&row.old, &row.new) {
                (None, _) => format!("+ {} {key}.{}: {new:?}", row.table, column.name),
                (_, None) => format!("- {} {key}.{}: {old:?}", row.table, column.name),
                _ => format!("~ {} {key}.{}: {old:?} -> {new:?}", row.table, column.name),
            };
            output.line(&what);
        }
    }
}

/// Fields of [`rows`].
pub(crate) const FIELDS: [&str; 5] = ["table", "key", "column", "old", "new"];

/// Each changed cell as a row behind these first cells.
pub(crate) fn rows(rows: &[PastRow], first: &[String], output: &mut Output) {
    for row in rows {
        let Some(table) = schema().table(&row.table) else { continue };
        let def = schema().def(table);
        for (column, old, new) in row.cells() {
            let Some(column) = def.columns.get(column) else { continue };
            let cells =
                [row.table.as_str(), &row.key().join(","), column.name].map(|text| Some(text.to_owned()));
            let old = row.old.is_some().then(|| old.to_owned());
            let new = row.new.is_some().then(|| new.to_owned());
            output.cells(first.iter().cloned().map(Some).chain(cells).chain([old, new]).collect());
        }
    }
}

/// How many cells and rows in which tables: `3 cells of 2 rows in nodehm, nodelist`.
pub(crate) fn summary(rows: &[PastRow]) -> String {
    let mut tables: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *tables.entry(&row.table).or_default() += row.cells().len();
    }
    let cells: usize = tables.values().sum();
    if cells == 0 {
        return "nothing".to_owned();
    }
    let names: Vec<&str> = tables.into_keys().collect();
    format!("{} of {} in {}", count(cells, "cell"), count(rows.len(), "row"), names.join(", "))
}

/// A number with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
