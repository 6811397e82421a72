//! Settings of one master.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Settings of one master. Paths in a file are relative to the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This member's name, as in its certificate.
    pub name: String,
    /// Its number in the Raft group, from 1.
    pub id: u64,
    /// The cluster's name; errors that name the server carry it.
    pub cluster: String,
    /// Where clients, service nodes and other masters connect (UDP).
    pub listen: SocketAddr,
    /// How others reach it, `host:port`; empty is `listen`.
    pub advertise: String,
    /// Folder of the log and the state.
    pub data: PathBuf,
    /// The cluster's CA, PEM.
    pub ca: PathBuf,
    /// The CA's private key, PEM.
    pub ca_key: PathBuf,
    /// This member's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Rows that a new cluster begins with.
    pub bootstrap: PathBuf,
    /// The hosts file that `makehosts` writes.
    pub hosts: PathBuf,
    /// What `makentp` writes and runs.
    pub time: Time,
    /// What `mknb` runs.
    pub genesis: Genesis,
    /// How handlers of changes are called.
    pub notify: Notify,
    /// Monitoring plug-ins.
    pub monitor: Monitor,
    /// Bounds.
    pub limits: Limits,
    /// All members, this one included; empty is a group of one.
    pub peers: Vec<Peer>,
}

/// The time service of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Time {
    /// The file with the settings, which the time service reads.
    pub file: PathBuf,
    /// The program, with its arguments, that tells it to read them.
    pub reload: Vec<String>,
}

impl Default for Time {
    fn default() -> Self {
        let reload = ["systemctl", "try-restart", "chrony"].map(str::to_owned).to_vec();
        Self { file: "/etc/chrony/conf.d/margay.conf".into(), reload }
    }
}

/// The program that builds the discovery image, and what it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Genesis {
    /// The program.
    pub program: PathBuf,
    /// The static agent that goes into the image.
    pub agent: PathBuf,
    /// Folder for what is downloaded and unpacked once.
    pub cache: PathBuf,
    /// Folder that the image is written into.
    pub out: PathBuf,
}

impl Default for Genesis {
    fn default() -> Self {
        Self {
            program: "margay-genesis".into(),
            agent: "/usr/lib/margay/margay-agent".into(),
            cache: "/var/cache/margay/genesis".into(),
            out: "/tftpboot/xcat".into(),
        }
    }
}

/// How handlers of changes are called (`regnotif`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// The program that calls them; empty is this program itself.
    pub runner: PathBuf,
    /// Seconds that a handler may take for one call.
    pub deadline: u64,
    /// How often a call is tried.
    pub attempts: u32,
    /// Milliseconds before the second attempt; each further one waits twice as long, at most a minute.
    pub pause: u64,
}

impl Default for Notify {
    fn default() -> Self {
        Self { runner: PathBuf::new(), deadline: 60, attempts: 5, pause: 1000 }
    }
}

/// Monitoring plug-ins (`monadd`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monitor {
    /// Their folder: programs, and Perl modules NAME.pm.
    pub plugins: PathBuf,
    /// Seconds that a plug-in may take for one call.
    pub deadline: u64,
    /// The program that calls them; empty is this program itself.
    pub runner: PathBuf,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { plugins: "/usr/lib/margay/monitoring".into(), deadline: 60, runner: PathBuf::new() }
    }
}

/// Bounds on what others can make this master hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Actions that one user can have outstanding.
    pub actions_per_user: usize,
    /// Actions whose output is kept after their end.
    pub actions_kept: usize,
    /// Seconds that the output of an ended action is kept.
    pub output_kept: u64,
    /// Bytes of output kept of one node in one action.
    pub output_per_node: usize,
    /// Bytes of output kept of one action.
    pub output_per_action: usize,
    /// Largest file that is taken from a client, in bytes.
    pub file: u64,
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How it is reached, `host:port`.
    pub address: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "m1".to_owned(),
            id: 1,
            cluster: "margay".to_owned(),
            listen: SocketAddr::from(([0, 0, 0, 0], 3001)),
            advertise: String::new(),
            data: "data".into(),
            ca: "ca.pem".into(),
            ca_key: "ca.key".into(),
            cert: "cert.pem".into(),
            key: "key.pem".into(),
            bootstrap: "bootstrap.json".into(),
            hosts: "/etc/hosts".into(),
            time: Time::default(),
            genesis: Genesis::default(),
            notify: Notify::default(),
            monitor: Monitor::default(),
            limits: Limits::default(),
            peers: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            actions_per_user: 64,
            actions_kept: 256,
            output_kept: 86_400,
            output_per_node: 1024 * 1024,
            output_per_action: 16 * 1024 * 1024,
            file: 64 * 1024 * 1024,
        }
    }
}

