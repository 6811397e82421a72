//! How the agent is told what it needs: arguments, kernel command line, files of the overlay.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use link::pki;
use wire::agent::Phase;

use crate::{Config, probe};

/// Switches speak LLDP every 30 seconds.
const LLDP: Duration = Duration::from_secs(35);
/// What the program prints when it is asked or misused.
pub const USAGE: &str = "\
usage: margay-agent [--root DIR] [--state DIR] [--cmdline FILE] [--phase genesis|system]
                    [--service-node ADDRESS:PORT]... [--ca-pin HEX] [--no-network]
       margay-agent --probe [DIR]    prints what the machine is made of
  --root DIR          where the machine's files are (default /)
  --state DIR         where the identity is kept (default ROOT/var/lib/margay)
  --cmdline FILE      the kernel command line (default ROOT/proc/cmdline, else /proc/cmdline)
  --phase PHASE       genesis in the discovery image, system in an installed one (default system)
  --service-node A:P  instead of margay.sn= of the command line
  --ca-pin HEX        instead of margay.ca= of the command line
  --no-network        leave interfaces and routes alone
exit status: 0 stopped, 77 boot from disk, 78 reboot, 79 power off
";

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BootError {
    /// The arguments make no sense, or ask for help.
    #[error("{0}")]
    Usage(String),
    /// Nobody said where a service node is.
    #[error("no service node: neither --service-node nor margay.sn= on the kernel command line")]
    NoServiceNode,
    /// Nobody said whom to trust.
    #[error("no CA: neither --ca-pin nor margay.ca= on the kernel command line nor a ca.pem")]
    NoPin,
    /// An address or pin that cannot be read.
    #[error("{what} '{text}' cannot be read")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What stood there.
        text: String,
    },
}

/// The arguments of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Arguments {
    root: Option<PathBuf>,
    state: Option<PathBuf>,
    command_line: Option<PathBuf>,
    genesis: bool,
    service_nodes: Vec<String>,
    pin: Option<String>,
    no_network: bool,
}

/// Builds the configuration from the program's arguments and the machine's files. `console` says where
/// a shell of the discovery image is started; only the first process of a machine has one.
///
/// # Errors
/// [`BootError`].
pub fn config(
    arguments: impl Iterator<Item = String>,
    console: Option<PathBuf>,
) -> Result<Config, BootError> {
    let arguments = parse(arguments)?;
    let root = arguments.root.unwrap_or_else(|| PathBuf::from("/"));
    let below = root.join("proc/cmdline");
    let own = if below.exists() { below } else { PathBuf::from("/proc/cmdline") };
    let command_line = probe::text(&arguments.command_line.unwrap_or(own));
    let mut nodes = arguments.service_nodes;
    if nodes.is_empty() {
        let listed = word(&command_line, "margay.sn=").or_else(|| kept(&root, "service-nodes"));
        nodes.extend(listed.iter().flat_map(|list| list.split(',').map(str::to_owned)));
    }
    let service_nodes = nodes
        .iter()
        .map(|text| text.parse().map_err(|_| malformed("service node address", text)))
        .collect::<Result<Vec<SocketAddr>, _>>()?;
    if service_nodes.is_empty() {
        return Err(BootError::NoServiceNode);
    }
    let pin = match arguments.pin.or_else(|| word(&command_line, "margay.ca=")) {
        Some(hex) => pki::parse_pin(&hex).ok_or_else(|| malformed("CA pin", &hex))?,
        None => {
            let ca = probe::text(&root.join("etc/margay/ca.pem"));
            pki::pin(&ca).map_err(|_| BootError::NoPin)?
        }
    };
    let real = root == Path::new("/");
    let phase = if arguments.genesis { Phase::Genesis } else { Phase::System };
    let token = probe::text(&root.join("etc/margay/token"));
    let lldp = if real && phase == Phase::Genesis { LLDP } else { Duration::ZERO };
    Ok(Config {
        state: Some(arguments.state.unwrap_or_else(|| root.join("var/lib/margay"))),
        token: (!token.is_empty()).then_some(token),
        boot_id: probe::boot_id(&root),
        command_line,
        network: !arguments.no_network,
        console,
        lldp,
        set_clock: real && phase == Phase::Genesis,
        ..Config::new(&root, service_nodes, pin, phase)
    })
}

