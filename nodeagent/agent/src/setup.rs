//! A booted node sets itself up: one numbered generation of its configuration, applied below its root.
//!
//! Each step stands alone: one that fails is named with its reason and the others go on. What an earlier
//! generation brought and the new one does not have is taken away again, so the last configuration is kept
//! in the state folder.

mod accounts;
mod files;
mod mounts;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::agent::Booted;
use wire::frame;
use wire::op::Exec;
use wire::view::NodeConfig;

use crate::run::{self, Ended};

/// A start command is given up after this when its configuration says nothing.
const START_TIMEOUT: u64 = 600;
/// Output of the start command that is kept in its log.
const MAX_LOG: usize = 1024 * 1024;
/// A program that helps with the set-up (mount) is given up after this.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// The set-up of one machine.
#[derive(Debug)]
pub struct Setup {
    root: PathBuf,
    kept: Option<PathBuf>,
    network: bool,
    last: NodeConfig,
    started: Option<(String, String)>,
    status: Option<i32>,
}

/// Steps that failed, with the reasons.
pub type Failures = Vec<(String, String)>;

impl Setup {
    /// The set-up below `root`. The last generation is remembered in the folder `state`; without one it
    /// is forgotten with the process. `network` says whether interfaces and routes of this network
    /// namespace are ours to change.
    #[must_use]
    pub fn new(root: &Path, state: Option<&Path>, network: bool) -> Self {
        let kept = state.map(|folder| folder.join("configuration"));
        let last = kept.as_deref().and_then(|path| std::fs::read(path).ok());
        let last = last.and_then(|bytes| frame::decode(&bytes).ok()).unwrap_or_default();
        Self { root: root.to_owned(), kept, network, last, started: None, status: None }
    }

    /// Applies a configuration and runs its start command, unless the same one ran since this boot.
    pub async fn apply(&mut self, config: &NodeConfig) -> Booted {
        let mut failed = Failures::new();
        if self.network {
            network::apply(&self.last, config, &mut failed);
        }
        self.names(config, &mut failed);
        accounts::apply(&self.root, &self.last, config, &mut failed);
        mounts::apply(&self.root, &self.last, config, &mut failed).await;
        self.remember(config, &mut failed);
        let start_status = self.start(config, &mut failed).await;
        Booted { generation: config.generation, failed_steps: failed, start_status }
    }

    fn names(&self, config: &NodeConfig, failed: &mut Failures) {
        let etc = self.root.join("etc");
        if !config.hostname.is_empty() {
            let usable = wire::names::check_name("host name", &config.hostname).map_err(|e| e.to_string());
            let written =
                usable.and_then(|name| files::write(&etc.join("hostname"), &format!("{name}\n"), 0o644));
            step(failed, "hostname", written);
            if self.root == Path::new("/") {
                let set = rustix::system::sethostname(config.hostname.as_bytes());
                step(failed, "hostname", set.map_err(|error| error.to_string()));
            }
        }
        let mut lines = String::new();
        for (address, names) in &config.hosts {
            let clean =
                |word: &String| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '#');
            if address.parse::<std::net::IpAddr>().is_err() || !names.iter().all(clean) {
                failed.push(("hosts".to_owned(), format!("'{address}' is not a line for the hosts file")));
                continue;
            }
            lines += &format!("{address} {}\n", names.join(" "));
        }
        step(failed, "hosts", files::block(&etc.join("hosts"), &lines));
        let servers: Vec<_> =
            config.nameservers.iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        if !servers.is_empty() {
            let mut text = String::new();
            if wire::names::check_name("domain", &config.domain).is_ok() {
                text += &format!("search {}\n", config.domain);
            }
            servers.iter().for_each(|server| text += &format!("nameserver {server}\n"));
            step(failed, "nameservers", files::write(&etc.join("resolv.conf"), &text, 0o644));
        }
    }

    fn remember(&mut self, config: &NodeConfig, failed: &mut Failures) {
        self.last = config.clone();
        let number = format!("{}\n", config.generation);
        step(failed, "generation", files::write(&self.root.join("etc/margay/generation"), &number, 0o644));
        let Some(path) = &self.kept else { return };
        let kept = frame::encode(config).map_err(|error| error.to_string());
        step(failed, "generation", kept.and_then(|bytes| files::write_bytes(path, &bytes, 0o600)));
    }

    async fn start(&mut self, config: &NodeConfig, failed: &mut Failures) -> Option<i32> {
        let start = config.start_command.as_ref().filter(|start| !start.command.is_empty())?;
        let same = (start.command.clone(), start.user.clone());
        if self.started.as_ref() == Some(&same) {
            return self.status;
        }
        self.started = Some(same);
        let exec = Exec {
            command: start.command.clone(),
            user: start.user.clone(),
            timeout: if start.timeout == 0 { START_TIMEOUT } else { start.timeout },
            ..Exec::default()
        };
        let (ended, output) = run::to_end(&exec, &self.root, MAX_LOG).await;
        let log = self.root.join("var/log/margay-start.log");
        step(failed, "start log", files::write_bytes(&log, &output, 0o640));
        self.status = match ended {
            Ended::Exit(status) => Some(status),
            Ended::TimedOut => {
                failed.push(("start command".to_owned(), format!("ended after {} s", exec.timeout)));
                Some(124)
            }
            Ended::Cancelled => Some(143),
            Ended::Failed(reason) => {
                failed.push(("start command".to_owned(), reason));
                Some(126)
            }
        };
        self.status
    }
}

/// Writes a file that only root can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), String> {
    files::write(path, text, 0o600)
}

fn step(failed: &mut Failures, name: &str, result: Result<(), String>) {
    if let Err(reason) = result {
        failed.push((name.to_owned(), reason));
    }
}

#[cfg(test)]
mod tests;
