//! What every command does, for people: the texts below `manual/`, read once.
//!
//! A section begins with `= command`. Its other lines are: `> kinds` of the arguments in order (the last one may be
//! repeated; see [`Manual::arguments`]), an option with its explanation behind a colon, an example behind `$` with its
//! explanation behind a `#`, and text. An empty line ends a paragraph.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::registry::Command;

const TEXTS: [&str; 4] = [
    include_str!("manual/tables.txt"),
    include_str!("manual/nodes.txt"),
    include_str!("manual/hardware.txt"),
    include_str!("manual/margay.txt"),
];

/// Options that every command has.
const EVERY: [(&str, &str); 5] = [
    ("-h, --help", "Show usage, options and examples."),
    ("-v, --version", "Show the version."),
    ("-V, --verbose", "Tell more, where there is more to tell."),
    ("--output FORMAT", "Output as table, wide, json, yaml, csv or value."),
    (
        "--sort FIELD",
        "Rows in the order of this field; with - in front the other way round. Without --output a table.",
    ),
];
/// Where the letter is free.
const SHORT_OUTPUT: (&str, &str) =
    ("-o, --output FORMAT", "Output as table, wide, json, yaml, csv or value.");
/// Of those that read.
const READS: [(&str, &str); 1] =
    [("--at POINT", "As it was at a revision, at a time (2026-11-20T09:30, UTC) or so long ago (2h).")];
/// Of those that change.
const WRITES: [(&str, &str); 3] = [
    ("--plan", "Show what would be changed and change nothing."),
    ("--max-nodes COUNT", "Ask when more nodes would be changed (500, on a terminal)."),
    ("-y, --yes", "Do not ask."),
];

static MANUALS: LazyLock<BTreeMap<&'static str, Manual>> = LazyLock::new(read);

/// The explanation of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manual {
    /// What it does.
    pub paragraphs: Vec<String>,
    /// Kinds of arguments, for completion: a kind's name, or words separated by `|`.
    pub arguments: Vec<&'static str>,
    /// Spellings (`-t, --type TYPE`) and explanations of its own options.
    pub options: Vec<(&'static str, &'static str)>,
    /// Command lines with what they do.
    pub examples: Vec<(&'static str, &'static str)>,
}

/// The explanation of a command, which may be missing.
pub fn manual(name: &str) -> Option<&'static Manual> {
    MANUALS.get(name)
}

/// The commands that are explained.
pub fn explained() -> impl Iterator<Item = &'static str> {
    MANUALS.keys().copied()
}

/// All options of a command: its own, then those it shares with others.
pub fn options(command: &Command) -> Vec<(&'static str, &'static str)> {
    let mut options = manual(command.name).map(|manual| manual.options.clone()).unwrap_or_default();
    let shared: &[(&str, &str)] = if command.writes { &WRITES } else { &READS };
    let every = EVERY.map(|option| match option.0.contains("--output") && !command.has_own_o() {
        true => SHORT_OUTPUT,
        false => option,
    });
    for (names, text) in shared.iter().copied().chain(every) {
        // A letter that the command uses itself means what the command says.
        let taken = |name: &str| options.iter().any(|(own, _)| spellings(own).any(|spelled| spelled == name));
        if spellings(names).all(|name| !taken(name)) {
            options.push((names, text));
        } else if let Some(long) = names.split_once(", ").map(|(_, long)| long)
            && spellings(long).all(|name| !taken(name))
        {
            options.push((long, text));
        }
    }
    options
}

/// `-t` and `--type` of `-t, --type TYPE`.
pub fn spellings(names: &str) -> impl Iterator<Item = &str> {
    names.split(", ").filter_map(|name| name.split(' ').next())
}

/// `TYPE` of `-t, --type TYPE`.
pub fn value(names: &str) -> Option<&str> {
    names.rsplit(", ").next()?.split_once(' ').map(|(_, value)| value)
}

fn read() -> BTreeMap<&'static str, Manual> {
    let mut manuals: BTreeMap<&'static str, Manual> = BTreeMap::new();
    let mut name = "";
    let mut open = false;
    for line in TEXTS.into_iter().flat_map(str::lines) {
        if let Some(begun) = line.strip_prefix("= ") {
            (name, open) = (begun, false);
            manuals.entry(name).or_default();
            continue;
        }
        let Some(manual) = manuals.get_mut(name).filter(|_| !line.starts_with("# ")) else { continue };
        if let Some(kinds) = line.strip_prefix("> ") {
            manual.arguments = kinds.split(' ').collect();
        } else if let Some(example) = line.strip_prefix("$ ") {
            manual.examples.push(example.split_once(" # ").unwrap_or((example, "")));
        } else if line.starts_with('-') {
            manual.options.push(line.split_once(": ").unwrap_or((line, "")));
        } else if line.is_empty() {
            open = false;
        } else if open && let Some(paragraph) = manual.paragraphs.last_mut() {
            paragraph.push(' ');
            paragraph.push_str(line);
        } else {
            manual.paragraphs.push(line.to_owned());
            open = true;
        }
    }
    manuals
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    /// The options that a usage text names.
    fn named(usage: &str) -> BTreeSet<&str> {
        let words = usage.split(|c: char| c.is_whitespace() || "[]|{},<>()=:;.".contains(c));
        words
            .filter(|word| {
                word.starts_with('-') && word.trim_start_matches('-').starts_with(char::is_alphabetic)
            })
            .collect()
    }

    #[test]
    fn every_command_is_explained_with_an_example() {
        let mut faults = Vec::new();
        for command in crate::commands() {
            let name = command.name;
            let Some(manual) = manual(name) else {
                faults.push(format!("{name} has no section"));
                continue;
            };
            if manual.paragraphs.is_empty() || manual.examples.is_empty() {
                faults.push(format!("{name} has no text or no example"));
            }
            let good = |(example, text): &&(&str, &str)| !text.is_empty() && example.contains(name);
            let bad = manual.examples.iter().filter(|example| !good(example));
            faults.extend(bad.map(|(example, _)| format!("{name}: {example}")));
        }
        let names: BTreeSet<&str> = crate::commands().iter().map(|command| command.name).collect();
        faults.extend(
            explained().filter(|name| !names.contains(name)).map(|name| format!("{name} is no command")),
        );
        assert!(faults.is_empty(), "in master/commands/src/manual: {faults:#?}");
    }

    #[test]
    fn every_option_that_a_usage_names_is_explained() {
        let mut faults = Vec::new();
        for command in crate::commands() {
            let options = options(command);
            let known: BTreeSet<&str> = options.iter().flat_map(|(names, _)| spellings(names)).collect();
            let others = ["--async", "--Version"];
            for option in named(command.usage) {
                if !known.contains(option) && !others.contains(&option) {
                    faults.push(format!("{} {option}", command.name));
                }
            }
            let empty = options.iter().filter(|(_, text)| text.is_empty());
            faults.extend(empty.map(|(names, _)| format!("{} {names}", command.name)));
        }
        assert!(faults.is_empty(), "not explained in master/commands/src/manual: {faults:#?}");
    }

    #[test]
    fn spellings_and_values_are_told_apart() {
        assert_eq!(spellings("-t, --type TYPE").collect::<Vec<_>>(), ["-t", "--type"]);
        assert_eq!((value("-t, --type TYPE"), value("-z, --stanza")), (Some("TYPE"), None));
    }
}
