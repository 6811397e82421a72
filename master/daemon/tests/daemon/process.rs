//! A master as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::{Client, admin};

/// A master as a process.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a member and waits until it takes connections.
    pub fn start(dir: &Path, member: usize) -> Self {
        let config: PathBuf = dir.join(format!("m{member}/margayd.toml"));
        let log = std::fs::File::create(dir.join(format!("m{member}.log"))).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_margayd"))
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready on"), "{line}");
        Self { child }
    }

    /// Ends it as a loss of power would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first admin, at all members.
pub fn client(dir: &Path, members: usize) -> Client {
    let address =
        |member: usize| master::Config::read(&dir.join(format!("m{member}/margayd.toml"))).unwrap().listen;
    Client::new(admin(dir), (1..=members).map(address).collect())
}
