//! The comma-separated form of tables, as tabdump prints and tabrestore reads it.

/// A line of values; values without text are left bare.
pub fn line<'a>(values: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut out = String::new();
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if let Some(value) = value {
            out.push('"');
            out.push_str(&value.replace('"', "\"\""));
            out.push('"');
        }
    }
    out
}

/// A line with the text it was read from, as long as it stays on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Values; empty for none.
    pub values: Vec<String>,
    /// The text.
    pub text: String,
}

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// The first line is not `#column,...`.
    #[error("CSV missing header line starting with #")]
    NoHeader,
    /// A quote is opened and never closed.
    #[error("the quote opened in line {0} is not closed")]
    OpenQuote(usize),
    /// Text follows a closing quote.
    #[error("line {0}: text after a closing quote")]
    AfterQuote(usize),
    /// Not text.
    #[error("the file is not UTF-8 text")]
    NotText,
}

/// The columns of the header and the lines below it. Values may hold line breaks inside quotes.
///
/// # Errors
/// [`CsvError`]; nothing is guessed.
pub fn parse(bytes: &[u8]) -> Result<(Vec<String>, Vec<Record>), CsvError> {
    let text = std::str::from_utf8(bytes).map_err(|_| CsvError::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let header = first.trim_end_matches('\r').strip_prefix('#').ok_or(CsvError::NoHeader)?;
    let columns = header.split(',').map(|c| c.trim().trim_matches('"').to_owned()).collect();
    let mut records = Vec::new();
    let mut number = 2;
    let mut chars = rest.char_indices().peekable();
    while let Some(&(start, _)) = chars.peek() {
        let line = number;
        let mut values = vec![String::new()];
        let mut quoted = false;
        let mut closed = false;
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            number += usize::from(c == '\n');
            let Some(value) = values.last_mut() else { break };
            match c {
                '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    chars.next();
                    value.push('"');
                }
                '"' if quoted => {
                    quoted = false;
                    closed = true;
                }
                _ if quoted => value.push(c),
                '"' if value.is_empty() && !closed => quoted = true,
                ',' => {
                    values.push(String::new());
                    closed = false;
                }
                '\n' => {
                    end = at;
                    break;
                }
                '\r' if chars.peek().is_none_or(|(_, next)| *next == '\n') => {}
                _ if closed => return Err(CsvError::AfterQuote(line)),
                _ => value.push(c),
            }
        }
        if quoted {
            return Err(CsvError::OpenQuote(line));
        }
        let text = rest[start..end].trim_end_matches('\r').to_owned();
        if !text.is_empty() && !text.starts_with('#') {
            records.push(Record { values, text });
        }
    }
    Ok((columns, records))
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
    fn wrong_text_is_named() {
        assert_eq!(parse(b"\"t1\",\"R9\"\n"), Err(CsvError::NoHeader));
        assert_eq!(parse(b"#a,b\n\"t1,\"R9\n"), Err(CsvError::AfterQuote(2)));
        assert_eq!(parse(b"#a,b\nx,y\n\"t1"), Err(CsvError::OpenQuote(3)));
        assert_eq!(parse(b"#a\n\xff"), Err(CsvError::NotText));
        assert_eq!(parse(b""), Err(CsvError::NoHeader));
    }
}
