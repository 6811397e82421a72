//! Names to the shortest text that expands to them: `n[1-72]`, `f[1-3]n[1-4]`.

use std::collections::{BTreeMap, BTreeSet};

/// Longest number that is folded; longer ones are taken as text.
const MAX_DIGITS: usize = 18;

/// Folds names. The result is deterministic, expands (by syntax) to the same set, and lists what cannot be
/// folded as it is.
pub fn fold<I, S>(names: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let names: BTreeSet<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    let mut shapes: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for name in &names {
        let (texts, numbers) = split(name);
        shapes.entry(texts).or_default().insert(numbers);
    }
    let mut parts = Vec::new();
    for (texts, rows) in shapes {
        for row in fold_rows(rows, &texts) {
            parts.push(spell(&texts, &row));
        }
    }
    parts.sort_by_cached_key(|part| key(part));
    parts.join(",")
}

/// Columns from the last to the first: rows that agree in all other columns become one.
fn fold_rows(rows: BTreeSet<Vec<String>>, texts: &[String]) -> Vec<Vec<String>> {
    let width = texts.len() - 1;
    let mut rows: Vec<Vec<String>> = rows.into_iter().collect();
    for column in (0..width).rev() {
        if column == 0 && texts[0].is_empty() {
            continue;
        }
        let mut merged: BTreeMap<Vec<String>, BTreeSet<String>> = BTreeMap::new();
        for mut row in rows {
            let value = std::mem::take(&mut row[column]);
            merged.entry(row).or_default().insert(value);
        }
        rows = Vec::new();
        for (mut row, values) in merged {
            row[column] = ranges(values);
            rows.push(row);
        }
    }
    rows
}

/// `1,2,3,7` to `[1-3,7]`; a single value stays bare.
fn ranges(values: BTreeSet<String>) -> String {
    if values.len() == 1 {
        return values.into_iter().next().unwrap_or_default();
    }
    let mut values: Vec<(u64, String)> =
        values.into_iter().map(|text| (text.parse().unwrap_or(u64::MAX), text)).collect();
    values.sort();
    let mut runs: Vec<(String, String)> = Vec::new();
    let mut awaited: BTreeMap<String, usize> = BTreeMap::new();
    for (number, text) in values {
        let run = match awaited.remove(&text) {
            Some(run) => {
                runs[run].1 = text;
                run
            }
            None => {
                runs.push((text.clone(), text));
                runs.len() - 1
            }
        };
        let (next, width) = (number.saturating_add(1), runs[run].0.len());
        awaited.insert(format!("{next:0width$}"), run);
    }
    let parts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first } else { format!("{first}-{last}") })
        .collect();
    format!("[{}]", parts.join(","))
}

/// Texts around the numbers (one more than numbers).
fn split(name: &str) -> (Vec<String>, Vec<String>) {
    let mut texts = vec![String::new()];
    let mut numbers: Vec<String> = Vec::new();
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
        let (text, number) = (&rest[..at], &rest[at..at + digits]);
        if let Some(last) = texts.last_mut() {
            last.push_str(text);
            if digits > MAX_DIGITS {
                last.push_str(number);
            } else {
                numbers.push(number.to_owned());
                texts.push(String::new());
            }
        }
        rest = &rest[at + digits..];
    }
    if let Some(last) = texts.last_mut() {
        last.push_str(rest);
    }
    (texts, numbers)
}

fn spell(texts: &[String], row: &[String]) -> String {
    let mut out = texts[0].clone();
    for (number, text) in row.iter().zip(&texts[1..]) {
        out.push_str(number);
        out.push_str(text);
    }
    out
}

fn key(part: &str) -> (String, Vec<u64>, String) {
    let (texts, numbers) = split(part);
    (
        texts[0].trim_end_matches('[').to_owned(),
        numbers.iter().filter_map(|n| n.parse().ok()).collect(),
        part.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::fold;
    use crate::{Options, generic};

    fn check(input: &str, expected: &str) {
        let names = generic(input, &Options::default()).expect("test expressions are well formed");
        let folded = fold(&names);
        assert_eq!(folded, expected, "{input}");
        assert_eq!(generic(&folded, &Options::default()).expect("folded text is well formed"), names);
    }

    #[test]
    fn folded_text_is_short_and_stands_for_the_same_names() {
        check("n1-n72", "n[1-72]");
        check("n1,n3,n4,n5", "n[1,3-5]");
        check("n8-n11", "n[8-11]");
        check("n08-n11", "n[08-11]");
        check("f[1-3]n[1-4]", "f[1-3]n[1-4]");
        check("f[1-2]n[1-4],f3n1", "f[1-2]n[1-4],f3n1");
        check("web-[01-03],login1", "login1,web-[01-03]");
        check("h[1-3].cluster.test", "h[1-3].cluster.test");
        check("db-[1-3]-a", "db-[1-3]-a");
        check("ib[0-1]-[1-2]", "ib[0-1]-[1-2]");
        check("n1,n01,n2,n02", "n[01-02,1-2]");
        check("gpu", "gpu");
        check("n10,n9,rack2n1,rack2n2", "n[9-10],rack2n[1-2]");
    }

    #[test]
    fn a_name_that_starts_with_a_number_is_listed_as_it_is() {
        check("5x,6x", "5x,6x");
    }

    #[test]
    fn a_number_too_long_to_count_is_text() {
        check(
            "n1234567890123456789012,n1234567890123456789013",
            "n1234567890123456789012,n1234567890123456789013",
        );
    }
}
