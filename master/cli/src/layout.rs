//! Rows as a table, JSON, YAML, CSV or bare values.
//!
//! Pure: rows and a form in, text out. Knows no command and no field.

use std::cmp::Ordering;

use wire::client::{Format, Layout, Rows};

/// Between two columns.
const GAP: &str = "  ";
/// Narrowest width that a column of a table is cut to.
const NARROW: usize = 8;
/// Words that YAML does not take for text.
const YAML_WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

/// What the text is shown on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Screen {
    /// Columns of the terminal; 0 when it is none.
    pub width: usize,
    /// Colors may be used.
    pub color: bool,
}

/// Rows that came in pieces, under all fields that any piece had.
#[derive(Debug, Default)]
pub struct Gathered {
    fields: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Gathered {
    /// Adds a piece.
    pub fn add(&mut self, piece: Rows) {
        let Rows { fields, rows } = piece;
        if fields == self.fields {
            self.rows.extend(rows);
            return;
        }
        let places: Vec<usize> = fields.into_iter().map(|field| self.place(field)).collect();
        for row in rows {
            let mut cells = vec![None; self.fields.len()];
            for (place, cell) in places.iter().zip(row) {
                cells[*place] = cell;
            }
            self.rows.push(cells);
        }
    }

    /// The text of everything.
    ///
    /// # Errors
    /// A sentence for the user when there is no such field to sort by; the text is then not sorted.
    pub fn shown(mut self, layout: &Layout, screen: Screen) -> (String, Option<String>) {
        let count = self.fields.len();
        self.rows.iter_mut().for_each(|row| row.resize(count, None));
        let fault = layout.sort.as_deref().and_then(|field| self.sort(field));
        let text = match layout.format {
            Format::Table => self.table(screen, true),
            Format::Wide => self.table(screen, false),
            Format::Json => self.json(),
            Format::Yaml => self.yaml(),
            Format::Csv => self.csv(),
            Format::Value => self.values(),
        };
        (text, fault)
    }

    fn place(&mut self, field: String) -> usize {
        match self.fields.iter().position(|known| *known == field) {
            Some(place) => place,
            None => {
                self.fields.push(field);
                self.fields.len() - 1
            }
        }
    }

    /// Sorts; a field that does not exist is told.
    fn sort(&mut self, field: &str) -> Option<String> {
        if self.rows.is_empty() {
            return None;
        }
        let (name, down) = match field.strip_prefix('-') {
            Some(name) => (name, true),
            None => (field, false),
        };
        let Some(place) = self.fields.iter().position(|known| known == name) else {
            let known = self.fields.join(", ");
            return Some(format!("there is no field '{name}' to sort by; the fields are {known}"));
        };
        self.rows.sort_by(|one, two| {
            let order = match (&one[place], &two[place]) {
                (Some(one), Some(two)) => natural(one, two),
                // What has no value comes last, whichever way.
                (one, two) => return two.is_some().cmp(&one.is_some()),
            };
            if down { order.reverse() } else { order }
        });
        None
    }

    /// Aligned columns. When it must `fit`, empty columns are left out and the widest are cut.
    fn table(&self, screen: Screen, fit: bool) -> String {
        let filled =
            |place: &usize| self.rows.iter().any(|row| row[*place].as_ref().is_some_and(|c| !c.is_empty()));
        let places: Vec<usize> =
            (0..self.fields.len()).filter(|place| !fit || self.rows.is_empty() || filled(place)).collect();
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| places.iter().map(|place| visible(row[*place].as_deref().unwrap_or(""))).collect())
            .collect();
        let names: Vec<String> = places.iter().map(|place| self.fields[*place].to_uppercase()).collect();
        let mut widths: Vec<usize> = names.iter().map(|name| name.chars().count()).collect();
        for row in &cells {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if fit && screen.width > 0 {
            narrow(&mut widths, screen.width);
        }
        let mut text = String::new();
        let head = line(&names, &widths);
        match screen.color && !head.is_empty() {
            true => text.push_str(&format!("\x1b[1m{head}\x1b[0m\n")),
            false => text.push_str(&format!("{head}\n")),
        }
        for row in &cells {
            text.push_str(&line(row, &widths));
            text.push('\n');
        }
        text
    }

    fn json(&self) -> String {
        let mut text = "[".to_owned();
        for (number, row) in self.rows.iter().enumerate() {
            text.push_str(if number == 0 { "\n  {" } else { ",\n  {" });
            let pairs: Vec<String> =
                self.pairs(row).map(|(name, value)| format!("{}: {}", quoted(name), quoted(value))).collect();
            text.push_str(&pairs.join(", "));
            text.push('}');
        }
        text.push_str(if self.rows.is_empty() { "]\n" } else { "\n]\n" });
        text
    }

    fn yaml(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let mut lead = "- ";
            for (name, value) in self.pairs(row) {
                text.push_str(&format!("{lead}{}: {}\n", yaml_word(name), yaml_word(value)));
                lead = "  ";
            }
            if lead == "- " {
                text.push_str("- {}\n");
            }
        }
        if text.is_empty() { "[]\n".to_owned() } else { text }
    }

    fn csv(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> = cells.map(csv_cell).collect();
            cells.join(",") + "\n"
        };
        let mut text = line(&mut self.fields.iter().map(String::as_str));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(|cell| cell.as_deref().unwrap_or(""))));
        }
        text
    }

    fn values(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| bare(cell.as_deref().unwrap_or(""))).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }

    fn pairs<'a>(&'a self, row: &'a [Option<String>]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.fields.iter().zip(row);
        named.filter_map(|(name, cell)| Some((name.as_str(), cell.as_deref()?)))
    }
}

