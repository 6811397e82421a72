//! From a node's destiny to what it boots.

use wire::view::NodeView;

/// What is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The discovery image; the agent in it asks what to do.
    Genesis {
        /// The node, or an unknown machine.
        node: Option<&'a NodeView>,
    },
    /// The machine's own disk.
    LocalDisk {
        /// The node.
        node: &'a NodeView,
    },
}

impl Choice<'_> {
    /// One word for comments and logs: the destiny without its argument, or `discover`.
    pub fn state(&self) -> &str {
        let destiny = match self {
            Choice::Genesis { node: None } => return "discover",
            Choice::Genesis { node: Some(node) } | Choice::LocalDisk { node } => word(&node.destiny),
        };
        let plain = destiny.len() <= 32 && destiny.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain && !destiny.is_empty() { destiny } else { "standby" }
    }
}

fn word(destiny: &str) -> &str {
    destiny.split(['=', ' ', ':', '-', ',']).next().unwrap_or_default().trim()
}

/// Whether the destiny is the machine's own disk.
pub fn is_local_disk(destiny: &str) -> bool {
    matches!(word(destiny), "boot" | "offline")
}

/// Decides. Everything that is not the local disk is genesis: runcmd, runimage, shell, standby,
/// discovery, and an image that is only stored by name so far. `genesis_next` overrules the destiny
/// for one boot (getadapter).
pub fn select(node: Option<&NodeView>, genesis_next: bool) -> Choice<'_> {
    match node {
        Some(node) if is_local_disk(&node.destiny) && !genesis_next => Choice::LocalDisk { node },
        node => Choice::Genesis { node },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(destiny: &str) -> NodeView {
        NodeView { name: "n1".into(), destiny: destiny.into(), ..NodeView::default() }
    }

    #[test]
    fn unknown_machine_gets_genesis() {
        assert_eq!(select(None, false), Choice::Genesis { node: None });
        assert_eq!(select(None, false).state(), "discover");
    }

    #[test]
    fn genesis_once_overrules_the_destiny() {
        let n = node("boot");
        assert_eq!(select(Some(&n), true), Choice::Genesis { node: Some(&n) });
    }

    #[test]
    fn destiny_decides_for_a_known_node() {
        for (destiny, disk, state) in [
            ("boot", true, "boot"),
            ("offline", true, "offline"),
            ("", false, "standby"),
            ("shell", false, "shell"),
            ("standby", false, "standby"),
            ("runcmd=bmcsetup x", false, "runcmd"),
            ("runimage=http://h/i.tgz", false, "runimage"),
            ("osimage=rocky9-x86_64-netboot-compute", false, "osimage"),
            ("install rocky9", false, "install"),
            ("we\nird", false, "standby"),
        ] {
            let n = node(destiny);
            let choice = select(Some(&n), false);
            assert_eq!(matches!(choice, Choice::LocalDisk { .. }), disk, "{destiny}");
            assert_eq!(choice.state(), state, "{destiny}");
        }
    }
}
