//! Everything one can ask of a node or its BMC, and the answers.

use crate::hardware::{Adapter, Hardware};
use crate::{Decode, Encode};

/// What is asked. One operation goes to many nodes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum NodeOp {
    /// Is the power on? Answer [`NodeReply::Text`] `on` or `off`.
    PowerStat,
    /// Change the power.
    Power(PowerAction),
    /// Read the one-shot boot device.
    BootDeviceStat,
    /// Set the boot device.
    BootDevice(BootDevice),
    /// Identify light.
    Beacon(Beacon),
    /// FRU, device id, GUID and firmware of the BMC; the kinds as `rinv` names them.
    Inventory(Vec<String>),
    /// Run a command through the agent.
    Exec(Exec),
    /// Ask a connected agent for its adapters; [`NodeReply::Adapters`].
    Adapters,
    /// Boot into the discovery image: boot device network, then reset (or on).
    BootGenesis,
    /// What is known of the node's life: [`NodeReply::Text`] as nodestat prints it.
    NodeStat,
    /// As [`NodeOp::NodeStat`], with the power of silent nodes and applications that answer.
    NodeLife(LifeQuestion),
    /// Start the BMC itself anew.
    BmcReset,
}

/// What else is asked about a node's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct LifeQuestion {
    /// Ask the BMC of a node that does not answer: `noping(off)`.
    pub power: bool,
    /// Applications to knock at; the names of those that answer follow: `sshd,db`.
    pub apps: Vec<App>,
}

/// An application that listens on nodes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct App {
    /// Its name, as it is told.
    pub name: String,
    /// TCP port.
    pub port: u16,
    /// The nodes that should have it; empty is all.
    pub nodes: Vec<String>,
}

/// Power changes in xCAT's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PowerAction {
    /// Power on; nothing is sent to a machine that is on.
    On,
    /// Power off at once.
    Off,
    /// Ask the operating system to shut down.
    SoftOff,
    /// Off, then on.
    Cycle,
    /// Hard reset; nothing is sent to a machine that is off.
    Reset,
    /// Reset a machine that is on, power on one that is off.
    Boot,
}

/// Boot devices in xCAT's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum BootTarget {
    /// Network.
    Net,
    /// Hard disk.
    Hd,
    /// CD or DVD.
    Cd,
    /// Remove the override.
    Default,
    /// Firmware set-up.
    Setup,
    /// Floppy or removable media.
    Floppy,
}

/// What to boot from next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BootDevice {
    /// The device.
    pub target: BootTarget,
    /// For every boot from now on, not only the next.
    pub persistent: bool,
    /// Use UEFI for it.
    pub uefi: bool,
}

/// Identify light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Beacon {
    /// Light on until switched off.
    On,
    /// Light off.
    Off,
    /// Blink for the BMC's default time (15 s).
    Blink,
    /// Ask.
    Stat,
}

/// A command for nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Exec {
    /// Text for the shell of the user.
    pub command: String,
    /// User; empty is root.
    pub user: String,
    /// A script sent along (xdsh -e): its bytes are run with `command` as its arguments.
    pub script: Option<Vec<u8>>,
    /// Environment added to a clean one.
    pub environment: Vec<(String, String)>,
    /// Standard input follows on the stream; else it is empty.
    pub stdin: bool,
    /// Seconds after which it is killed; 0 is never.
    pub timeout: u64,
}

/// What came back from one node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum NodeReply {
    /// One line for the admin, `on`.
    Text(String),
    /// Several lines in order.
    Texts(Vec<String>),
    /// The node's adapters.
    Adapters(Vec<Adapter>),
    /// The whole machine.
    Hardware(Box<Hardware>),
    /// Done, nothing to say.
    Done,
}

/// Which stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Fault {
    /// Its own deadline passed.
    Timeout,
    /// No route, refused, no agent connected, service node away.
    Unreachable,
    /// Wrong password or certificate.
    Denied,
    /// Nothing says how to reach it (no `ipmi.bmc`, no `mac.mac`).
    Undefined,
    /// The node or BMC answered with an error.
    Refused,
    /// The admin cancelled.
    Cancelled,
    /// It was asked, and whether it did it is not known.
    Unknown,
}

/// One thing that happened at one node during a fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeEvent {
    /// The node.
    pub node: String,
    /// What happened.
    pub event: Event,
}

/// What can happen at a node. `Reply`, `Exit` and `Failed` are final: each node has exactly one of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// Whole lines (each with its line feed but perhaps the last) of a running command.
    Output {
        /// Of which stream.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The answer.
    Reply(NodeReply),
    /// The command ended with this status (128 + signal when killed).
    Exit(i32),
    /// It did not work; the text is for the admin and names address and reason.
    Failed {
        /// The kind, for exit codes and folding.
        fault: Fault,
        /// One sentence.
        text: String,
    },
}
