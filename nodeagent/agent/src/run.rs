//! Runs one command: own process group, clean environment, output by lines, and an end in every case.
//!
//! Invariant: when [`run`] ended or was dropped, the command's process group is dead, unless the command
//! ended by itself and left background processes on purpose.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::agent::CallInput;
use wire::op::{Exec, Stream};

use crate::accounts::{self, User};

/// A line longer than this is sent in pieces.
const MAX_LINE: usize = 32 * 1024;
/// Standard input that the command has not read yet; more is refused.
const MAX_WAITING_INPUT: usize = 16 * 1024 * 1024;
/// After the command's end its output is awaited this long, in case a background process holds it open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// From SIGTERM to SIGKILL.
const MERCY: Duration = Duration::from_secs(1);
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself or by a signal of somebody else: its status, 128 + signal when killed.
    Exit(i32),
    /// It was cancelled and is dead.
    Cancelled,
    /// Its time was over and it is dead.
    TimedOut,
    /// It could not be run; why.
    Failed(String),
}

/// Runs `exec` on the machine below `root`.
///
/// `input` brings standard input and the cancel; its end is a cancel too. `output` gets whole lines
/// where there are lines; when nobody takes them, the command is slowed down.
///
/// # Cancellation
/// Dropping kills the whole process group.
pub async fn run(
    exec: &Exec,
    root: &Path,
    input: mpsc::Receiver<CallInput>,
    output: mpsc::Sender<(Stream, Vec<u8>)>,
) -> Ended {
    match start(exec, root) {
        Ok(running) => follow(running, exec, input, output).await,
        Err(reason) => Ended::Failed(reason),
    }
}

/// A process group and the files that end with it.
struct Running {
    child: Child,
    group: Group,
    _script: Option<Script>,
}

/// Kills its process group when it is dropped, unless it was let go.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // An empty group is an error, and what we want.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A script's file, removed at the end.
struct Script(PathBuf);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn start(exec: &Exec, root: &Path) -> Result<Running, String> {
    let user = accounts::user(root, &exec.user)?;
    let script = exec.script.as_deref().map(|bytes| script(root, &user, bytes)).transpose()?;
    let text = match &script {
        Some(script) => format!("'{}' {}", script.0.display(), exec.command),
        None => exec.command.clone(),
    };
    let mut command = std::process::Command::new("/bin/sh");
    command.arg("-c").arg(text).env_clear().process_group(0);
    command.env("PATH", PATH).env("HOME", &user.home).env("SHELL", &user.shell);
    command.env("USER", &user.name).env("LOGNAME", &user.name);
    if root != Path::new("/") {
        command.env("MARGAY_ROOT", root).current_dir(root);
    } else if Path::new(&user.home).is_dir() {
        command.current_dir(&user.home);
    } else {
        command.current_dir("/");
    }
    for (name, value) in &exec.environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("'{}' is not the name of an environment variable", name.escape_debug()));
        }
        command.env(name, value);
    }
    command.stdin(if exec.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if user.uid != 0 {
        rawdev::become_user(&mut command, user.uid, user.gid, user.groups.clone());
    }
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn().map_err(|error| format!("cannot run /bin/sh: {error}"))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok(Running { child, group: Group(id), _script: script })
}

