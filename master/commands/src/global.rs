//! Options that many commands have in common: `--output` and `--sort` of all, `--at` of those that read, `--plan`,
//! `--max-nodes` and `-y` of those that change, and what a plan would do.

use state::PastRow;
use state::history::merge;
use wire::client::{Format, Layout};

use crate::cells;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, find};

/// Nodes that a change may touch before somebody is asked.
pub const MAX_NODES: usize = 500;
/// Commands whose words belong to somebody else.
const REMOTE: [&str; 3] = ["xdsh", "psh", "policy"];

/// The forms of output by their words.
pub const FORMATS: [(&str, Format); 6] = [
    ("table", Format::Table),
    ("wide", Format::Wide),
    ("json", Format::Json),
    ("yaml", Format::Yaml),
    ("csv", Format::Csv),
    ("value", Format::Value),
];

/// What was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Global {
    /// The form of the output; none is lines.
    pub layout: Option<Layout>,
    /// Read the state as it was then.
    pub at: Option<String>,
    /// Show what would be changed.
    pub plan: bool,
    /// Do not ask.
    pub yes: bool,
    /// Ask beyond so many nodes, on a terminal or not.
    pub max_nodes: Option<usize>,
}

impl Global {
    /// Takes these options out of the arguments of a call by name, or of `margay` with a verb.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn take(called: &str, argv: &mut Vec<String>) -> Result<Global, String> {
        let mut global = Global::default();
        let Some(command) = command(called, argv) else { return Ok(global) };
        let (mut format, mut sort) = (None, None);
        let remote = REMOTE.contains(&command.name);
        let short = !remote && !command.has_own_o();
        let mut kept = Vec::with_capacity(argv.len());
        let mut words = std::mem::take(argv).into_iter();
        while let Some(word) = words.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            match name {
                "--output" => format = Some(parsed(inline.or_else(|| words.next()))?),
                "-o" if short || called == "margay" && kept.is_empty() => {
                    format = Some(parsed(words.next())?)
                }
                "--sort" => {
                    sort = Some(inline.or_else(|| words.next()).ok_or("Option sort requires a field")?)
                }
                // What follows the first argument may be a remote command's.
                _ if remote => {
                    let verb = called == "margay" && kept.is_empty();
                    kept.push(word);
                    if !verb {
                        kept.extend(words);
                        break;
                    }
                }
                "--" => {
                    kept.push(word);
                    kept.extend(words);
                    break;
                }
                "--at" if !command.writes => {
                    let value = inline.or_else(|| words.next());
                    global.at = Some(value.ok_or("Option at requires an argument")?);
                }
                "--plan" if command.writes && inline.is_none() => global.plan = true,
                "-y" | "--yes" if command.writes && inline.is_none() => global.yes = true,
                "--max-nodes" if command.writes => {
                    let value = inline.or_else(|| words.next()).and_then(|value| value.parse().ok());
                    global.max_nodes = Some(value.ok_or("Option max-nodes requires a number")?);
                }
                _ => kept.push(word),
            }
        }
        *argv = kept;
        if format.is_some() || sort.is_some() {
            global.layout = Some(Layout { format: format.unwrap_or(Format::Table), sort });
        }
        Ok(global)
    }

    /// Whether the number of nodes matters at all.
    pub fn guards(&self, terminal: bool) -> bool {
        !self.yes && !self.plan && (terminal || self.max_nodes.is_some())
    }

    /// The question that must be answered before so many nodes are changed, if there is one.
    pub fn asks(&self, nodes: usize, terminal: bool) -> Option<String> {
        let most = self.max_nodes.unwrap_or(MAX_NODES);
        (self.guards(terminal) && nodes > most)
            .then(|| format!("This changes {nodes} nodes, more than {most}. Go on? [y/N] "))
    }
}

fn parsed(word: Option<String>) -> Result<Format, String> {
    let word = word.ok_or("Option output requires a format")?;
    let format = FORMATS.iter().find(|(name, _)| *name == word).map(|(_, format)| *format);
    let known = FORMATS.map(|(name, _)| name).join(", ");
    format.ok_or_else(|| format!("'{word}' is not a format of output; the formats are {known}"))
}

/// The command that is called; `margay` may have options before its verb.
fn command(called: &str, argv: &[String]) -> Option<&'static Command> {
    if called != "margay" {
        return find(called);
    }
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--at" | "--max-nodes" | "--output" | "-o" | "--sort" => {
                words.next();
            }
            other if other.starts_with('-') => {}
            verb => return find(verb),
        }
    }
    None
}

