//! Every option of every command of the tables: command line, status, both outputs, and the tables after.
//!
//! The cases are the files below `tests/options`. In them
//!
//! - `== title` begins a case on the observed database, `== title (founded)` one on that of a new cluster;
//! - `$ command` is run; `<` in front of the lines after it is its standard input;
//! - `? 1` is the status it must end with (0 when it is not said), `! text` a line of its standard error, and every
//!   other line one of its standard output, in order;
//! - `~ text` is a line that must be somewhere in the output, `~~` any other output too (a usage text);
//! - `@ path text` is a file of the client, with `\n` for line ends.
//!
//! With `MARGAY_WRITE` in the environment the files are written anew with what the commands print, to be read.

use std::path::{Path, PathBuf};

use crate::world::{Ran, World};

/// A command and what is expected of it.
#[derive(Debug, Default, Clone)]
struct Step {
    line: String,
    input: String,
    status: i64,
    out: Vec<String>,
    err: Vec<String>,
    some: Vec<String>,
    /// Only `some` counts.
    loose: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/options")
}

/// The words of a command line; quotes and backslashes as a shell has them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None) => word.get_or_insert_default().extend(chars.next()),
            (' ', None) => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn run(world: &mut World, step: &Step) -> Ran {
    let words = words(&step.line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.run(&words, &step.input).unwrap_or_else(|| panic!("{}: not a command of this crate", step.line))
}

fn differs(step: &Step, ran: &Ran) -> Option<String> {
    let out: Vec<&str> = ran.out.lines().collect();
    let err: Vec<&str> = ran.err.lines().collect();
    let has = |text: &String| out.iter().chain(&err).any(|line| line.contains(text.as_str()));
    let same = ran.rc == step.status
        && step.some.iter().all(has)
        && (step.loose || (out == step.out && err == step.err));
    (!same).then(|| {
        format!("$ {}\n--- expected {step:?}\n--- but ({})\n{}{}", step.line, ran.rc, ran.out, ran.err)
    })
}

/// The file as it would be with what the commands print.
fn written(step: &Step, ran: &Ran) -> String {
    let mut text = format!("$ {}\n", step.line);
    step.input.lines().for_each(|line| text.push_str(&format!("< {line}\n")));
    if ran.rc != 0 {
        text.push_str(&format!("? {}\n", ran.rc));
    }
    step.some.iter().for_each(|line| text.push_str(&format!("~ {line}\n")));
    if step.loose {
        text.push_str("~~\n");
        return text;
    }
    ran.err.lines().for_each(|line| text.push_str(&format!("! {line}\n")));
    ran.out
        .lines()
        .for_each(|line| text.push_str(&format!("{}{line}\n", if line.is_empty() { "." } else { "" })));
    text
}

fn check(name: &str) {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let write = std::env::var_os("MARGAY_WRITE").is_some();
    let (mut wrong, mut anew) = (Vec::new(), String::new());
    let mut world: Option<World> = None;
    let mut step: Option<Step> = None;
    let mut cases = 0;
    let mut done = |world: &mut Option<World>, step: Option<Step>, anew: &mut String| {
        let Some(step) = step else { return };
        cases += 1;
        let ran = run(world.as_mut().expect("a case begins with =="), &step);
        anew.push_str(&written(&step, &ran));
        wrong.extend(differs(&step, &ran));
    };
    for line in text.lines() {
        if line.starts_with("== ") || line.starts_with("$ ") || line.starts_with("@ ") {
            done(&mut world, step.take(), &mut anew);
        }
        if line.starts_with("== ") {
            world = Some(match line.ends_with("(founded)") {
                true => World::founded(),
                false => World::observed("transcript_files.json"),
            });
            anew.push_str(&format!("\n{line}\n"));
        } else if line.starts_with('#') && step.is_none() {
            anew.push_str(&format!("{line}\n"));
        } else if let Some(file) = line.strip_prefix("@ ") {
            let (path, content) = file.split_once(' ').unwrap();
            world.as_mut().unwrap().disk.insert(path.to_owned(), content.replace("\\n", "\n"));
            anew.push_str(&format!("{line}\n"));
        } else if let Some(command) = line.strip_prefix("$ ") {
            step = Some(Step { line: command.to_owned(), ..Step::default() });
        } else if let Some(step) = &mut step {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("<", input) => step.input.push_str(&format!("{input}\n")),
                ("?", status) => step.status = status.parse().unwrap(),
                ("!", error) => step.err.push(error.to_owned()),
                ("~", some) => step.some.push(some.to_owned()),
                ("~~", _) => step.loose = true,
                (".", "") => step.out.push(String::new()),
                _ if line.is_empty() => {}
                _ => step.out.push(line.to_owned()),
            }
        }
    }
    done(&mut world, step.take(), &mut anew);
    if write {
        std::fs::write(&path, anew.trim_start()).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{} of {cases} in {name}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_option_of_the_definition_commands_does_what_it_says() {
    check("definitions.txt");
}

#[test]
fn every_option_of_the_table_commands_does_what_it_says() {
    check("tables.txt");
}

#[test]
fn every_option_of_the_node_commands_does_what_it_says() {
    check("nodes.txt");
}

#[test]
fn every_option_of_the_commands_for_files_and_output_does_what_it_says() {
    check("files.txt");
}

#[test]
fn wrong_tables_and_stanzas_are_named_and_change_nothing() {
    check("bad_input.txt");
}

/// Options that are read before the command.
const GLOBAL: [&str; 4] = ["--at", "--detach", "--max-nodes", "--plan"];

/// Each command with an option that its usage names must know it.
#[test]
fn every_option_in_a_usage_text_is_known_to_its_command() {
    for command in commands::commands() {
        let mut options: Vec<&str> = command
            .usage
            .split(|c: char| c.is_whitespace() || "[]|{},=<>().".contains(c))
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .collect();
        options.sort_unstable();
        options.dedup();
        for option in options {
            if GLOBAL.contains(&option) {
                continue;
            }
            let mut world = World::observed("transcript_files.json");
            let Some(ran) = world.run(&[command.name, option, "--no-such-option"], "") else { continue };
            let told = format!("{}{}", ran.out, ran.err);
            assert!(
                !told.starts_with(&format!("Unknown option: {}", &option[2..])),
                "{} {option}",
                command.name
            );
        }
    }
}
