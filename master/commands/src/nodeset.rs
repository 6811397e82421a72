//! nodeset: what a node does when it boots next, and what after that.

use state::RowChange;

use crate::args::{flag, word};
use crate::fanout::node_error;
use crate::operate::read;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// nodeset.
pub static NODESET: Command = Command {
    name: "nodeset",
    aliases: &[],
    summary: "Choose what nodes do when they boot",
    usage: "Usage: nodeset <noderange> [boot|stat|offline|shell|standby|shutdown|runcmd=<command>|runimage=<url>|osimage[=<image>]][,...]
       nodeset [-h|--help|-v|--version]
",
    writes: true,
    range: Range::First,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let own = [flag('a', "all"), word("noupdateinitrd"), word("ignorekernelchk")];
    let given = match read(ctx, NODESET.usage, &own) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [range, word] = given.rest.as_slice() else { return Plan::usage(NODESET.usage, 1) };
    let nodes = match ctx.nodes(range) {
        Ok(nodes) => nodes,
        Err(plan) => return plan,
    };
    let asked = match ask(word) {
        Ok(asked) => asked,
        Err(text) => return Plan::error(ctx, &text),
    };
    let mut output = Output::new();
    let mut changes = Vec::new();
    for node in &nodes {
        match &asked {
            Ask::Stat => output.line(&format!("{node}: {}", present(ctx, node))),
            Ask::Offline => {
                changes.push(chain(node, "offline", ""));
                output.line(&format!("{node}: offline"));
            }
            Ask::Steps(steps) => match stored(ctx, node, steps) {
                Ok((first, rest, rows)) => {
                    output.line(&format!("{node}: {first}"));
                    changes.push(chain(node, &first, &rest));
                    changes.extend(rows);
                }
                Err(text) => {
                    output.items.push(node_error(node, ctx.cluster, &text));
                    output.status = 1;
                }
            },
        }
    }
    if changes.is_empty() {
        return output.into();
    }
    Plan::Change(Change { changes, output, ..Change::default() })
}

/// What nodeset stat says of a node.
fn present(ctx: &Ctx<'_>, node: &str) -> String {
    match ctx.state.text(node, "chain.currstate") {
        state if !state.is_empty() => state,
        _ if ctx.state.text(node, "mac.mac").is_empty() => "discover".to_owned(),
        _ => "offline".to_owned(),
    }
}

fn chain(node: &str, state: &str, rest: &str) -> RowChange {
    RowChange::set("chain", &[node], &[("currstate", state), ("currchain", rest)])
}

/// First state, remaining steps and further rows of a node that walks these steps.
fn stored(ctx: &Ctx<'_>, node: &str, steps: &[Step]) -> Result<(String, String, Vec<RowChange>), String> {
    let mut rows = Vec::new();
    let mut words = Vec::new();
    for step in steps {
        match step {
            Step::Word(word) => words.push(word.clone()),
            Step::Image(name) => {
                let (state, change) = image(ctx, node, name.as_deref())?;
                words.push(if words.is_empty() {
                    state
                } else {
                    format!("osimage={}", name.as_deref().unwrap_or_default())
                });
                rows.extend(change);
            }
        }
    }
    let first = words.remove(0);
    Ok((first, words.join(","), rows))
}

/// The state word of a deployment and the rows that remember the image.
fn image(ctx: &Ctx<'_>, node: &str, name: Option<&str>) -> Result<(String, Vec<RowChange>), String> {
    if ctx.state.text(node, "noderes.netboot").is_empty() {
        return Err("Unable to identify plugin for this command, check relevant tables: \
                    noderes.netboot=(grub2[-]?.*);nodehm.mgt;nodehm.mgt=switch"
            .to_owned());
    }
    let name = name.map_or_else(|| ctx.state.text(node, "nodetype.provmethod"), str::to_owned);
    let cell = |column: &str| {
        ctx.state.named("osimage").and_then(|table| {
            let (_, row) = table.find(&[name.as_str()])?;
            Some(row.text(table.def().column(column)?).to_owned())
        })
    };
    let Some(method) = cell("provmethod") else {
        return Err(format!("Cannot find the OS image '{name}' on the osimage table."));
    };
    if ctx.state.text(node, "mac.mac").is_empty() {
        return Err("No MAC address available for this node".to_owned());
    }
    let [os, arch, profile] = ["osvers", "osarch", "profile"].map(|column| cell(column).unwrap_or_default());
    let row = [("provmethod", name.as_str()), ("os", &os), ("arch", &arch), ("profile", &profile)];
    let kept: Vec<(&str, &str)> = row.iter().filter(|(_, value)| !value.is_empty()).copied().collect();
    Ok((format!("{method} {os}-{arch}-{profile}"), vec![RowChange::set("nodetype", &[node], &kept)]))
}