/// What a plan would do, as an answer; a need stays a need.
pub fn shown(ctx: &Ctx<'_>, plan: Plan) -> Plan {
    let mut output = Output::new();
    match plan {
        Plan::Need(_) | Plan::Answer(_) => return plan,
        Plan::Change(change) => return shown_change(ctx, &change),
        Plan::FanOut(fan_out) => nodes(&fan_out.nodes, &mut output),
        Plan::Adapters(adapters) => nodes(&adapters.nodes, &mut output),
        Plan::Attach(_)
        | Plan::Cancel(_)
        | Plan::Admit(_)
        | Plan::Helper(_)
        | Plan::Watch(_)
        | Plan::Compact(_) => {
            output.line("No cell would be changed by the command itself");
        }
    }
    output.into()
}

fn shown_change(ctx: &Ctx<'_>, change: &Change) -> Plan {
    let events = match ctx.state.preview(&change.preconditions, &change.changes) {
        Ok(events) => events,
        Err(refusal) => return Plan::error(ctx, &refusal.to_string()),
    };
    let rows: Vec<PastRow> = events.iter().map(PastRow::from).flat_map(PastRow::split).collect();
    let rows = merge(&rows);
    let mut output = change.notes.clone();
    if ctx.inputs.rows {
        output.fields(&cells::FIELDS);
        cells::rows(&rows, &[], &mut output);
    }
    cells::print(&rows, &mut output);
    output.line(&format!("would be changed: {}", cells::summary(&rows)));
    for effect in &change.effects {
        if matches!(effect, crate::plan::Effect::WriteHosts(_)) {
            output.line("the hosts file would be written");
        }
        if let crate::plan::Effect::Monitor(order) = effect {
            output.line(&format!("{} would be told", order.plugin));
        }
    }
    output.status(change.output.status).into()
}

fn nodes(nodes: &[String], output: &mut Output) {
    output.line(&format!("would be done with {}: {}", cells::count(nodes.len(), "node"), nodes.join(",")));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take(called: &str, line: &str) -> (Result<Global, String>, String) {
        let mut argv = line.split_whitespace().map(str::to_owned).collect();
        let global = Global::take(called, &mut argv);
        (global, argv.join(" "))
    }

    #[test]
    fn each_kind_of_command_has_its_options_and_remote_words_stay() {
        let (global, rest) = take("nodels", "--at 5 all groups");
        assert_eq!((global.unwrap().at.as_deref(), rest.as_str()), (Some("5"), "all groups"));
        let (global, rest) = take("margay", "--at=2h nodels all");
        assert_eq!((global.unwrap().at.as_deref(), rest.as_str()), (Some("2h"), "nodels all"));
        let (global, rest) = take("nodech", "n1 groups=x --plan -y --max-nodes 7");
        let expected = Global { plan: true, yes: true, max_nodes: Some(7), ..Global::default() };
        assert_eq!((global.unwrap(), rest.as_str()), (expected, "n1 groups=x"));
        for (called, line) in
            [("xdsh", "n1 make --plan -y"), ("nodels", "all --plan"), ("nodech", "--at 5 n1")]
        {
            assert_eq!(take(called, line), (Ok(Global::default()), line.to_owned()), "{called} {line}");
        }
        assert!(take("nodels", "--at").0.is_err() && take("nodech", "--max-nodes x").0.is_err());
    }

    #[test]
    fn output_is_asked_for_everywhere_and_short_where_the_letter_is_free() {
        let layout = |called: &str, line: &str| {
            let (global, rest) = take(called, line);
            (global.unwrap().layout.map(|layout| (layout.format, layout.sort)), rest)
        };
        let csv = Some((Format::Csv, None));
        assert_eq!(layout("nodels", "-o csv all"), (csv.clone(), "all".into()));
        assert_eq!(layout("lsdef", "-t node -o n1 --output=csv"), (csv.clone(), "-t node -o n1".into()));
        assert_eq!(layout("margay", "-o csv lsdef -o n1"), (csv.clone(), "lsdef -o n1".into()));
        assert_eq!(
            layout("xdsh", "--output csv n1 prog --output x"),
            (csv.clone(), "n1 prog --output x".into())
        );
        assert_eq!(layout("margay", "xdsh --output csv n1 ls"), (csv, "xdsh n1 ls".into()));
        let sorted = Some((Format::Table, Some("-node".to_owned())));
        assert_eq!(layout("rpower", "all stat --sort -node"), (sorted, "all stat".into()));
        assert!(take("nodels", "-o xml").0.unwrap_err().contains("json"));
    }

    #[test]
    fn many_nodes_are_asked_about_on_a_terminal_or_when_a_limit_was_named() {
        let mut global = Global::default();
        assert!(global.asks(501, true).is_some());
        assert!(global.asks(500, true).is_none() && global.asks(501, false).is_none());
        global.max_nodes = Some(3);
        assert!(global.asks(4, false).is_some());
        global.yes = true;
        assert!(global.asks(4, true).is_none());
    }
}
