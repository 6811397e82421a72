//! The comma-separated form of tables, as tabdump prints and tabrestore reads it.

use crate::checked::MAX_VALUE;

/// A line of values; values without text are left bare.
pub fn line<'a>(values: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut out = String::new();
    push(&mut out, values);
    out
}

/// Adds a line of values to a text.
pub fn push<'a>(out: &mut String, values: impl Iterator<Item = Option<&'a str>>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if let Some(value) = value {
            out.push('"');
            for (part, text) in value.split('"').enumerate() {
                if part > 0 {
                    out.push_str("\"\"");
                }
                out.push_str(text);
            }
            out.push('"');
        }
    }
}

/// A line with the text it was read from, as long as it stays on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Values; empty for none.
    pub values: Vec<String>,
    /// The text.
    pub text: String,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// What is wrong with the text. Lines and columns (characters) count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// The first line is not `#column,...`.
    #[error("CSV missing header line starting with #")]
    NoHeader,
    /// The header names a column twice.
    #[error("line 1: the column '{0}' is named twice")]
    Twice(String),
    /// A quote is opened and never closed.
    #[error("line {0}, column {1}: the quote opened here is not closed")]
    OpenQuote(usize, usize),
    /// Text follows a closing quote.
    #[error("line {0}, column {1}: text after a closing quote")]
    AfterQuote(usize, usize),
    /// Not text.
    #[error("line {0}, column {1}: the file is not UTF-8 text")]
    NotText(usize, usize),
    /// A value is longer than a cell may be.
    #[error("line {0}, column {1}: the value that begins here is longer than {MAX_VALUE} bytes")]
    TooLong(usize, usize),
    /// A character that no value may have.
    #[error("line {0}, column {1}: a NUL character")]
    Nul(usize, usize),
}

/// The columns of the header and the lines below it. Values may hold line breaks inside quotes; a byte order mark and
/// Windows line ends are taken for what they are.
///
/// # Errors
/// [`CsvError`]; nothing is guessed.
pub fn parse(bytes: &[u8]) -> Result<(Vec<String>, Vec<Record>), CsvError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        let (line, column) = position(&good, good.len());
        CsvError::NotText(line, column)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let at = |offset: usize| position(text, offset);
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let header = first.trim_end_matches('\r').strip_prefix('#').ok_or(CsvError::NoHeader)?;
    let columns: Vec<String> = header.split(',').map(|c| c.trim().trim_matches('"').to_owned()).collect();
    if let Some((_, twice)) = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name)) {
        return Err(CsvError::Twice(twice.clone()));
    }
    let base = text.len() - rest.len();
    let error = |kind: fn(usize, usize) -> CsvError, offset: usize| {
        let (line, column) = at(base + offset);
        kind(line, column)
    };
    let mut records = Vec::new();
    let mut number = 2;
    let mut chars = rest.char_indices().peekable();
    while let Some(&(start, _)) = chars.peek() {
        let line = number;
        let mut values = vec![String::new()];
        let mut begin = start;
        let mut quote = None;
        let mut closed = false;
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            number += usize::from(c == '\n');
            let Some(value) = values.last_mut() else { break };
            if value.len() > MAX_VALUE {
                return Err(error(CsvError::TooLong, begin));
            }
            match c {
                '\0' => return Err(error(CsvError::Nul, at)),
                '"' if quote.is_some() && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    chars.next();
                    value.push('"');
                }
                '"' if quote.is_some() => {
                    quote = None;
                    closed = true;
                }
                _ if quote.is_some() => value.push(c),
                '"' if value.is_empty() && !closed => quote = Some(at),
                ',' => {
                    values.push(String::new());
                    begin = at + 1;
                    closed = false;
                }
                '\n' => {
                    end = at;
                    break;
                }
                '\r' if chars.peek().is_none_or(|(_, next)| *next == '\n') => {}
                _ if closed => return Err(error(CsvError::AfterQuote, at)),
                _ => value.push(c),
            }
        }
        if let Some(quote) = quote {
            return Err(error(CsvError::OpenQuote, quote));
        }
        let text = rest[start..end].trim_end_matches('\r').to_owned();
        if !text.is_empty() && !text.starts_with('#') {
            records.push(Record { values, text, line });
        }
    }
    Ok((columns, records))
}

/// Line and column of an offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let values = ["n1", "has, comma and \"quotes\"", "", "two\nlines"];
        let text = format!("#a,b,c,d\n{}\n", line(values.iter().map(|v| (!v.is_empty()).then_some(*v))));
        let (columns, records) = parse(text.as_bytes()).unwrap();
        assert_eq!(columns, ["a", "b", "c", "d"]);
        assert_eq!(records[0].values, values);
    }

    #[test]
    fn bare_values_and_windows_line_ends_are_read() {
        let (_, records) = parse(b"#a,b\r\nt1,R9\r\n\r\n\"t2\",\r\n").unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].values, ["t1", "R9"]);
        assert_eq!(records[1].values, ["t2", ""]);
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
        let plain = parse(b"#a,b\n\"t1\",\"two\nlines\"\n").unwrap();
        let windows = parse(b"\xef\xbb\xbf#a,b\r\n\"t1\",\"two\nlines\"\r\n").unwrap();
        assert_eq!(plain, windows);
        assert_eq!(parse(b"\xff\xfe#\0a\0"), Err(CsvError::NotText(1, 1)));
    }

    #[test]
    fn wrong_text_is_named() {
        assert_eq!(parse(b"\"t1\",\"R9\"\n"), Err(CsvError::NoHeader));
        assert_eq!(parse(b"#a,b\n\"t1,\"R9\n"), Err(CsvError::AfterQuote(2, 6)));
        assert_eq!(parse(b"#a,b\nx,y\n\"t1"), Err(CsvError::OpenQuote(3, 1)));
        assert_eq!(parse(b"#a,b\nx,\"y\n\n\"t1"), Err(CsvError::AfterQuote(4, 2)));
        assert_eq!(parse(b"#a\nok\n12\xff"), Err(CsvError::NotText(3, 3)));
        assert_eq!(parse(b"#a\nx\0\n"), Err(CsvError::Nul(2, 2)));
        assert_eq!(parse(b"#a,b,a\n"), Err(CsvError::Twice("a".into())));
        let long = format!("#a,b\n1,2\n3,\"{}\"\n", "x".repeat(10 << 20));
        assert_eq!(parse(long.as_bytes()), Err(CsvError::TooLong(3, 3)));
        assert_eq!(parse(b""), Err(CsvError::NoHeader));
    }
}
