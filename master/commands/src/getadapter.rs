//! getadapter: which network adapters nodes have, as their agents tell.
//!
//! The plan names the nodes; which of them wait, are asked or boot is decided when it is carried out,
//! because it depends on what is committed and connected at that moment.

use crate::args::{flag, word};
use crate::operate::read;
use crate::plan::{Ctx, Plan};
use crate::registry::{Command, Range};

const USAGE: &str = "Usage: getadapter <noderange> [-f] [--force]\n       getadapter [-h|--help|-v|--version]\n\n    -f        inspect the nodes again, also those whose adapters are known\n    --force   as -f, and reboot nodes that run without an agent\n";

/// The adapters of nodes are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapters {
    /// Of these, each once.
    pub nodes: Vec<String>,
    /// Also of those whose adapters are known (`-f`).
    pub again: bool,
    /// A node that runs without an agent may be rebooted (`--force`).
    pub reboot: bool,
}

/// getadapter.
pub static GETADAPTER: Command = Command {
    name: "getadapter",
    aliases: &["getadapters"],
    summary: "Collect the network adapters of nodes",
    usage: USAGE,
    writes: true,
    range: Range::First,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, USAGE, &[flag('f', "again"), word("force")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [range] = given.rest.as_slice() else { return Plan::usage(USAGE, 1) };
    let nodes = match ctx.nodes(range) {
        Ok(nodes) => nodes,
        Err(plan) => return plan,
    };
    let reboot = given.has("force");
    Plan::Adapters(Adapters { nodes, again: reboot || given.has("again"), reboot })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::nodediscover::tests::planned;
    use wire::op::Stream;

    #[test]
    fn the_plan_says_what_is_wanted_of_which_nodes() {
        let adapters = |args| match planned("getadapter", args) {
            Plan::Adapters(adapters) => adapters,
            other => panic!("{other:?}"),
        };
        let nodes = vec!["n1".to_owned(), "n2".to_owned()];
        assert_eq!(adapters(&["n1-n2"]), Adapters { nodes: nodes.clone(), again: false, reboot: false });
        assert_eq!(adapters(&["n1-n2", "-f"]), Adapters { nodes: nodes.clone(), again: true, reboot: false });
        assert_eq!(adapters(&["--force", "n1-n2"]), Adapters { nodes, again: true, reboot: true });
    }

    #[test]
    fn without_a_range_or_with_an_unknown_one_nothing_is_planned() {
        for (args, status, words) in [
            (&[] as &[&str], 1, "Usage: getadapter"),
            (&["nosuch"], 1, "Invalid nodes and/or groups"),
            (&["-h"], 0, "Usage: getadapter"),
            (&["n1", "--nosuch"], 1, "Unknown option"),
        ] {
            let Plan::Answer(output) = planned("getadapter", args) else { panic!("{args:?}") };
            assert_eq!(output.status, status, "{args:?}");
            let all = output.all(Stream::Out) + &output.all(Stream::Err);
            assert!(all.contains(words), "{args:?}: {all}");
        }
    }
}