fn malformed(what: &'static str, text: &str) -> BootError {
    BootError::Malformed { what, text: text.escape_debug().to_string() }
}

fn word(command_line: &str, key: &str) -> Option<String> {
    command_line.split_whitespace().find_map(|word| word.strip_prefix(key)).map(str::to_owned)
}

fn kept(root: &Path, name: &str) -> Option<String> {
    let text = probe::text(&root.join("etc/margay").join(name));
    (!text.is_empty()).then_some(text)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, BootError> {
    let mut parsed = Arguments::default();
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        if name == "--no-network" {
            parsed.no_network = true;
            continue;
        }
        if !["--root", "--state", "--cmdline", "--phase", "--service-node", "--ca-pin"]
            .contains(&name.as_str())
        {
            return Err(BootError::Usage(format!("'{name}' is not understood")));
        }
        let missing = || BootError::Usage(format!("{name} needs a value"));
        let value = inline.or_else(|| arguments.next()).ok_or_else(missing)?;
        match name.as_str() {
            "--root" => parsed.root = Some(value.into()),
            "--state" => parsed.state = Some(value.into()),
            "--cmdline" => parsed.command_line = Some(value.into()),
            "--service-node" => parsed.service_nodes.push(value),
            "--ca-pin" => parsed.pin = Some(value),
            _ => match value.as_str() {
                "genesis" => parsed.genesis = true,
                "system" => parsed.genesis = false,
                _ => return Err(BootError::Usage(format!("'{value}' is no phase"))),
            },
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(root: &Path, arguments: &[&str]) -> Result<Config, BootError> {
        let root = format!("--root={}", root.display());
        let all = std::iter::once(root).chain(arguments.iter().map(|text| (*text).to_owned()));
        config(all.collect::<Vec<_>>().into_iter(), None)
    }

    #[test]
    fn the_kernel_command_line_and_the_overlay_say_everything() {
        let root = tempfile::tempdir().unwrap();
        let pin = "ab".repeat(32);
        let line = format!(
            "quiet margay.sn=10.0.0.1:3002,10.0.0.2:3002 margay.ca={pin} BOOTIF=01-02-00-00-00-00-01\n"
        );
        probe::fixture::write(root.path(), "proc/cmdline", &line);
        probe::fixture::write(root.path(), "proc/sys/kernel/random/boot_id", "boot-7\n");
        probe::fixture::write(root.path(), "etc/margay/token", "feed\n");
        let config = with(root.path(), &["--phase", "genesis"]).unwrap();
        assert_eq!(config.service_nodes.len(), 2);
        assert_eq!(config.pin, [0xab; 32]);
        assert_eq!((config.token.as_deref(), config.boot_id.as_str()), (Some("feed"), "boot-7"));
        assert_eq!(config.phase, Phase::Genesis);
        assert_eq!(config.state, Some(root.path().join("var/lib/margay")));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let root = tempfile::tempdir().unwrap();
        probe::fixture::write(root.path(), "proc/cmdline", "quiet");
        assert_eq!(with(root.path(), &[]).unwrap_err(), BootError::NoServiceNode);
        assert_eq!(with(root.path(), &["--service-node", "1.2.3.4:5"]).unwrap_err(), BootError::NoPin);
        for wrong in [&["--service-node", "here"][..], &["--phase", "x"], &["--what"], &["--state"]] {
            assert!(with(root.path(), wrong).is_err(), "{wrong:?}");
        }
    }
}
