//! Follows the node's chain in the discovery image: one step at a time, each reported when it is done.
//!
//! A new destiny that comes while a step runs ends that step; the same destiny again does not disturb it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use wire::agent::Report;
use wire::op::Exec;

use crate::outbox::Outbox;
use crate::run::{self, Ended};
use crate::{Life, Outcome, download};

/// Output of a step that is kept for the log.
const MAX_OUTPUT: usize = 64 * 1024;
/// Before the machine boots its reports are awaited this long.
const FAREWELL: Duration = Duration::from_secs(30);

/// The step to take, and the one that is being taken.
#[derive(Debug)]
pub struct Steps {
    wanted: watch::Sender<Option<String>>,
    present: Mutex<Option<String>>,
}

impl Steps {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self { wanted: watch::Sender::new(None), present: Mutex::new(None) }
    }

    /// The master's word. Ignored when it is what we are doing, and while the master does not know that a
    /// step is done: what it says may still be that step.
    pub fn next(&self, destiny: &str, outbox: &Outbox) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.as_deref() != Some(destiny) && !outbox.has_next_destiny() {
            *present = Some(destiny.to_owned());
            self.wanted.send_replace(Some(destiny.to_owned()));
        }
    }

    /// Reports a step's end. Under the same lock as [`Steps::next`]: the answer may be here at once.
    fn done(&self, step: String, status: i32, outbox: &Outbox) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.push(Report::NextDestiny { done: step, status });
        *present = None;
    }
}

enum Taken {
    /// Done with this status: ask for the next one.
    Done(i32),
    /// Nothing more to do until another destiny comes.
    Hold,
    /// The machine leaves the discovery image.
    Leave(Outcome),
}

/// Takes step after step until the drain stops.
pub async fn follow(life: Arc<Life>, leave: mpsc::Sender<Outcome>) {
    let mut wanted = life.steps.wanted.subscribe();
    loop {
        tokio::select! {
            biased;
            () = life.drain.stopping() => return,
            changed = wanted.changed() => if changed.is_err() { return },
        }
        loop {
            let Some(destiny) = wanted.borrow_and_update().clone() else { break };
            info!(%destiny, "next step");
            let taken = tokio::select! {
                biased;
                () = life.drain.stopping() => return,
                changed = wanted.changed() => match changed {
                    Ok(()) => {
                        // `changed` has marked the value as seen; the inner loop reads it again.
                        continue;
                    }
                    Err(_) => return,
                },
                taken = take(&life, &destiny) => taken,
            };
            match taken {
                Taken::Done(status) => life.steps.done(destiny, status, &life.outbox),
                Taken::Hold => {}
                Taken::Leave(outcome) => {
                    life.outbox.push(Report::Status("booting".to_owned()));
                    if tokio::time::timeout(FAREWELL, life.outbox.is_empty()).await.is_err() {
                        warn!("the last reports were not stored in time");
                    }
                    let _ = leave.send(outcome).await;
                }
            }
            break;
        }
    }
}

async fn take(life: &Life, destiny: &str) -> Taken {
    let (word, rest) = destiny.split_once('=').unwrap_or((destiny, ""));
    match word {
        "" => Taken::Done(0),
        "runcmd" => Taken::Done(command(life, rest).await),
        "runimage" => Taken::Done(image(life, rest).await),
        "shell" => shell(life).await,
        "boot" => Taken::Leave(Outcome::BootDisk),
        "reboot" => Taken::Leave(Outcome::Reboot),
        "shutdown" => Taken::Leave(Outcome::PowerOff),
        "standby" => Taken::Hold,
        _ => {
            warn!(%destiny, "not a step that can be taken here");
            Taken::Hold
        }
    }
}

async fn command(life: &Life, command: &str) -> i32 {
    let exec = Exec { command: command.to_owned(), ..Exec::default() };
    run_to_end(&exec, &life.config.root).await
}

/// Downloads a tar archive, unpacks it and runs its `runme.sh`.
async fn image(life: &Life, url: &str) -> i32 {
    let below = life.config.root.join("tmp");
    let base = if below.is_dir() { below } else { std::env::temp_dir() };
    let folder = base.join(format!("runimage-{:016x}", service::random::number()));
    let archive = folder.join("image.tar");
    let fetched = match std::fs::create_dir(&folder) {
        Ok(()) => download::fetch(url, &archive).await,
        Err(error) => Err(format!("{}: {error}", folder.display())),
    };
    let status = match fetched {
        Ok(()) => {
            let place = folder.display();
            let command = format!("cd '{place}' && tar xf image.tar && rm image.tar && ./runme.sh");
            run_to_end(&Exec { command, ..Exec::default() }, &life.config.root).await
        }
        Err(error) => {
            warn!(%url, %error, "the image cannot be fetched");
            1
        }
    };
    let _ = std::fs::remove_dir_all(&folder);
    status
}

async fn run_to_end(exec: &Exec, root: &Path) -> i32 {
    let (ended, output) = run::to_end(exec, root, MAX_OUTPUT).await;
    String::from_utf8_lossy(&output).lines().for_each(|line| info!("{line}"));
    match ended {
        Ended::Exit(status) => status,
        Ended::Failed(reason) => {
            warn!(%reason, "the step cannot be run");
            126
        }
        Ended::Cancelled | Ended::TimedOut => 143,
    }
}

/// A shell on the console; without a console the node just waits.
async fn shell(life: &Life) -> Taken {
    let Some(console) = &life.config.console else { return Taken::Hold };
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(console);
    let (Ok(input), Ok(output), Ok(errors)) = (open(), open(), open()) else { return Taken::Hold };
    let mut shell = Command::new("/bin/sh");
    shell.arg("-i").stdin(input).stdout(output).stderr(errors).env("HOME", "/root").kill_on_drop(true);
    match shell.status().await {
        Ok(status) => Taken::Done(status.code().unwrap_or(1)),
        Err(error) => {
            warn!(%error, "no shell");
            Taken::Hold
        }
    }
}
