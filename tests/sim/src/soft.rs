//! A soft node: a machine made of software that a rack cannot tell from one of metal.
//!
//! It speaks what firmware and loader speak, byte for byte (DHCP with the options of PXE and iPXE, TFTP with
//! options, HTTP), follows the boot script, and then hands over to the real agent with the boot files it got.
//! It shares no code with the services that it talks to. It knows nothing of the cluster: what it needs
//! comes over its cable.

pub mod dhcp;
pub mod hardware;
pub mod http;
pub mod overlay;
pub mod script;
pub mod tftp;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use dhcp::{Lease, Stage};
use script::{End, Loaded, Variables};

/// What a soft node is made of.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// Name in logs; not known to the machine's software.
    pub name: String,
    /// Its adapter.
    pub interface: String,
    /// The adapter's address, `52:00:...`.
    pub mac: String,
    /// Serial number in DMI.
    pub serial: String,
    /// Vendor in DMI.
    pub vendor: String,
    /// Product name in DMI.
    pub model: String,
    /// System UUID in DMI.
    pub uuid: String,
    /// Client architecture (RFC 4578): 0 BIOS, 7 UEFI.
    pub arch: u16,
    /// Folder that holds its disk and its memory.
    pub folder: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// File that stages and messages are appended to.
    pub log: PathBuf,
}

/// Where the machine was told to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The firmware's order: network, then disk.
    Order,
    /// Network only.
    Network,
    /// Disk only.
    Disk,
}

impl From {
    /// Reads the word that the BMC passes on.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "pxe" => Self::Network,
            "disk" => Self::Disk,
            _ => Self::Order,
        }
    }
}

/// Why a step of the firmware failed; the firmware then tries again or goes on to the next device.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No usable answer on the network.
    #[error("no answer to {what} from {whom}")]
    Silence {
        /// What was asked.
        what: &'static str,
        /// Whom, as far as known.
        whom: String,
    },
    /// Somebody refused or answered nonsense.
    #[error("{whom} answered {what}: {answer}")]
    Refused {
        /// What was asked.
        what: String,
        /// Whom.
        whom: String,
        /// What came back.
        answer: String,
    },
    /// The boot script cannot be followed.
    #[error("boot script: {0}")]
    Script(String),
    /// This computer refused something.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Fault {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// What the network gave the machine to start.
#[derive(Debug)]
pub struct Started {
    /// Kernel, command line and initial file systems.
    pub loaded: Loaded,
    /// The last lease.
    pub lease: Lease,
}

/// What firmware and loader found on the network.
#[derive(Debug)]
pub enum Found {
    /// A system to start.
    System(Box<Started>),
    /// The script sends the machine to its disk.
    Disk,
}

/// Times of the present boot, written as they happen.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    begun: Instant,
}

impl Journal {
    /// Begins a boot.
    #[must_use]
    pub fn begin(path: &Path) -> Self {
        let journal = Self { path: path.to_owned(), begun: Instant::now() };
        journal.stage("power-on");
        journal
    }

    /// A stage is reached.
    pub fn stage(&self, what: &str) {
        self.write(&format!("stage {what} {:.1}", self.begun.elapsed().as_secs_f64()));
    }

    /// Something to know.
    pub fn say(&self, what: &str) {
        self.write(&format!("{:>7.1} {what}", self.begun.elapsed().as_secs_f64()));
    }

    fn write(&self, line: &str) {
        use std::io::Write;
        let file = std::fs::File::options().create(true).append(true).open(&self.path);
        // A machine does not stop because nobody can read its console.
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{line}");
        }
    }
}

