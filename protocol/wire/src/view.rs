//! What a service node keeps of its rack: typed projections of the tables at one revision.

use crate::ids::Revision;
use crate::secret::Secret;
use crate::{Decode, Encode};

/// A change of the mirror. Full when it replaces everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct ViewUpdate {
    /// The mirror is at this revision once this is applied (with `more` false).
    pub revision: Revision,
    /// Everything older is dropped before this is applied.
    pub full: bool,
    /// Further updates of the same revision follow.
    pub more: bool,
    /// The cluster's part, when it changed.
    pub site: Option<SiteView>,
    /// Nodes that are new or changed.
    pub nodes: Vec<NodeView>,
    /// Nodes that are gone.
    pub removed: Vec<String>,
}

/// What all nodes of a service node share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SiteView {
    /// The cluster's name.
    pub cluster: String,
    /// `site.domain`.
    pub domain: String,
    /// `site.nameservers`.
    pub nameservers: Vec<String>,
    /// Interfaces to answer DHCP on (`site.dhcpinterfaces` or `servicenode.dhcpinterfaces`, this one's part).
    pub dhcp_interfaces: Vec<String>,
    /// `site.dhcplease`, seconds.
    pub dhcp_lease: u32,
    /// Networks.
    pub networks: Vec<NetworkView>,
    /// Switches that a node's `switch.switch` names.
    pub switches: Vec<SwitchView>,
    /// Other `site` keys that service nodes understand (`ipmitimeout`, `ipmiretries`, `snmpc`, ...).
    pub settings: Vec<(String, String)>,
}

/// A row of `networks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct NetworkView {
    /// `netname`.
    pub name: String,
    /// `net`.
    pub net: String,
    /// `mask`.
    pub mask: String,
    /// `mgtifname`.
    pub interface: String,
    /// `gateway`; `<xcatmaster>` means the service node.
    pub gateway: String,
    /// `dynamicrange`, `a-b` parts.
    pub dynamic_range: String,
    /// `tftpserver`.
    pub tftpserver: String,
    /// `nameservers`.
    pub nameservers: Vec<String>,
    /// `ntpservers`.
    pub ntpservers: Vec<String>,
    /// `domain`.
    pub domain: String,
    /// `mtu`, 0 when unset.
    pub mtu: u32,
}

/// A switch, from `switch` and `switches`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SwitchView {
    /// Its node name.
    pub name: String,
    /// Address: from `hosts`, else the name itself.
    pub address: String,
    /// `1`, `2c` (also written `2`) or `3`.
    pub snmp_version: String,
    /// v3 user.
    pub user: String,
    /// Community (v1, v2c) or v3 authentication password.
    pub password: Secret,
    /// v3 privacy protocol (`aes`, `des`, empty).
    pub privacy: String,
    /// v3 authentication protocol (`sha`, `sha256`, `md5`, empty).
    pub auth: String,
}

/// A node as its service node needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// `nodetype.arch`.
    pub arch: String,
    /// `noderes.netboot`.
    pub netboot: String,
    /// Address of the node on its boot network (`hosts.ip`).
    pub ip: String,
    /// Aliases (`hosts.hostnames`).
    pub aliases: Vec<String>,
    /// Its adapters in `mac.mac`.
    pub macs: Vec<NodeMac>,
    /// How to reach its BMC.
    pub bmc: Option<BmcView>,
    /// Where its cables go.
    pub ports: Vec<SwitchPort>,
    /// `vpd.serial`.
    pub serial: String,
    /// `vpd.mtm`.
    pub mtm: String,
    /// `vpd.uuid`.
    pub uuid: String,
    /// What it does when it boots or asks: `chain.currstate`.
    pub destiny: String,
    /// Rises with each nodeset or genesis boot.
    pub boot_generation: u64,
    /// A machine already holds this name (a key is registered).
    pub claimed: bool,
    /// SHA-256 of the registered public key, hexadecimal; empty when none.
    pub key_fingerprint: String,
    /// `nodelist.status`.
    pub status: String,
    /// Kernel arguments of the node (`bootparams.addkcmdline`).
    pub kernel_arguments: String,
    /// `nodehm.mgt`.
    pub mgt: String,
    /// Its own configuration.
    pub config: NodeConfig,
}

/// One MAC of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeMac {
    /// Colon form, lower case.
    pub mac: String,
    /// Host name tag behind `!`; `*NOIP*` for none.
    pub host: String,
    /// Address of that host; empty for none.
    pub ip: String,
}

/// A BMC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct BmcView {
    /// Address or name (resolved through hosts by the master, else by the service node's resolver).
    pub address: String,
    /// UDP port, 623 when unset.
    pub port: u16,
    /// User.
    pub user: Secret,
    /// Password.
    pub password: Secret,
}

/// A switch port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SwitchPort {
    /// Switch name.
    pub switch: String,
    /// Port as the admin wrote it.
    pub port: String,
    /// `switch.interface`; empty or `primary` is the boot adapter.
    pub interface: String,
}

/// What a booted node sets up by itself, as one numbered whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeConfig {
    /// Rises when anything below changed for this node (the revision of that change).
    pub generation: u64,
    /// Short host name.
    pub hostname: String,
    /// Domain.
    pub domain: String,
    /// Addresses per adapter.
    pub interfaces: Vec<InterfaceConfig>,
    /// Lines for the hosts file: address and names.
    pub hosts: Vec<(String, Vec<String>)>,
    /// Routes.
    pub routes: Vec<RouteConfig>,
    /// File systems.
    pub mounts: Vec<MountConfig>,
    /// Groups.
    pub groups: Vec<GroupConfig>,
    /// Accounts.
    pub accounts: Vec<AccountConfig>,
    /// Run after everything is set up.
    pub start_command: Option<StartCommand>,
    /// Name servers.
    pub nameservers: Vec<String>,
}

/// An adapter's set-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct InterfaceConfig {
    /// Name, or a MAC.
    pub name: String,
    /// `address/prefix`; empty for DHCP.
    pub address: String,
    /// Gateway, empty for none.
    pub gateway: String,
    /// 0 leaves it.
    pub mtu: u32,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct RouteConfig {
    /// `net/prefix` or `default`.
    pub destination: String,
    /// Gateway.
    pub gateway: String,
    /// Interface, empty for any.
    pub interface: String,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct MountConfig {
    /// What, `server:/path` or a device.
    pub source: String,
    /// Where.
    pub target: String,
    /// File system type.
    pub kind: String,
    /// Options.
    pub options: String,
}

/// A group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct GroupConfig {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
}

/// An account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct AccountConfig {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group's number.
    pub gid: u32,
    /// Further groups by name.
    pub groups: Vec<String>,
    /// Full name.
    pub gecos: String,
    /// Home folder.
    pub home: String,
    /// Shell.
    pub shell: String,
    /// Password hash as in shadow(5); empty locks the password.
    pub password: Secret,
    /// Public ssh keys, one a line.
    pub keys: Vec<String>,
}

/// The owner's command at the end of the set-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct StartCommand {
    /// Text for the shell.
    pub command: String,
    /// User; empty is root.
    pub user: String,
    /// Seconds until it is given up; 0 is 600.
    pub timeout: u64,
}
