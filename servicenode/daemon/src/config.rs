//! The service node's configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// What can be set about a service node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Identity, mirror, leases and tokens are kept here.
    pub state_dir: PathBuf,
    /// Masters, beside those that the join and the masters themselves told.
    pub masters: Vec<SocketAddr>,
    /// Where agents connect (UDP).
    pub listen: SocketAddr,
    /// Boot files by HTTP; empty switches it off.
    pub http: String,
    /// Boot loaders by TFTP; empty switches it off.
    pub tftp: String,
    /// Answer DHCP on the interfaces that the tables name.
    pub dhcp: bool,
    /// Port of the DHCP server.
    pub dhcp_port: u16,
    /// Folder with `vmlinuz` and `initrd` of the discovery image.
    pub genesis_dir: PathBuf,
    /// Folder with the boot loaders.
    pub loader_dir: PathBuf,
    /// Words for the kernel of the discovery image.
    pub kernel_arguments: String,
    /// Nodes that are worked on at a time when the master does not say.
    pub window: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/margay-sn".into(),
            masters: Vec::new(),
            listen: SocketAddr::from(([0, 0, 0, 0], 3002)),
            http: "0.0.0.0:80".to_owned(),
            tftp: "0.0.0.0:69".to_owned(),
            dhcp: true,
            dhcp_port: 67,
            genesis_dir: "/var/lib/margay-sn/genesis".into(),
            loader_dir: "/var/lib/margay-sn/loaders".into(),
            kernel_arguments: "console=ttyS0,115200".to_owned(),
            window: 64,
        }
    }
}

impl service::Config for Config {
    const DOCUMENT: &'static str = r#"# Configuration of margay-sn. Every line shows a default.

# Identity, mirror, leases and tokens are kept here.
state_dir = "/var/lib/margay-sn"

# Masters ("address:port"), beside those that the join and the masters themselves told.
masters = []

# Where agents connect (UDP).
listen = "0.0.0.0:3002"

# Boot files by HTTP and boot loaders by TFTP; an empty text switches the service off.
http = "0.0.0.0:80"
tftp = "0.0.0.0:69"

# Answer DHCP on the interfaces that the tables name (site.dhcpinterfaces, servicenode.dhcpinterfaces).
dhcp = true
dhcp_port = 67

# Folder with vmlinuz and initrd of the discovery image, and folder with the boot loaders.
genesis_dir = "/var/lib/margay-sn/genesis"
loader_dir = "/var/lib/margay-sn/loaders"

# Words for the kernel of the discovery image.
kernel_arguments = "console=ttyS0,115200"

# Nodes that are worked on at a time when the master does not say.
window = 64
"#;

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, text) in [("http", &self.http), ("tftp", &self.tftp)] {
            if !text.is_empty() && text.parse::<SocketAddr>().is_err() {
                faults.push(format!("{name}: '{text}' is not an address with a port"));
            }
        }
        if self.window == 0 {
            faults.push("window: must not be 0".to_owned());
        }
        faults
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
    fn wrong_values_are_named_together() {
        let faults = service::config::parse::<Config>("http = 'x'\nwindow = 0\n").unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