/// What nodeset's second word asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Show the present state.
    Stat,
    /// Serve the node no more.
    Offline,
    /// Walk these steps, the first one at the next boot.
    Steps(Vec<Step>),
}

/// A step of a node's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A word as it is stored: `boot`, `shell`, `standby`, `runcmd=...`, `runimage=...`, `shutdown`.
    Word(String),
    /// Deploy an image; none is the node's own (`nodetype.provmethod`).
    Image(Option<String>),
}

/// Reads the second word.
///
/// # Errors
/// A sentence for the user.
pub fn ask(word: &str) -> Result<Ask, String> {
    match word {
        "stat" => return Ok(Ask::Stat),
        "offline" => return Ok(Ask::Offline),
        _ => {}
    }
    let steps: Vec<Step> = split(word).into_iter().map(step).collect::<Result<_, _>>()?;
    let shutdown = |step: &Step| matches!(step, Step::Word(word) if word == "shutdown");
    let runs = |step: &Step| matches!(step, Step::Word(word) if word.starts_with("run"));
    let lonely = steps.first().is_some_and(shutdown);
    if lonely || steps.windows(2).any(|pair| shutdown(&pair[1]) && !runs(&pair[0])) {
        return Err("the state 'shutdown' can only follow runcmd or runimage".to_owned());
    }
    Ok(Ask::Steps(steps))
}

/// The steps of a list, at commas and semicolons outside quotes.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (None, ',' | ';') => parts.push(String::new()),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            _ => {}
        }
        let cut = quote.is_none() && matches!(letter, ',' | ';');
        if let Some(last) = parts.last_mut().filter(|_| !cut) {
            last.push(letter);
        }
    }
    parts
}

fn step(word: String) -> Result<Step, String> {
    let (name, value) =
        word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("boot" | "shell" | "standby" | "shutdown", None) => Ok(Step::Word(word)),
        ("runcmd" | "runimage", Some(value)) if !value.is_empty() => Ok(Step::Word(word)),
        ("runcmd" | "runimage", _) => Err(format!("the state '{name}' needs a value: {name}=...")),
        ("osimage", None) => Ok(Step::Image(None)),
        ("osimage", Some(image)) if !image.is_empty() => Ok(Step::Image(Some(image.to_owned()))),
        // The words of old guides: the node's own image.
        ("install" | "netboot", None) => Ok(Step::Image(None)),
        _ => Err(format!("the state '{word}' is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_comes_first_and_values_keep_their_quotes() {
        let word = |text: &str| Step::Word(text.to_owned());
        assert_eq!(
            ask("runcmd='a,b',runimage=http://x/y.tgz,boot"),
            Ok(Ask::Steps(vec![word("runcmd='a,b'"), word("runimage=http://x/y.tgz"), word("boot")]))
        );
        assert_eq!(ask("osimage=r9"), Ok(Ask::Steps(vec![Step::Image(Some("r9".to_owned()))])));
        assert_eq!(ask("stat"), Ok(Ask::Stat));
    }

    #[test]
    fn unknown_words_and_missing_values_are_refused() {
        for text in ["", "bott", "runcmd", "runimage=", "shell=1", "shutdown", "boot,shutdown", "boot,,shell"]
        {
            assert!(ask(text).is_err(), "{text}");
        }
        assert!(ask("runcmd=bmcsetup,shutdown").is_ok());
    }
}
