//! rpower, rsetboot, rbeacon, rinv: what the arguments ask of the BMCs. xCAT's words.
//!
//! Knows nothing of noderanges: the nodes are expanded before, and split by `nodehm` here.

use wire::op::{Beacon, BootDevice, BootTarget, NodeOp, PowerAction};

/// What a hardware command asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The operation.
    pub op: NodeOp,
    /// It changes the machine.
    pub acts: bool,
    /// Two of these may not run at one node at once.
    pub lock: bool,
    /// Word for `nodelist.status` of nodes that did it.
    pub then_status: Option<&'static str>,
}

/// What rpower's words ask; an error is the word that it does not know.
///
/// # Errors
/// The subcommand that is not supported.
pub fn power(word: &str) -> Result<Ask, String> {
    let act = |action, then_status| Ask {
        op: NodeOp::Power(action),
        acts: true,
        lock: true,
        then_status: Some(then_status),
    };
    Ok(match word {
        "stat" | "state" | "status" => question(NodeOp::PowerStat),
        "on" => act(PowerAction::On, "powering-on"),
        "off" => act(PowerAction::Off, "powering-off"),
        "softoff" => act(PowerAction::SoftOff, "powering-off"),
        "cycle" => act(PowerAction::Cycle, "powering-on"),
        "reset" => act(PowerAction::Reset, "powering-on"),
        "boot" => act(PowerAction::Boot, "powering-on"),
        _ => return Err(word.to_owned()),
    })
}

/// What rsetboot's words ask.
///
/// # Errors
/// The subcommand that is not supported.
pub fn set_boot(word: &str, persistent: bool, uefi: bool) -> Result<Ask, String> {
    let target = match word {
        "stat" => return Ok(question(NodeOp::BootDeviceStat)),
        "net" => BootTarget::Net,
        "hd" => BootTarget::Hd,
        "cd" => BootTarget::Cd,
        "default" | "def" => BootTarget::Default,
        "setup" => BootTarget::Setup,
        "floppy" => BootTarget::Floppy,
        _ => return Err(word.to_owned()),
    };
    Ok(act_quietly(NodeOp::BootDevice(BootDevice { target, persistent, uefi })))
}

/// What rbeacon's words ask.
///
/// # Errors
/// The subcommand that is not supported.
pub fn beacon(word: &str) -> Result<Ask, String> {
    Ok(match word {
        "stat" => question(NodeOp::Beacon(Beacon::Stat)),
        "on" => act_quietly(NodeOp::Beacon(Beacon::On)),
        "off" => act_quietly(NodeOp::Beacon(Beacon::Off)),
        "blink" => act_quietly(NodeOp::Beacon(Beacon::Blink)),
        _ => return Err(word.to_owned()),
    })
}

/// Kinds that rinv knows.
pub const INVENTORY: &[&str] =
    &["all", "asset", "cpu", "deviceid", "dimm", "firm", "guid", "model", "mprom", "serial", "uuid", "vpd"];

/// What rinv's words ask.
///
/// # Errors
/// The first kind that is not supported.
pub fn inventory(words: &[String]) -> Result<Ask, String> {
    if let Some(unknown) = words.iter().find(|word| !INVENTORY.contains(&word.as_str())) {
        return Err(unknown.clone());
    }
    let kinds = if words.is_empty() { vec!["all".to_owned()] } else { words.to_vec() };
    Ok(question(NodeOp::Inventory(kinds)))
}

/// What rspreset asks.
#[must_use]
pub fn reset_bmc() -> Ask {
    Ask { lock: true, ..act_quietly(NodeOp::BmcReset) }
}

fn question(op: NodeOp) -> Ask {
    Ask { op, acts: false, lock: false, then_status: None }
}

fn act_quietly(op: NodeOp) -> Ask {
    Ask { op, acts: true, lock: false, then_status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_to_ask_for_the_state_are_one() {
        for word in ["stat", "state", "status"] {
            assert_eq!(power(word), Ok(question(NodeOp::PowerStat)));
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_given_back() {
        assert_eq!(power("nosuchop"), Err("nosuchop".to_owned()));
        assert_eq!(set_boot("usb", false, false), Err("usb".to_owned()));
        assert_eq!(inventory(&["all".to_owned(), "x".to_owned()]), Err("x".to_owned()));
    }
}