/// Numbers inside names count as numbers: n2 comes before n10.
pub fn natural(one: &str, two: &str) -> Ordering {
    let (mut a, mut b) = (one, two);
    while let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ((number, after), (other, rest)) = (number(a), number(b));
            let order = number.len().cmp(&other.len()).then_with(|| number.cmp(other));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (after, rest);
        } else if x == y {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        } else {
            return x.cmp(&y);
        }
    }
    a.len().cmp(&b.len()).then_with(|| one.cmp(two))
}

/// The digits at the beginning without leading zeros, and what follows.
fn number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

/// Makes the widest columns narrower until all fit.
fn narrow(widths: &mut [usize], most: usize) {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    loop {
        let sum: usize = widths.iter().sum::<usize>() + gaps;
        let Some(widest) = widths.iter_mut().max().filter(|width| sum > most && **width > NARROW) else {
            return;
        };
        *widest = widest.saturating_sub(sum - most).max(*widest / 2).max(NARROW);
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| match cell.chars().count() > *width {
            true => cell.chars().take(width - 1).chain(['…']).collect(),
            false => format!("{cell:<width$}"),
        })
        .collect();
    cells.join(GAP).trim_end().to_owned()
}

/// Nothing in a cell moves the terminal's cursor.
fn visible(cell: &str) -> String {
    if !cell.chars().any(char::is_control) {
        return cell.to_owned();
    }
    cell.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn bare(cell: &str) -> String {
    cell.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn csv_cell(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

/// A JSON string, which is also a YAML one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn yaml_word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./@-".contains(c))
        && !YAML_WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(fields: &[&str], rows: &[&[Option<&str>]]) -> Rows {
        Rows {
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            rows: rows.iter().map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect()).collect(),
        }
    }

    fn shown(format: Format, sort: Option<&str>, width: usize) -> String {
        let mut gathered = Gathered::default();
        let first: &[&[Option<&str>]] =
            &[&[Some("n10"), Some("on"), None], &[Some("n2"), Some("a,\"b\"\n"), None]];
        gathered.add(rows(&["node", "text", "none"], first));
        gathered.add(rows(&["extra", "node"], &[&[Some("x: y"), Some("n1")]]));
        let layout = Layout { format, sort: sort.map(str::to_owned) };
        gathered.shown(&layout, Screen { width, color: false }).0
    }

    #[test]
    fn a_table_leaves_empty_columns_out_and_wide_does_not() {
        let table = "NODE  TEXT     EXTRA\nn10   on\nn2    a,\"b\"\\n\nn1             x: y\n";
        assert_eq!(shown(Format::Table, None, 0), table);
        assert!(shown(Format::Wide, None, 10).starts_with("NODE  TEXT     NONE  EXTRA\n"));
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let mut gathered = Gathered::default();
        let long = "x".repeat(300);
        gathered.add(rows(&["node", "text", "other"], &[&[Some("n1"), Some(&long), Some(&long[..200])]]));
        let layout = Layout { format: Format::Table, sort: None };
        let (text, _) = gathered.shown(&layout, Screen { width: 60, color: true });
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.starts_with("\x1b[1mNODE  TEXT") && text.contains('…'), "{text}");
    }

    #[test]
    fn each_form_keeps_every_byte() {
        let json = "[\n  {\"node\": \"n10\", \"text\": \"on\"},\n  {\"node\": \"n2\", \"text\": \"a,\\\"b\\\"\\n\"},\n  \
                    {\"node\": \"n1\", \"extra\": \"x: y\"}\n]\n";
        assert_eq!(shown(Format::Json, None, 0), json);
        let yaml = "- node: n10\n  text: \"on\"\n- node: n2\n  text: \"a,\\\"b\\\"\\n\"\n- node: n1\n  extra: \"x: y\"\n";
        assert_eq!(shown(Format::Yaml, None, 0), yaml);
        let csv = "node,text,none,extra\nn10,on,,\nn2,\"a,\"\"b\"\"\n\",,\nn1,,,x: y\n";
        assert_eq!(shown(Format::Csv, None, 0), csv);
        assert_eq!(shown(Format::Value, None, 0), "n10\ton\t\t\nn2\ta,\"b\"\\n\t\t\nn1\t\t\tx: y\n");
    }

    #[test]
    fn names_are_sorted_by_their_numbers_and_what_is_missing_comes_last() {
        let first = |sort| shown(Format::Value, Some(sort), 0).split('\t').next().unwrap_or("").to_owned();
        assert_eq!(first("node"), "n1");
        assert_eq!(first("-node"), "n10");
        assert_eq!(first("text"), "n2");
        assert!(natural("r01n2", "r1n3").is_lt() && natural("r01n2", "r1n2").is_ne());
        assert!(natural("n2", "n10").is_lt() && natural("n", "n1").is_lt());
        let mut gathered = Gathered::default();
        gathered.add(rows(&["node"], &[&[Some("n1")]]));
        let layout = Layout { format: Format::Json, sort: Some("nosuch".to_owned()) };
        let (_, fault) = gathered.shown(&layout, Screen::default());
        assert!(fault.is_some_and(|fault| fault.contains("'nosuch'") && fault.contains("node")));
    }

    #[test]
    fn nothing_is_an_empty_list() {
        for (format, text) in [(Format::Json, "[]\n"), (Format::Yaml, "[]\n"), (Format::Value, "")] {
            let layout = Layout { format, sort: Some("x".to_owned()) };
            assert_eq!(Gathered::default().shown(&layout, Screen::default()), (text.to_owned(), None));
        }
    }
}
