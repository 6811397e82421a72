//! The process that calls the handlers of one registration, and outlives the daemon for as long as a call takes.
//!
//! It takes one job at a time from standard input, writes into its [`Journal`] that it begins and how it ended, and
//! answers on standard output. When the daemon is gone it ends with the call it is at. It says that it is ready only
//! when it has the journal for itself: a job is never sent to one that waits.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::journal::{Attempt, Journal};
use super::{handler, post};

/// The first line of a runner.
pub const READY: &str = "ready";
/// Longest line of a job.
const LINE: u64 = 64 * 1024;
/// Most bytes of a job's body.
const BODY: usize = 256 * 1024 * 1024;
/// What calls a Perl module.
const MODULE: &str = include_str!("module.pl");

/// A call to be made; its body follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which.
    pub attempt: Attempt,
    /// How.
    pub way: Way,
    /// Program, module or address.
    pub file: String,
    /// Certificates to trust.
    pub ca: String,
    /// What the handler is told beside the body.
    pub environment: Vec<(String, String)>,
    /// Milliseconds that it may take.
    pub deadline: u64,
    /// Bytes of the body.
    pub bytes: usize,
}

/// How a handler is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// As a program.
    Program,
    /// As a Perl module.
    Module,
    /// As a web server.
    Web,
}

/// How a call went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which.
    pub attempt: Attempt,
    /// What was wrong.
    pub fault: Option<String>,
}

/// Serves a daemon until it is gone.
///
/// # Errors
/// When the journal cannot be used, or the daemon sends nonsense.
pub fn main(journal: &Path) -> anyhow::Result<()> {
    let mut journal = Journal::lock(journal).with_context(|| journal.display().to_string())?;
    // What handlers leave behind becomes this process's own, so that it can be found.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("adopting orphans")?;
    let mut input = std::io::stdin().lock();
    say(READY);
    while let Some((job, body)) = next(&mut input)? {
        journal.begin(&job.attempt).context("the journal cannot be written")?;
        let fault = carry_out(job.clone(), body).err();
        journal.end(&job.attempt, fault.clone()).context("the journal cannot be written")?;
        let answer = Answer { attempt: job.attempt, fault };
        say(&serde_json::to_string(&answer)?);
    }
    Ok(())
}

/// Nobody may listen any more: the journal has it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn next(input: &mut impl BufRead) -> anyhow::Result<Option<(Job, Vec<u8>)>> {
    let mut line = Vec::new();
    input.take(LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() || !line.ends_with(b"\n") {
        return Ok(None);
    }
    let job: Job = serde_json::from_slice(&line).context("a job")?;
    anyhow::ensure!(job.bytes <= BODY, "a body of {} bytes", job.bytes);
    let mut body = Vec::with_capacity(job.bytes);
    input.take(job.bytes as u64).read_to_end(&mut body)?;
    // A daemon that ended in the middle of a job has not given it.
    Ok((body.len() == job.bytes).then_some((job, body)))
}

fn carry_out(job: Job, body: Vec<u8>) -> Result<(), String> {
    let deadline = Duration::from_millis(job.deadline);
    match job.way {
        Way::Program => handler::run(command(&job, &job.file), &body, deadline),
        Way::Module => {
            let xcat = std::env::var_os("XCATROOT").map_or_else(|| PathBuf::from("/opt/xcat"), PathBuf::from);
            let lib = xcat.join("lib/perl");
            let file = lib.join("xCAT_monitoring").join(&job.file);
            if !file.exists() {
                return Err(format!("there is no Perl module {}", file.display()));
            }
            let mut command = command(&job, "perl");
            command.arg("-e").arg(MODULE).arg(&file).arg(&lib);
            handler::run(command, &body, deadline).map_err(|error| {
                match error.contains("cannot be started") {
                    true => format!("{}: {error}; Perl modules need perl", job.file),
                    false => error,
                }
            })
        }
        Way::Web => {
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || {
                let headers: Vec<(String, String)> = job
                    .environment
                    .iter()
                    .map(|(name, value)| (format!("X-{}", name.replace('_', "-")), plain(value)))
                    .collect();
                tell.send(post::post(&job.file, &job.ca, &headers, &body, deadline))
            });
            // Looking a name up has no deadline of its own.
            let late = |_| Err(format!("no answer within {} s", deadline.as_secs_f32()));
            told.recv_timeout(deadline).unwrap_or_else(late)
        }
    }
}

fn command(job: &Job, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/");
    for name in ["PATH", "HOME", "LANG", "TZ", "XCATROOT"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// A value that can be in a header.
fn plain(value: &str) -> String {
    value.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}
