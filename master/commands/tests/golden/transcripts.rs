//! Every observed session, step by step. What is not the same is listed with its reason in
//! `tests/golden/pending.tsv`; the list must be exact, so it can only shrink.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::renamed::{Form, PERMUTED};
use crate::world::{Ran, World, golden, records};

#[test]
fn sessions_print_what_xcat_printed() {
    let mut sessions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records("transcripts.jsonl") {
        let id = record["id"].as_str().unwrap().to_owned();
        sessions.entry(id).or_default().push(record);
    }
    let listed = std::fs::read_to_string(golden("pending.tsv")).unwrap();
    let listed: BTreeMap<&str, &str> =
        listed.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('\t')).collect();
    let page = std::fs::read_to_string(golden("../../docs/decisions/040-differences.md")).unwrap();
    for id in listed.keys() {
        assert!(page.contains(id), "docs/decisions/040-differences.md does not explain {id}");
    }
    assert!(listed.len() <= 10, "too many differences");
    let mut failing: BTreeMap<&str, String> = BTreeMap::new();
    for (id, steps) in &sessions {
        if let Err(text) = session(id, steps, Form::Observed) {
            failing.insert(id, text);
        }
    }
    let required = |id: &str| {
        let name = sessions[id][0]["cmd"][0].as_str().unwrap();
        id.starts_with('r') && matches!(name, "nodels" | "tabdump" | "gettab")
    };
    for id in listed.keys() {
        assert!(!required(id), "{id} is required and cannot be pending");
    }
    let news: Vec<String> = failing
        .iter()
        .filter(|(id, _)| !listed.contains_key(**id))
        .map(|(id, text)| format!("{id}: {text}"))
        .collect();
    let known: BTreeSet<&str> = listed.keys().copied().filter(|id| !failing.contains_key(id)).collect();
    assert!(
        news.is_empty() && known.is_empty(),
        "{} sessions differ:\n{}\nlisted as pending, but right now: {known:?}",
        news.len(),
        news.join("\n")
    );
    println!("{} of {} sessions are the same", sessions.len() - failing.len(), sessions.len());
}

#[test]
fn sessions_with_other_names_and_rows_in_another_order_print_the_same_with_these_names() {
    let mut sessions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records("transcripts.jsonl") {
        let id = record["id"].as_str().unwrap().to_owned();
        sessions.entry(id).or_default().push(Form::Renamed.value(record));
    }
    let known = |name: &str| {
        let text = std::fs::read_to_string(golden(name)).unwrap();
        let ids = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'));
        ids.map(|(id, _)| id.to_owned()).collect::<BTreeSet<_>>()
    };
    let (pending, listed) = (known("pending.tsv"), known("renamed.tsv"));
    let mut failing: BTreeMap<&str, String> = BTreeMap::new();
    // Sessions at nodes are about the nodes, not about names.
    for (id, steps) in sessions.iter().filter(|(id, _)| !pending.contains(*id) && !id.starts_with('d')) {
        if let Err(text) = session(id, steps, Form::Renamed) {
            failing.insert(id, text);
        }
    }
    let news: Vec<String> = failing
        .iter()
        .filter(|(id, _)| !listed.contains(**id))
        .map(|(id, text)| format!("{id}: {text}"))
        .collect();
    let right: Vec<&String> = listed.iter().filter(|id| !failing.contains_key(id.as_str())).collect();
    assert!(
        news.is_empty() && right.is_empty(),
        "{} sessions differ:\n{}\nlisted in renamed.tsv, but right now: {right:?}",
        news.len(),
        news.join("\n")
    );
}

