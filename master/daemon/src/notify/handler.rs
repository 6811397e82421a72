//! Runs a handler as a process: bounded time, bounded output, nothing left behind.
//!
//! Blocks. The handler is a process group of its own. What it leaves in the group is ended with it; when it takes too
//! long, what has left the group is ended as well.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

/// Bytes that a handler may print; its output is closed then.
const PRINTED: usize = 16 * 1024 * 1024;
/// The end of what it printed that is kept for the report.
const KEPT: usize = 2048;
/// How long the dead may take to be gone.
const DYING: Duration = Duration::from_secs(5);
/// How long the end of what is printed is waited for when somebody else keeps the pipes open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long what lies in the pipes may take to be read.
const READING: Duration = Duration::from_secs(10);
/// Rounds in which what escaped is looked for.
const ROUNDS: usize = 100;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// The end of what it printed.
    pub printed: Vec<u8>,
    /// Its exit status, if it ended by itself.
    pub code: Option<i32>,
    /// One line: why it cannot be started, that it took too long, or how it ended with the end of what it printed.
    pub fault: Option<String>,
}

/// Runs a program with this standard input.
///
/// # Errors
/// [`Ended::fault`].
pub fn run(command: Command, input: &[u8], deadline: Duration) -> Result<(), String> {
    call(command, input, deadline, KEPT).fault.map_or(Ok(()), Err)
}

/// Runs a program with this standard input and keeps so many bytes of the end of what it prints.
pub fn call(mut command: Command, input: &[u8], deadline: Duration, keep: usize) -> Ended {
    let before = children();
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |fault: String| Ended { printed: Vec::new(), code: None, fault: Some(fault) };
    let child =
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return failed(format!("{name} cannot be started: {error}")),
    };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return failed("the handler has no number".to_owned());
    };
    let printed = Arc::new(Mutex::new(Vec::new()));
    let (closed, at_end) = mpsc::channel();
    let mut pipes = Vec::new();
    let out = child.stdout.take().map(OwnedFd::from);
    for pipe in out.into_iter().chain(child.stderr.take().map(OwnedFd::from)) {
        let pipe = Arc::new(File::from(pipe));
        // The reader alone keeps it open: a flood ends when nobody reads it any more.
        pipes.push(Arc::downgrade(&pipe));
        listen(pipe, &printed, keep, closed.clone());
    }
    drop(closed);
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A handler that does not read its input is none the worse for it.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let (tell, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        tell.send(rustix::process::waitid(WaitId::Pid(pid), options).is_ok())
    });
    let in_time = ended.recv_timeout(deadline).is_ok();
    // It is not waited for yet, so its number still belongs to its group.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    if !in_time {
        let _ = ended.recv_timeout(DYING);
        end_escaped(&before);
    }
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => return failed(format!("{name}: {error}")),
    };
    reap();
    hear_out(&at_end, &pipes);
    let printed = printed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = String::from_utf8_lossy(&printed);
    let text = text.trim().lines().next_back().map_or_else(String::new, |line| format!(": {line}"));
    let fault = match (in_time, status.success()) {
        (false, _) => {
            Some(format!("it did not end within {} s and was killed{text}", deadline.as_secs_f32()))
        }
        (true, false) => Some(format!("it ended with {status}{text}")),
        (true, true) => None,
    };
    Ended { printed, code: status.code().filter(|_| in_time), fault }
}

/// Waits until both pipes are closed, or hold nothing more: what the program left behind on purpose may keep them
/// open, and its own words are in them by now.
fn hear_out(at_end: &mpsc::Receiver<()>, pipes: &[Weak<File>]) {
    let begin = Instant::now();
    let mut patience = LAST_WORDS;
    while at_end.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
        let holds = |pipe: Arc<File>| rustix::io::ioctl_fionread(&*pipe).is_ok_and(|count| count > 0);
        let unread = pipes.iter().filter_map(Weak::upgrade).any(holds);
        if !unread || begin.elapsed() > READING {
            return;
        }
        patience = Duration::from_millis(20);
    }
}

/// Reads what is printed to its end or its bound, and keeps the last of it. Drops `closed` then.
fn listen(pipe: Arc<File>, kept: &Arc<Mutex<Vec<u8>>>, keep: usize, closed: mpsc::Sender<()>) {
    let kept = kept.clone();
    std::thread::spawn(move || {
        let _closed = closed;
        let mut buffer = vec![0; 64 * 1024];
        let mut left = PRINTED;
        while let Ok(count) = (&*pipe).read(&mut buffer)
            && count > 0
            && left > 0
        {
            left = left.saturating_sub(count);
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&buffer[count.saturating_sub(keep)..count]);
            let over = kept.len().saturating_sub(keep);
            kept.drain(..over);
        }
    });
}

/// Ends what a handler started beside its group; it is this process's own by now.
fn end_escaped(before: &BTreeSet<i32>) {
    for _ in 0..ROUNDS {
        let mut found = false;
        let mut queue: Vec<i32> = children().difference(before).copied().collect();
        while let Some(number) = queue.pop() {
            let Some(pid) = Pid::from_raw(number) else { continue };
            queue.extend(children_of(&format!("/proc/{number}/task")));
            found |= rustix::process::kill_process(pid, Signal::KILL).is_ok() && !is_dead(number);
        }
        if !found {
            return;
        }
    }
}

fn is_dead(number: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn children() -> BTreeSet<i32> {
    children_of("/proc/self/task")
}

fn children_of(tasks: &str) -> BTreeSet<i32> {
    let Ok(tasks) = std::fs::read_dir(tasks) else { return BTreeSet::new() };
    let lists = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Takes the dead off the list that became children of this process.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}
