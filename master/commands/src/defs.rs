//! Words that several commands say, and short names of columns.

use state::{TableId, schema};

use crate::plan::{Ctx, Plan};

/// Short names of columns in the node commands.
pub(crate) const SHORT: [(&str, &str); 3] =
    [("groups", "nodelist.groups"), ("tags", "nodelist.groups"), ("mgt", "nodehm.mgt")];

/// `table.column`, or a short name.
pub(crate) fn column_of(text: &str) -> Option<(TableId, usize)> {
    let long = SHORT.iter().find(|(short, _)| *short == text).map(|(_, long)| *long);
    schema().column(long.unwrap_or(text))
}

/// xCAT's words for a column that does not exist.
pub(crate) fn no_column(ctx: &Ctx<'_>, text: &str) -> Plan {
    Plan::error(ctx, &format!("{text} not a valid table.column description"))
}

/// The types of objects, for usage texts.
pub(crate) fn types_text() -> String {
    schema().types.iter().map(|kind| kind.name).collect::<Vec<_>>().join(" ")
}

/// Usage of the definition commands: their own lines, then the types.
pub(crate) fn with_types(usage: &str) -> String {
    format!(
        "{usage}\nThe following data object types are supported by xCAT:\n\n {}\n\n\nUse the '-h' option \
         together with the '-t <object-types>' option to\n get a list of valid attribute names for each \
         object type.\n\n",
        types_text()
    )
}

/// Nic attributes are comma lists of `nic!value`, addressed as `nicips.eth0`.
pub(crate) const NICS: [&str; 10] = [
    "nicips",
    "nichostnamesuffixes",
    "nichostnameprefixes",
    "nictypes",
    "niccustomscripts",
    "nicnetworks",
    "nicaliases",
    "nicextraparams",
    "nicdevices",
    "nicsadapter",
];

/// An attribute as the user writes it: `nicips.eth0` is the part `eth0` of `nicips`.
pub(crate) fn split_attribute(text: &str) -> (&str, Option<&str>) {
    match text.split_once('.') {
        Some((name, part)) if NICS.contains(&name) => (name, Some(part)),
        _ => (text, None),
    }
}

/// Pairs of attribute and value as lsdef prints them: nic attributes one line a nic.
pub(crate) fn spread(attribute: &str, value: &str) -> Vec<(String, String)> {
    if !NICS.contains(&attribute) || !value.contains('!') {
        return vec![(attribute.to_owned(), value.to_owned())];
    }
    value
        .split(',')
        .map(|part| match part.split_once('!') {
            Some((nic, value)) => (format!("{attribute}.{nic}"), value.to_owned()),
            None => (attribute.to_owned(), part.to_owned()),
        })
        .collect()
}

/// Puts the value of one nic into a comma list; an empty value takes it out.
pub(crate) fn merge_part(list: &str, nic: &str, value: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut done = false;
    for part in list.split(',').filter(|p| !p.is_empty()) {
        if part.split('!').next() != Some(nic) {
            parts.push(part.to_owned());
        } else if !done && !value.is_empty() {
            parts.push(format!("{nic}!{value}"));
            done = true;
        }
    }
    if !done && !value.is_empty() {
        parts.push(format!("{nic}!{value}"));
    }
    parts.join(",")
}

/// What separates the elements of an attribute that is a list: conditions may have commas.
pub(crate) fn separator(attribute: &str) -> &'static str {
    if attribute == "wherevals" { "::" } else { "," }
}

/// Adds the elements of a comma list that are not there yet, at the end.
pub(crate) fn append(list: &str, added: &str) -> String {
    append_by(list, added, ",")
}

/// As [`append`], with another separator.
pub(crate) fn append_by(list: &str, added: &str, separator: &str) -> String {
    let mut parts: Vec<&str> = list.split(separator).filter(|p| !p.is_empty()).collect();
    for part in added.split(separator).filter(|p| !p.is_empty()) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(separator)
}

/// Takes elements out of a comma list.
pub(crate) fn subtract(list: &str, removed: &str) -> String {
    subtract_by(list, removed, ",")
}

/// As [`subtract`], with another separator.
pub(crate) fn subtract_by(list: &str, removed: &str, separator: &str) -> String {
    let removed: Vec<&str> = removed.split(separator).collect();
    let kept = list.split(separator).filter(|p| !p.is_empty() && !removed.contains(p));
    kept.collect::<Vec<_>>().join(separator)
}