fn session(id: &str, steps: &[Value], form: Form) -> Result<(), String> {
    let mut world = World::observed_as("transcript_files.json", form);
    if id.starts_with('d') {
        world = world.with_answering_nodes();
    }
    for step in steps {
        let command: Vec<&str> =
            step["cmd"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let ran = world
            .run(&command, step["stdin"].as_str().unwrap_or(""))
            .ok_or_else(|| format!("{} is not a command of this crate", command[0]))?;
        compare(id, step, &command, &ran, form).map_err(|text| {
            format!(
                "{command:?} {text}\n--- ours ({})\n{}{}--- xcat ({})\n{}{}",
                ran.rc,
                ran.out,
                ran.err,
                step["rc"],
                step["stdout"].as_str().unwrap(),
                step["stderr"].as_str().unwrap()
            )
        })?;
    }
    Ok(())
}

fn compare(id: &str, step: &Value, command: &[&str], ran: &Ran, form: Form) -> Result<(), &'static str> {
    let text = |key: &str| step[key].as_str().unwrap();
    let is = |key: &str| step[key].as_bool() == Some(true);
    let number = step["step"].as_i64().unwrap_or(0);
    // Faults of the original that are not copied, and what is right instead.
    match (id, number) {
        ("w082", 3) => return check(ran.out.lines().count() == 5, "the table is not unchanged"),
        ("w167", 2) => {
            let names: Vec<&str> = ran.out.lines().skip(1).filter_map(|l| l.split('"').nth(1)).collect();
            let right = ["compute", "frame", "padded", "n30", "rack1", "rack2"].map(|name| form.text(name));
            let (names, right): (BTreeSet<&str>, BTreeSet<&str>) =
                (names.into_iter().collect(), right.iter().map(String::as_str).collect());
            return check(names == right, "rows beside those of the groups");
        }
        // Its service nodes could not be reached; ours are not asked.
        ("w181", 1) => return check(ran.rc == 0 && ran.out.is_empty() && ran.err.is_empty(), "not silent"),
        ("w182", 1) => return check(ran.rc == 0 && ran.out == text("stdout"), "other output"),
        _ => {}
    }
    if is("perl_error") {
        return check(ran.rc != 0, "it succeeded");
    }
    check(ran.rc == step["rc"].as_i64().unwrap(), "other status")?;
    let described = command.contains(&"-d") && command[0] == "tabdump"
        || command.contains(&"-h") && command[0] == "lsdef" && command.contains(&"-t");
    if described && ran.rc == 0 {
        return check(names(&ran.out) == names(text("stdout")), "other names");
    }
    if command.iter().any(|a| matches!(*a, "-v" | "--version")) {
        return Ok(());
    }
    if text("stdout").contains("Usage: ")
        || text("stdout").contains("Usage:\n")
        || command.contains(&"lsxcatd") && ran.rc == 1
    {
        let missing = options(text("stdout")).difference(&options(&ran.out)).next().is_some();
        check(!missing, "an option is missing in the usage")?;
        return check(ran.err == text("stderr"), "other errors");
    }
    let permuted = form == Form::Renamed;
    if permuted || is("varied") || is("unordered") || matches!(command[0], "tabgrep" | "xcoll") {
        let folded =
            permuted || command[0] == "xcoll" || command.last().is_some_and(|line| line.ends_with("| xcoll"));
        // The order of lines is a hash's, in xcoll also that of the names in a line.
        let words = |line: &str| {
            let mut words: Vec<&str> =
                line.split(|c| if permuted { PERMUTED.contains(&c) } else { c == ',' }).collect();
            words.sort_unstable_by_key(|word| if folded { word } else { "" });
            words.join(",")
        };
        let sorted = |text: &str| text.lines().map(words).collect::<BTreeSet<_>>();
        let version = form.text("Version 2.19.0 (git commit 7733d16f8de0fc36b80638c04a7033931fa13304)");
        let out = ran.out.replace("Version 0.1.0", &version);
        check(sorted(&out) == sorted(text("stdout")), "other lines")?;
        return check(sorted(&ran.err) == sorted(text("stderr")), "other error lines");
    }
    let versions = ran
        .out
        .replace("Version 0.1.0", "Version 2.19.0 (git commit 7733d16f8de0fc36b80638c04a7033931fa13304)");
    check(ran.out == text("stdout") || versions == text("stdout"), "other output")?;
    check(ran.err == text("stderr"), "other errors")
}

fn check(holds: bool, text: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(text) }
}

/// Names in front of the first colon of unindented lines.
fn names(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && !name.contains(' '))
        .collect()
}

/// Words that are options.
fn options(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | '|' | '{' | '}' | ','))
        .filter(|word| word.starts_with('-') && word.len() > 1)
        .collect()
}
