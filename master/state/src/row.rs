//! A row: the texts of its columns in one piece of memory, shared by all that hold the row.

use std::sync::Arc;

use crate::schema::TableDef;

/// Bytes of the head: how many values there are.
const HEAD: usize = 1;
/// Bytes of each value's entry: its column, and where its text ends.
const ENTRY: usize = 1 + WIDTH;
/// Digits of a text's end, each of 7 bits: everything in front of the texts is ASCII.
const WIDTH: usize = 4;

/// Most columns a table can have.
pub const COLUMNS: usize = 128;

/// A row. Empty text is no value. Copies share their texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The number of values, an entry for each in the order of the columns, then the texts.
    packed: Arc<str>,
    /// The revision that changed the row last.
    pub revision: u64,
}

impl Row {
    /// A row without values.
    pub fn empty(_: &TableDef) -> Row {
        Row::of(&[])
    }

    /// A row of these columns and texts; columns ascend.
    pub(crate) fn of(cells: &[(usize, &str)]) -> Row {
        Row { packed: pack(cells), revision: 0 }
    }

    /// The value of a column.
    pub fn get(&self, column: usize) -> Option<&str> {
        let bytes = self.packed.as_bytes();
        let count = bytes.first().copied().map_or(0, usize::from);
        // The text begins where the one before ends.
        let mut start = HEAD + count * ENTRY;
        for entry in bytes.get(HEAD..start)?.chunks_exact(ENTRY) {
            match usize::from(entry[0]).cmp(&column) {
                std::cmp::Ordering::Less => start = end(entry),
                std::cmp::Ordering::Equal => return self.packed.get(start..end(entry)),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of a column, empty when there is none.
    pub fn text(&self, column: usize) -> &str {
        self.get(column).unwrap_or("")
    }

    /// Sets or clears a value.
    pub fn set(&mut self, column: usize, value: Option<&str>) {
        self.set_all(&[(column, value.unwrap_or(""))]);
    }

    /// Sets or clears values; of two for one column the later one counts.
    pub fn set_all(&mut self, new: &[(usize, &str)]) {
        let mut cells: Vec<(usize, &str)> = self.values().collect();
        for &(column, text) in new.iter().filter(|(column, _)| *column < COLUMNS) {
            match (cells.binary_search_by_key(&column, |(known, _)| *known), text.is_empty()) {
                (Ok(at), false) => cells[at].1 = text,
                (Ok(at), true) => {
                    cells.remove(at);
                }
                (Err(at), false) => cells.insert(at, (column, text)),
                (Err(_), true) => {}
            }
        }
        self.packed = pack(&cells);
    }

    /// Columns that have a value.
    pub fn values(&self) -> impl Iterator<Item = (usize, &str)> {
        let bytes = self.packed.as_bytes();
        let count = bytes.first().copied().map_or(0, usize::from);
        let mut start = HEAD + count * ENTRY;
        let entries = bytes.get(HEAD..start).unwrap_or_default().chunks_exact(ENTRY);
        entries.filter_map(move |entry| {
            let (from, to) = (start, end(entry));
            start = to;
            Some((usize::from(entry[0]), self.packed.get(from..to)?))
        })
    }
}

fn pack(cells: &[(usize, &str)]) -> Arc<str> {
    let cells = cells.iter().filter(|(column, text)| *column < COLUMNS && !text.is_empty());
    let count = cells.clone().count().min(COLUMNS - 1);
    let texts: usize = cells.clone().map(|(_, text)| text.len()).sum();
    let mut out = String::with_capacity(HEAD + count * ENTRY + texts);
    let ascii = |number: usize| char::from((number & 0x7f) as u8);
    out.push(ascii(count));
    let mut at = HEAD + count * ENTRY;
    for (column, text) in cells.clone().take(count) {
        at += text.len();
        out.push(ascii(*column));
        (0..WIDTH).for_each(|digit| out.push(ascii(at >> (7 * digit))));
    }
    cells.take(count).for_each(|(_, text)| out.push_str(text));
    out.into()
}

fn end(entry: &[u8]) -> usize {
    entry[1..ENTRY].iter().rev().fold(0, |sum, digit| sum << 7 | usize::from(*digit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::schema;

    #[test]
    fn a_row_gives_back_what_was_set() {
        let mut row = Row::of(&[(0, "n1"), (3, ""), (5, "größe"), (127, "last")]);
        assert_eq!(row.values().collect::<Vec<_>>(), [(0, "n1"), (5, "größe"), (127, "last")]);
        let long = "x".repeat(70_000);
        row.set_all(&[(5, ""), (2, &long), (0, "n2"), (2, "")]);
        row.set(126, Some(&long));
        assert_eq!((row.get(0), row.get(1), row.get(2), row.get(5)), (Some("n2"), None, None, None));
        assert_eq!((row.text(126), row.text(127), row.get(128)), (long.as_str(), "last", None));
        row.set(126, None);
        assert_eq!(row.values().collect::<Vec<_>>(), [(0, "n2"), (127, "last")]);
        assert!(Row::of(&[]).values().next().is_none());
    }

    #[test]
    fn every_table_has_room_in_a_row() {
        assert!(schema().tables.iter().all(|table| table.columns.len() < COLUMNS));
    }
}
