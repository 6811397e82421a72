//! Walking a node's chain (spec/flows.md b.3).

use super::Write;
use crate::view::Tables;

/// What a node without a chain does.
pub const STANDBY: &str = "standby";

/// `chain.currstate` and `chain.currchain` after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do now.
    pub state: String,
    /// What is left, comma separated. The last element stays.
    pub left: String,
}

/// The steps of a chain; `,` and `;` separate them.
fn steps(chain: &str) -> Vec<&str> {
    chain.split([',', ';']).map(str::trim).filter(|step| !step.is_empty()).collect()
}

/// The step after `state`.
///
/// An empty `left` begins with `chain`. The last element stays in `left`; reached again it becomes
/// `standby`, but `boot` stays `boot`.
#[must_use]
pub fn next(state: &str, left: &str, chain: &str) -> Step {
    let begins = steps(left).is_empty();
    let list = if begins { steps(chain) } else { steps(left) };
    match list.as_slice() {
        [] => Step { state: STANDBY.to_owned(), left: String::new() },
        [last] if !begins && *last == state && *last != "boot" => {
            Step { state: STANDBY.to_owned(), left: STANDBY.to_owned() }
        }
        [last] => Step { state: (*last).to_owned(), left: (*last).to_owned() },
        [first, rest @ ..] => Step { state: (*first).to_owned(), left: rest.join(",") },
    }
}

/// The first step of a chain, as after discovery.
#[must_use]
pub fn first(chain: &str) -> Step {
    next("", "", chain)
}

/// The word for `nodelist.status` of a node that does this (spec/flows.md b.6).
#[must_use]
pub fn status(state: &str) -> &'static str {
    match state.split([' ', '=', ':']).next().unwrap_or_default() {
        "install" => "installing",
        "netboot" | "statelite" => "netbooting",
        "discover" => "discovering",
        "runcmd" => "configuring",
        "standby" => "standingby",
        "shell" => "shell",
        _ => "booting",
    }
}

/// Whether a node that does this is in the discovery image.
#[must_use]
pub fn is_genesis(state: &str) -> bool {
    matches!(
        state.split([' ', '=']).next().unwrap_or_default(),
        "standby" | "shell" | "runcmd" | "runimage" | "discover"
    )
}

/// The rows that make a step: the chain, and the status word unless the site does not want it.
#[must_use]
pub fn writes(tables: &dyn Tables, node: &str, step: &Step, wall: u64) -> Vec<Write> {
    let mut writes = vec![Write::node(
        "chain",
        node,
        vec![("currstate", step.state.clone()), ("currchain", step.left.clone())],
    )];
    writes.extend(super::report::status(tables, node, status(&step.state), wall));
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: &str, left: &str, chain: &str, expected: (&str, &str)) {
        let step = next(state, left, chain);
        assert_eq!((step.state.as_str(), step.left.as_str()), expected, "{state} | {left} | {chain}");
    }

    #[test]
    fn a_chain_is_walked_to_its_end_and_stays_there() {
        let chain = "runcmd=bmcsetup,osimage=x;boot";
        check("", "", chain, ("runcmd=bmcsetup", "osimage=x,boot"));
        check("runcmd=bmcsetup", "osimage=x,boot", chain, ("osimage=x", "boot"));
        check("osimage=x", "boot", chain, ("boot", "boot"));
        check("boot", "boot", chain, ("boot", "boot"));
    }

    #[test]
    fn the_last_step_done_again_becomes_standby() {
        check("", "", "runcmd=a", ("runcmd=a", "runcmd=a"));
        check("runcmd=a", "runcmd=a", "runcmd=a", ("standby", "standby"));
        check("standby", "standby", "runcmd=a", ("standby", "standby"));
    }

    #[test]
    fn without_a_chain_a_node_stands_by() {
        check("", "", "", ("standby", ""));
        check("shell", "", "", ("standby", ""));
    }

    #[test]
    fn states_have_xcats_status_words() {
        for (state, word) in [
            ("runcmd=bmcsetup", "configuring"),
            ("standby", "standingby"),
            ("shell", "shell"),
            ("install rocky9-x86_64-compute", "installing"),
            ("netboot x", "netbooting"),
            ("boot", "booting"),
        ] {
            assert_eq!(status(state), word);
        }
        assert!(is_genesis("runcmd=x") && !is_genesis("boot") && !is_genesis("install a"));
    }
}