fn script(root: &Path, user: &User, bytes: &[u8]) -> Result<Script, String> {
    let below = root.join("tmp");
    let folder = if below.is_dir() { below } else { std::env::temp_dir() };
    let path = folder.join(format!("margay-{:016x}", service::random::number()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o700).open(&path)?;
        file.write_all(bytes)?;
        if user.uid != 0 {
            std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    };
    let script = Script(path.clone());
    write().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(script)
}

async fn follow(
    mut running: Running,
    exec: &Exec,
    input: mpsc::Receiver<CallInput>,
    output: mpsc::Sender<(Stream, Vec<u8>)>,
) -> Ended {
    let (Some(out), Some(err)) = (running.child.stdout.take(), running.child.stderr.take()) else {
        return Ended::Failed("the command has no output".to_owned());
    };
    let control = control(running.child.stdin.take(), input);
    let pumps = async { tokio::join!(pump(out, Stream::Out, &output), pump(err, Stream::Err, &output)) };
    tokio::pin!(control, pumps);
    let far = Duration::from_secs(365 * 24 * 3600);
    let limit = if exec.timeout == 0 { far } else { Duration::from_secs(exec.timeout) };
    let timeout = tokio::time::sleep_until(Instant::now() + limit.min(far));
    let last_words = tokio::time::sleep(far);
    tokio::pin!(timeout, last_words);
    let (mut silent, mut status) = (false, None);
    let forced = loop {
        if let (true, Some(status)) = (silent, status) {
            // What it left running in the background stays, as after a login shell.
            running.group.0 = None;
            return Ended::Exit(code(status));
        }
        tokio::select! {
            biased;
            ended = &mut control => break ended,
            () = &mut timeout => break Ended::TimedOut,
            _ = &mut pumps, if !silent => silent = true,
            done = running.child.wait(), if status.is_none() => match done {
                Ok(done) => {
                    status = Some(done);
                    last_words.as_mut().reset(Instant::now() + LAST_WORDS);
                }
                Err(error) => break Ended::Failed(format!("its end cannot be awaited: {error}")),
            },
            () = &mut last_words => silent = true,
        }
    };
    running.group.signal(Signal::TERM);
    let _ = tokio::time::timeout(MERCY, running.child.wait()).await;
    forced
}

/// Feeds standard input; ends only to end the command.
async fn control(mut stdin: Option<ChildStdin>, mut input: mpsc::Receiver<CallInput>) -> Ended {
    let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
    let mut bytes = 0;
    let mut over = false;
    loop {
        if over && waiting.is_empty() {
            stdin = None;
        }
        let next = match (&mut stdin, waiting.front()) {
            (Some(pipe), Some(piece)) => tokio::select! {
                biased;
                next = input.recv() => Some(next),
                written = pipe.write(piece) => {
                    match written {
                        Ok(count) if count > 0 => {
                            bytes -= count;
                            let piece = waiting.front_mut().expect("it was just written from");
                            piece.drain(..count);
                            if piece.is_empty() {
                                waiting.pop_front();
                            }
                        }
                        // The command does not read any more: the rest goes nowhere, like in a pipe.
                        _ => stdin = None,
                    }
                    None
                }
            },
            _ => Some(input.recv().await),
        };
        match next {
            None => {}
            Some(Some(CallInput::Stdin(piece))) if stdin.is_some() && !over && !piece.is_empty() => {
                bytes += piece.len();
                waiting.push_back(piece);
                if bytes > MAX_WAITING_INPUT {
                    return Ended::Failed(
                        "the command did not read its input in time: 16 MiB wait".to_owned(),
                    );
                }
            }
            Some(Some(CallInput::Stdin(_))) => {}
            Some(Some(CallInput::StdinEnd)) => over = true,
            Some(Some(CallInput::Cancel) | None) => return Ended::Cancelled,
        }
    }
}

/// Sends what comes out, whole lines where there are lines.
async fn pump(mut pipe: impl AsyncRead + Unpin, stream: Stream, output: &mpsc::Sender<(Stream, Vec<u8>)>) {
    let mut kept: Vec<u8> = Vec::new();
    loop {
        let ended = !matches!(pipe.read_buf(&mut kept).await, Ok(count) if count > 0);
        let whole = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let ready = if ended || kept.len() - whole >= MAX_LINE { kept.len() } else { whole };
        if ready > 0 {
            let rest = kept.split_off(ready);
            let lines = std::mem::replace(&mut kept, rest);
            if output.send((stream, lines)).await.is_err() {
                // Nobody listens any more; the command must still be able to write.
                while matches!(pipe.read_buf(&mut kept).await, Ok(count) if count > 0) {
                    kept.clear();
                }
                return;
            }
        }
        if ended {
            return;
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Runs a command to its end and keeps its output up to `limit` bytes: for steps nobody watches.
pub async fn to_end(exec: &Exec, root: &Path, limit: usize) -> (Ended, Vec<u8>) {
    let (hold, input) = mpsc::channel(1);
    let (output, mut lines) = mpsc::channel::<(Stream, Vec<u8>)>(16);
    let collect = async {
        let mut kept = Vec::new();
        while let Some((_, bytes)) = lines.recv().await {
            let room = limit.saturating_sub(kept.len()).min(bytes.len());
            kept.extend(&bytes[..room]);
        }
        kept
    };
    let ended = tokio::join!(run(exec, root, input, output), collect);
    drop(hold);
    ended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(command: &str) -> Exec {
        Exec { command: command.to_owned(), ..Exec::default() }
    }

    async fn outcome(exec: &Exec) -> (Ended, String) {
        let (ended, output) = to_end(exec, Path::new("/"), 1 << 20).await;
        (ended, String::from_utf8(output).unwrap())
    }

    #[tokio::test]
    async fn a_command_gives_its_lines_and_its_status() {
        assert_eq!(outcome(&shell("echo a; echo b; exit 3")).await, (Ended::Exit(3), "a\nb\n".to_owned()));
        assert_eq!(outcome(&shell("printf x")).await, (Ended::Exit(0), "x".to_owned()));
    }

    #[tokio::test]
    async fn a_command_that_kills_itself_ends_with_128_and_the_signal() {
        assert_eq!(outcome(&shell("kill -9 $$")).await.0, Ended::Exit(137));
    }

    #[tokio::test]
    async fn the_environment_is_clean_but_for_what_was_asked() {
        let exec = Exec { environment: vec![("COLOR".to_owned(), "red".to_owned())], ..shell("env") };
        let (_, text) = outcome(&exec).await;
        assert!(text.contains("COLOR=red\n") && text.contains("PATH=/usr/local/sbin"));
        assert!(!text.contains("CARGO"), "{text}");
        let wrong = Exec { environment: vec![("A=B".to_owned(), String::new())], ..shell("env") };
        assert!(matches!(outcome(&wrong).await.0, Ended::Failed(_)));
    }

    #[tokio::test]
    async fn standard_input_reaches_the_command_and_ends() {
        let exec = Exec { stdin: true, ..shell("cat; echo end") };
        let (send, input) = mpsc::channel(8);
        let (output, mut lines) = mpsc::channel::<(Stream, Vec<u8>)>(64);
        let big = vec![b'x'; 300_000];
        let feed = async {
            send.send(CallInput::Stdin(big.clone())).await.unwrap();
            send.send(CallInput::Stdin(b"\n".to_vec())).await.unwrap();
            send.send(CallInput::StdinEnd).await.unwrap();
            let mut count = 0;
            while let Some((_, bytes)) = lines.recv().await {
                count += bytes.len();
            }
            count
        };
        let (ended, count) = tokio::join!(run(&exec, Path::new("/"), input, output), feed);
        assert_eq!((ended, count), (Ended::Exit(0), 300_000 + 1 + 4));
    }

    #[tokio::test]
    async fn a_cancel_ends_the_whole_process_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let exec =
            shell(&format!("sh -c 'echo $$ > {0}.x; mv {0}.x {0}; exec sleep 1000' & wait", file.display()));
        let (send, input) = mpsc::channel(8);
        let (output, _lines) = mpsc::channel(64);
        let cancel = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            send.send(CallInput::Cancel).await.unwrap();
            fs::read_to_string(&file).unwrap().trim().to_owned()
        };
        let (ended, pid) = tokio::join!(run(&exec, Path::new("/"), input, output), cancel);
        assert_eq!(ended, Ended::Cancelled);
        gone(&pid).await;
    }

    /// Waits until a process is dead (or a zombie of somebody else).
    async fn gone(pid: &str) {
        let state = format!("/proc/{pid}/stat");
        let dead = async {
            while fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), dead).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_ended() {
        let exec = Exec { timeout: 1, ..shell("trap '' TERM; sleep 1000 & wait; sleep 1000") };
        assert_eq!(outcome(&exec).await.0, Ended::TimedOut);
    }

    #[tokio::test]
    async fn a_background_process_with_our_output_does_not_hold_the_command() {
        let (ended, text) = outcome(&shell("sleep 30 & echo $!")).await;
        assert_eq!(ended, Ended::Exit(0));
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_script_gets_the_command_as_its_arguments_and_is_removed() {
        let script = b"#!/bin/sh\necho \"$0\" \"$1-$2\"\n".to_vec();
        let exec = Exec { script: Some(script), ..shell("a 'b c'") };
        let (ended, text) = outcome(&exec).await;
        assert_eq!(ended, Ended::Exit(0));
        let (path, arguments) = text.trim().split_once(' ').unwrap();
        assert_eq!(arguments, "a-b c");
        assert!(!Path::new(path).exists());
    }

    #[tokio::test]
    async fn an_unknown_user_is_named_in_the_refusal() {
        let exec = Exec { user: "nobody-knows-me".to_owned(), ..shell("true") };
        let Ended::Failed(reason) = outcome(&exec).await.0 else { panic!("it ran") };
        assert!(reason.contains("nobody-knows-me"), "{reason}");
    }

    #[tokio::test]
    async fn another_user_has_all_its_groups() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "ada:x:4001:4001::/home/ada:/bin/sh\n").unwrap();
        fs::write(root.path().join("etc/group"), "ada:x:4001:\nlab:x:4002:bob,ada\n").unwrap();
        if !rustix::process::getuid().is_root() {
            return;
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(root.path(), open).unwrap();
        let exec = Exec { user: "ada".to_owned(), ..shell("id -u; id -G") };
        let (ended, output) = to_end(&exec, root.path(), 1_000).await;
        assert_eq!(ended, Ended::Exit(0));
        assert_eq!(String::from_utf8(output).unwrap(), "4001\n4001 4002\n");
    }
}
