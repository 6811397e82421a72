//! The process that asks a plug-in once. It is not the daemon, because what a plug-in leaves behind must become this
//! process's own to be found, and because it sees to the end of the call when the daemon is gone.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::notify::handler;

/// Longest line of a job: all settings of a plug-in are in it.
const LINE: u64 = 16 * 1024 * 1024;
/// Most bytes of a body: the names of all nodes.
const BODY: usize = 64 * 1024 * 1024;
/// Bytes of output that are kept.
pub(super) const KEPT: usize = 64 * 1024;

/// What is asked; the names of nodes follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Milliseconds.
    pub deadline: u64,
    /// Bytes of the body.
    pub bytes: usize,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub printed: String,
    pub code: Option<i32>,
    pub fault: Option<String>,
}

/// Does the job on standard input.
///
/// # Errors
/// When the daemon sends nonsense.
pub fn main() -> anyhow::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("adopting orphans")?;
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    (&mut input).take(LINE).read_until(b'\n', &mut line)?;
    let job: Job = serde_json::from_slice(&line).context("a job")?;
    anyhow::ensure!(job.bytes <= BODY, "a body of {} bytes", job.bytes);
    let mut body = Vec::with_capacity(job.bytes);
    input.take(job.bytes as u64).read_to_end(&mut body)?;
    anyhow::ensure!(body.len() == job.bytes, "the daemon ended in the middle of a job");
    let mut command = Command::new(&job.program);
    command.args(&job.arguments).env_clear().current_dir("/");
    for name in ["PATH", "HOME", "LANG", "TZ", "XCATROOT"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(&job.environment);
    let ended = handler::call(command, &body, Duration::from_millis(job.deadline), KEPT);
    let printed = String::from_utf8_lossy(&ended.printed).into_owned();
    let answer = Answer { printed, code: ended.code, fault: ended.fault };
    // Nobody may listen any more.
    let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&answer)?);
    Ok(())
}