/// Firmware and loader: from the first DHCP packet to what the boot script says.
///
/// # Errors
/// The first step that failed; nothing is retried here beyond the protocols' own retransmissions.
pub async fn boot(settings: &Settings, journal: &Journal) -> Result<Found, Fault> {
    let rom = dhcp::ask(settings, Stage::Firmware).await?;
    journal.stage("dhcp");
    if rom.file.is_empty() {
        return Ok(Found::Disk);
    }
    if !rom.file.starts_with("http://") {
        address(settings, &rom).await?;
        let loader = tftp::fetch(rom.server, &rom.file).await?;
        journal.say(&format!("loader {} has {} bytes", rom.file, loader.len()));
        journal.stage("tftp");
    }
    let lease = dhcp::ask(settings, Stage::Loader).await?;
    address(settings, &lease).await?;
    let variables = Variables {
        mac: settings.mac.clone(),
        uuid: settings.uuid.clone(),
        serial: settings.serial.clone(),
        ip: lease.address.to_string(),
        next_server: lease.server.to_string(),
        platform: if settings.arch == 0 { "pcbios" } else { "efi" }.to_owned(),
    };
    let mut url = lease.file.clone();
    // A chain of scripts has an end, or it is a circle.
    for _ in 0..8 {
        if !url.starts_with("http://") {
            return Err(Fault::Script(format!("the loader was sent to '{url}'")));
        }
        let text = http::get(&url, script::LIMIT).await?;
        journal.stage("script");
        let text = String::from_utf8_lossy(&text).into_owned();
        match script::follow(&text, &variables)? {
            End::Chain(next) => url = next,
            End::Disk => return Ok(Found::Disk),
            End::Boot(plan) => {
                let mut loaded =
                    Loaded { arguments: plan.arguments, kernel: Vec::new(), initial: Vec::new() };
                loaded.kernel = http::get(&plan.kernel, http::FILE_LIMIT).await?;
                for initial in &plan.initial {
                    loaded.initial.push(http::get(initial, http::FILE_LIMIT).await?);
                }
                journal.stage("files");
                return Ok(Found::System(Box::new(Started { loaded, lease })));
            }
        }
    }
    Err(Fault::Script("it chains for ever".to_owned()))
}

/// Gives the adapter what the lease says; what it had before goes.
///
/// # Errors
/// [`Fault::System`] when `ip` refuses.
pub async fn address(settings: &Settings, lease: &Lease) -> Result<(), Fault> {
    let interface = &settings.interface;
    let mut lines = format!(
        "addr flush dev {interface}\naddr add {}/{} brd + dev {interface}\n",
        lease.address,
        u32::from(lease.mask).count_ones()
    );
    if let Some(gateway) = lease.gateway {
        lines.push_str(&format!("route replace default via {gateway} dev {interface}\n"));
    }
    ip(&lines).await
}

/// Raises the adapter's link without any address, as firmware finds it.
///
/// # Errors
/// [`Fault::System`] when `ip` refuses.
pub async fn link_up(settings: &Settings) -> Result<(), Fault> {
    ip(&format!("link set lo up\naddr flush dev {0}\nlink set {0} up\n", settings.interface)).await
}

async fn ip(lines: &str) -> Result<(), Fault> {
    use tokio::io::AsyncWriteExt;
    let failed = || format!("ip -batch: {}", lines.trim().replace('\n', "; "));
    let mut child = tokio::process::Command::new("ip")
        .args(["-batch", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Fault::system(failed()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes()).await.map_err(Fault::system(failed()))?;
    }
    let output = tokio::time::timeout(Duration::from_secs(10), child.wait_with_output())
        .await
        .map_err(|_| Fault::Silence { what: "ip", whom: "the kernel".to_owned() })?
        .map_err(Fault::system(failed()))?;
    if output.status.success() {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Fault::Refused { what: failed(), whom: "the kernel".to_owned(), answer })
}

/// The address that a URL names.
fn host_of(url: &str) -> Option<(Ipv4Addr, u16, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (address, port) = host.split_once(':').map_or((host, Some(80)), |(a, p)| (a, p.parse().ok()));
    Some((address.parse().ok()?, port?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_address_port_and_path() {
        let address = Ipv4Addr::new(10, 1, 0, 10);
        assert_eq!(host_of("http://10.1.0.10/boot/ipxe?mac=x"), Some((address, 80, "/boot/ipxe?mac=x")));
        assert_eq!(host_of("http://10.1.0.10:8080"), Some((address, 8080, "/")));
        assert_eq!(host_of("tftp://10.1.0.10/x"), None);
        assert_eq!(host_of("http://10.1.0.10:x/"), None);
    }
}