impl service::Config for Config {
    const DOCUMENT: &'static str = r#"# Settings of a Margay master. Paths are relative to this file.
# This member's name (as in its certificate) and its number in the Raft group.
name = "m1"
id = 1
# The cluster's name; errors that name the server carry it.
cluster = "margay"
# Where clients, service nodes and other masters connect (UDP), and how others reach it (empty: listen).
listen = "0.0.0.0:3001"
advertise = ""
# Folder of the log and the state.
data = "data"
# The cluster's CA with its key, this member's certificate with its key (PEM).
ca = "ca.pem"
ca_key = "ca.key"
cert = "cert.pem"
key = "key.pem"
# Rows that a new cluster begins with.
bootstrap = "bootstrap.json"
# The hosts file that makehosts writes.
hosts = "/etc/hosts"
# All members as [[peers]] tables with id, name and address; none is a group of one.
peers = []

# What makentp writes, and what it runs then.
[time]
file = "/etc/chrony/conf.d/margay.conf"
reload = ["systemctl", "try-restart", "chrony"]

# What mknb runs: the program, the static agent for the image, its cache, and where the image goes.
[genesis]
program = "margay-genesis"
agent = "/usr/lib/margay/margay-agent"
cache = "/var/cache/margay/genesis"
out = "/tftpboot/xcat"

# How handlers of changes are called (regnotif).
[notify]
# The program that calls them; empty is margayd itself.
runner = ""
# Seconds that a handler may take for one call.
deadline = 60
# How often a call is tried, and the milliseconds before the second attempt (then twice as long, at most a minute).
attempts = 5
pause = 1000

# Monitoring plug-ins (monadd).
[monitor]
# Their folder: programs, and Perl modules NAME.pm. Modules are also found below $XCATROOT/lib/perl/xCAT_monitoring.
plugins = "/usr/lib/margay/monitoring"
# Seconds that a plug-in may take for one call.
deadline = 60
# The program that calls them; empty is margayd itself.
runner = ""

[limits]
# Actions that one user can have outstanding.
actions_per_user = 64
# Ended actions whose output is kept, and for how many seconds.
actions_kept = 256
output_kept = 86400
# Bytes of output kept of one node, and of one action.
output_per_node = 1048576
output_per_action = 16777216
# Largest file that is taken from a client, in bytes.
file = 67108864
"#;

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(error) = wire::names::check_name("member name", &self.name) {
            faults.push(format!("name: {error}"));
        }
        if let Err(error) = wire::names::check_name("cluster name", &self.cluster) {
            faults.push(format!("cluster: {error}"));
        }
        if self.id == 0 {
            faults.push("id: members count from 1".to_owned());
        }
        if self.notify.deadline == 0 || self.notify.deadline > 86_400 || self.notify.attempts == 0 {
            faults.push("notify: a handler needs 1 to 86400 seconds and at least one attempt".to_owned());
        }
        if self.monitor.deadline == 0 || self.monitor.deadline > 3600 {
            faults.push("monitor: a plug-in needs 1 to 3600 seconds".to_owned());
        }
        if !self.peers.is_empty()
            && !self.peers.iter().any(|peer| peer.id == self.id && peer.name == self.name)
        {
            faults.push(format!("peers: member {} ({}) itself is missing", self.id, self.name));
        }
        for (index, peer) in self.peers.iter().enumerate() {
            if self.peers[..index].iter().any(|other| other.id == peer.id || other.name == peer.name) {
                faults.push(format!("peers: {} ({}) is there twice", peer.id, peer.name));
            }
        }
        faults
    }
}

impl Config {
    /// Reads and checks a file; the paths in the answer are absolute or relative to the present folder.
    ///
    /// # Errors
    /// All faults in the file.
    pub fn read(path: &Path) -> Result<Self, service::ConfigError> {
        let mut config: Self = service::config::load(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let Self { data, ca, ca_key, cert, key, bootstrap, hosts, .. } = &mut config;
        for file in [data, ca, ca_key, cert, key, bootstrap, hosts] {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// How others reach this member.
    #[must_use]
    pub fn address(&self) -> String {
        if self.advertise.is_empty() { self.listen.to_string() } else { self.advertise.clone() }
    }

    /// All members; this one alone in a group of one.
    #[must_use]
    pub fn members(&self) -> Vec<Peer> {
        if self.peers.is_empty() {
            vec![Peer { id: self.id, name: self.name.clone(), address: self.address() }]
        } else {
            self.peers.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_says_the_defaults() {
        service::config::check_document::<Config>().unwrap();
    }

    #[test]
    fn a_member_that_is_not_among_its_peers_is_a_fault() {
        let faults =
            service::config::parse::<Config>("id = 2\n[[peers]]\nid = 1\nname = \"m1\"\n").unwrap_err();
        assert!(faults.iter().any(|fault| fault.contains("itself is missing")), "{faults:?}");
    }
}
