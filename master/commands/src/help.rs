//! `margay help`, `margay man`, and what `--help` says beyond the usage.

use crate::manual::{manual, options};
use crate::operate::read;
use crate::plan::{Change, Ctx, Effect, Output, Plan};
use crate::registry::{Command, Range, commands, find};
use crate::roff;

/// `margay help`.
pub static HELP: Command = Command {
    name: "help",
    aliases: &[],
    summary: "List the commands, or explain one",
    usage: "Usage: margay help [command]\n",
    writes: false,
    range: Range::None,
    plan: help,
};

/// `margay man`.
pub static MAN: Command = Command {
    name: "man",
    aliases: &[],
    summary: "Write the manual pages of all commands into a folder",
    usage: "Usage: margay man DIR\n",
    writes: false,
    range: Range::None,
    plan: man,
};

/// Width of the column of options and examples.
const LEFT: usize = 26;
/// Width of a page.
const WIDTH: usize = 100;

/// The list of all commands.
pub fn list() -> String {
    let mut text = "Usage: margay <command> [arguments]    or each command by its own name\n\n".to_owned();
    let mut commands = commands();
    commands.sort_by_key(|command| command.name);
    for command in commands {
        text.push_str(&format!("  {:<18} {}\n", command.name, command.summary));
    }
    text.push_str("\nmargay help COMMAND explains one; margay completion bash, zsh or fish prints completion for a shell.\n");
    text
}

/// Adds options and examples when the plan is the answer to a command's `--help`.
#[must_use]
pub fn extended(command: &Command, plan: Plan) -> Plan {
    match plan {
        Plan::Answer(output) if output.status == 0 && is_usage(&output, command.usage) => {
            let mut output = output;
            output.text(&format!("\n{}.\n{}", command.summary, details(command)));
            output.into()
        }
        other => other,
    }
}

fn is_usage(output: &Output, usage: &str) -> bool {
    match output.items.as_slice() {
        // The list of object types is filled into some.
        [only] if only.text.starts_with(usage.as_bytes()) => {
            only.text == usage.as_bytes() || only.text == crate::defs::with_types(usage).as_bytes()
        }
        _ => false,
    }
}

fn help(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, HELP.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let mut output = Output::new();
    match given.rest.as_slice() {
        [] => {
            if ctx.inputs.rows {
                output.fields(&["command", "summary"]);
                commands().iter().for_each(|command| output.row(&[command.name, command.summary]));
            }
            output.text(&list());
        }
        [name] => {
            let Some(command) = find(name) else {
                return Plan::error(
                    ctx,
                    &format!("Unknown command: {name}; 'margay help' lists the commands"),
                );
            };
            output.text(&format!("{} - {}\n\n", command.name, command.summary));
            output.text(&format!("{}\n", command.usage.trim_matches('\n')));
            for paragraph in manual(command.name).iter().flat_map(|manual| &manual.paragraphs) {
                output.text(&format!("\n{}\n", wrapped(paragraph, 0).trim_start()));
            }
            output.text(&details(command));
        }
        _ => return Plan::usage(HELP.usage, 1),
    }
    output.into()
}

fn man(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, MAN.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [folder] = given.rest.as_slice() else { return Plan::usage(MAN.usage, 1) };
    let pages = roff::pages(ctx.version);
    let mut output = Output::new();
    output.line(&format!("{} pages written to {folder}", pages.len()));
    let effects = pages
        .into_iter()
        .map(|(name, text)| Effect::ClientFile { path: format!("{folder}/{name}"), bytes: text.into_bytes() })
        .collect();
    Plan::Change(Change { effects, output, ..Change::default() })
}

/// Options and examples.
fn details(command: &Command) -> String {
    let mut text = "\nOptions:\n".to_owned();
    for (names, explanation) in options(command) {
        text.push_str(&two_columns(names, explanation));
    }
    let examples = manual(command.name).map(|manual| manual.examples.as_slice()).unwrap_or_default();
    if !examples.is_empty() {
        text.push_str("\nExamples:\n");
    }
    for (example, explanation) in examples {
        text.push_str(&format!("  {example}\n      {explanation}\n"));
    }
    text
}

fn two_columns(left: &str, right: &str) -> String {
    let right = wrapped(right, LEFT + 4);
    match left.len() > LEFT {
        true => format!("  {left}\n{right}\n"),
        false => format!("  {left:<LEFT$}  {}\n", right.trim_start()),
    }
}

/// Lines of at most [`WIDTH`], each behind so many blanks.
fn wrapped(text: &str, indent: usize) -> String {
    let blank = " ".repeat(indent);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{blank}{word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wire::op::Stream;

    use super::*;
    use crate::nodediscover::tests::planned;

    #[test]
    fn the_help_of_a_command_has_its_options_and_examples() {
        let command = find("nodels").unwrap();
        let Plan::Answer(output) = extended(command, planned("nodels", &["--help"])) else {
            panic!("no answer")
        };
        let text = output.all(Stream::Out);
        assert!(text.starts_with(command.usage), "{text}");
        for part in ["  -b, --blame   ", "-o, --output FORMAT", "--at POINT", "  nodels rack1 groups\n"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let mistake = planned("nodels", &["--nosuch"]);
        assert_eq!(extended(command, mistake.clone()), mistake);
    }

    #[test]
    fn margay_help_explains_each_command_and_lists_all() {
        for command in commands() {
            let Plan::Answer(output) = planned("help", &[command.name]) else { panic!("no answer") };
            let text = output.all(Stream::Out);
            assert!(
                text.contains(command.summary) && text.contains("Options:") && output.status == 0,
                "{text}"
            );
            assert!(list().contains(&format!("  {} ", command.name)));
        }
        assert!(matches!(planned("help", &["nosuch"]), Plan::Answer(output) if output.status == 1));
    }

    #[test]
    fn the_pages_go_into_the_folder() {
        let Plan::Change(change) = planned("man", &["m"]) else { panic!("no change") };
        let path =
            |effect: &Effect| matches!(effect, Effect::ClientFile { path, .. } if path == "m/nodels.1");
        assert!(change.effects.iter().any(path) && change.changes.is_empty());
    }
}
