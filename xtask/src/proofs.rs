//! Tables of acceptance checks: each check names the tests that prove it, and each of these tests exists.
//!
//! A table is a file below `tests/checks`: id, what is required, and `file#test` words, separated by tabs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// The checks of getadapter: A01 to A41 without those that are about leaders.
const GETADAPTER: (&str, u32, &[u32]) = ("tests/checks/getadapter.tsv", 41, &[26, 27, 31, 36]);

/// What is wrong with the tables, one line each.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let (path, last, elsewhere) = GETADAPTER;
    let table = std::fs::read_to_string(workspace.root.join(path)).with_context(|| path.to_owned())?;
    let wanted =
        (1..=last).filter(|number| !elsewhere.contains(number)).map(|number| format!("A{number:02}"));
    let source = |file: &str| std::fs::read_to_string(Path::new(&workspace.root).join(file)).ok();
    Ok(faults(&table, &wanted.collect(), source)
        .into_iter()
        .map(|fault| format!("{path}: {fault}"))
        .collect())
}

fn faults(table: &str, wanted: &BTreeSet<String>, source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let [id, what, tests] = line.split('\t').collect::<Vec<_>>()[..] else {
            faults.push(format!("not three columns: {line}"));
            continue;
        };
        if !wanted.contains(id) || !seen.insert(id.to_owned()) || what.is_empty() || tests.is_empty() {
            faults.push(format!("{id} is unknown, there twice, or says nothing"));
        }
        for test in tests.split(' ').filter(|test| !test.is_empty()) {
            let there = test
                .split_once('#')
                .is_some_and(|(file, name)| source(file).is_some_and(|text| is_test(&text, name)));
            if !there {
                faults.push(format!("{id}: there is no test {test}"));
            }
        }
    }
    faults.extend(wanted.difference(&seen).map(|id| format!("{id} is missing")));
    faults
}

/// Whether a function of this name stands right below a test attribute.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        let function = pair[1].trim_start_matches("async ").strip_prefix("fn ");
        let named =
            function.is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')));
        named && (pair[0] == "#[test]" || pair[0].starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_without_a_test_or_with_one_that_is_no_test_is_named() {
        let source =
            "#[test]\nfn good() {}\n\n#[tokio::test(flavor = \"x\")]\nasync fn fine() {}\n\nfn helper() {}\n";
        let wanted: BTreeSet<String> = ["A01", "A02", "A03"].map(str::to_owned).into();
        let read = |file: &str| (file == "a.rs").then(|| source.to_owned());
        let table = "# words\nA01\tone\ta.rs#good a.rs#fine\nA02\ttwo\ta.rs#helper\nA02\ttwo\tb.rs#good\nA09\t\ta.rs#goo\nx\n";
        assert_eq!(
            faults(table, &wanted, read),
            [
                "A02: there is no test a.rs#helper",
                "A02 is unknown, there twice, or says nothing",
                "A02: there is no test b.rs#good",
                "A09 is unknown, there twice, or says nothing",
                "A09: there is no test a.rs#goo",
                "not three columns: x",
                "A03 is missing",
            ]
        );
        assert_eq!(faults("A01\tone\ta.rs#good\n", &["A01".to_owned()].into(), read), [""; 0]);
    }

    #[test]
    fn every_check_of_getadapter_names_tests_that_exist() {
        let workspace = Workspace::find().unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(check(&workspace).unwrap_or_else(|error| vec![error.to_string()]), [""; 0]);
    }
}
