//! What plans do beside changing rows and asking nodes: files, tokens, programs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use commands::fanout::plain;
use commands::{Effect, Helper, Output};
use state::RowChange;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use wire::client::Answer;
use wire::op::Stream;

use crate::core::{Core, done};
use crate::request::{End, Task};
use crate::talk::Talk;

/// Seconds that a join token can be used: a day.
const TOKEN_LIFETIME: u64 = 86_400;
/// How long the time service may take to read its settings.
const RELOAD: Duration = Duration::from_secs(60);
/// Bytes of a file that go into one message to the client.
const FILE_PIECE: usize = 1 << 20;
/// How long a program may run.
const PROGRAM: Duration = Duration::from_secs(1800);

/// Carries effects out after the commit; what fails is added to the answer.
///
/// # Errors
/// When the client is gone and was to get a file.
pub async fn carry_out(
    task: &Task,
    effects: &[Effect],
    output: &mut Output,
    talk: &mut Talk,
) -> Result<(), End> {
    for effect in effects {
        match effect {
            Effect::WriteHosts(content) => {
                let path = task.core.config.hosts.clone();
                let content = content.clone();
                let written = tokio::task::spawn_blocking(move || write(&path, content.as_bytes())).await;
                if let Ok(Err(error)) = written {
                    let path = task.core.config.hosts.display();
                    output
                        .complain(&format!("Error: [{}]: cannot write {path}: {error}", task.core.server()));
                    output.status = 1;
                }
            }
            Effect::TimeService { settings, verbose } => {
                if let Err(error) = time_service(&task.core, settings, *verbose, output).await {
                    output.complain(&format!("Error: [{}]: {error}", task.core.server()));
                    output.status = 1;
                }
            }
            Effect::ClientFile { path, bytes } => {
                client_file(talk, path, bytes, 0o644).await?;
            }
            Effect::ClientFiles(files) => {
                for (path, bytes) in files {
                    client_file(talk, path, bytes, 0o600).await?;
                }
            }
            Effect::Monitor(order) => crate::monitor::effect(&task.core, order, output).await,
        }
    }
    Ok(())
}

/// Writes a file of any length on the client's machine, in pieces that messages hold.
async fn client_file(talk: &mut Talk, path: &str, bytes: &[u8], mode: u32) -> Result<(), End> {
    let mut rest = bytes;
    while rest.len() > FILE_PIECE {
        let (piece, later) = rest.split_at(FILE_PIECE);
        talk.send(&Answer::FilePiece { path: path.to_owned(), bytes: piece.to_vec() }).await?;
        rest = later;
    }
    let last = Answer::WriteFile { path: path.to_owned(), bytes: rest.to_vec(), mode };
    Ok(talk.send(&last).await?)
}

/// Writes the settings of the time service and tells it; the error is a sentence.
async fn time_service(core: &Core, settings: &str, verbose: bool, output: &mut Output) -> Result<(), String> {
    let time = core.config.time.clone();
    let mut say = |text: String| {
        if verbose {
            output.line(&text);
        }
    };
    say(format!("writing {}", time.file.display()));
    let (file, bytes) = (time.file.clone(), settings.as_bytes().to_vec());
    match tokio::task::spawn_blocking(move || write(&file, &bytes)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let file = time.file.display();
            return Err(format!(
                "cannot write {file}: {error}; is chrony installed? ([time] in margayd.toml)"
            ));
        }
        Err(_) => return Err("writing the settings of the time service was interrupted".to_owned()),
    }
    let Some((program, arguments)) = time.reload.split_first() else { return Ok(()) };
    let line = time.reload.join(" ");
    say(format!("starting ntpserver: {line}"));
    let run = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(RELOAD, run).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("'{line}' ended with {status}; the settings are written")),
        Ok(Err(error)) => Err(format!("cannot run '{line}': {error}; the settings are written")),
        Err(_) => Err(format!("'{line}' did not end in {} s; the settings are written", RELOAD.as_secs())),
    }
}

/// The content of the hosts file; empty when there is none.
pub async fn read_hosts(core: &Core) -> String {
    let bytes = tokio::fs::read(&core.config.hosts).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes a join token for a service node, stores its digest and shows it once.
///
/// # Errors
/// How the request ends otherwise.
pub async fn admit(task: &Task, name: &str, audit: Option<RowChange>, talk: &mut Talk) -> Result<u8, End> {
    let token = hex(&service::random::bytes::<32>());
    let digest = hex(&link::pki::digest(token.as_bytes()));
    let expires = (task.core.clock.unix() + TOKEN_LIFETIME).to_string();
    let row = RowChange::set("servicenodes", &[name], &[("tokenhash", &digest), ("expires", &expires)]);
    let changes = std::iter::once(row).chain(audit).collect();
    let line = format!("sn add {name}");
    let request = Some(task.run.request);
    let answer = task.core.transact(&task.caller.user, &line, request, Vec::new(), changes).await;
    let repeated = match answer.and_then(|answer| done(&answer).cloned()) {
        Ok(outcome) => outcome.repeated,
        Err(trouble) => return task.trouble(trouble, talk).await,
    };
    if repeated {
        return match task.core.actions.answer(task.run.request) {
            Some(output) => task.answer(&output, talk).await,
            None => task.fail(talk, "a token was made, but its text is lost; ask for another one").await,
        };
    }
    let masters: Vec<String> = task.core.config.members().into_iter().map(|member| member.address).collect();
    let mut output = Output::new();
    output.line(&format!("{name}: token {token}"));
    output.line(&format!("{name}: ca {}", task.core.pki.ca_pin()));
    output.line(&format!("{name}: masters {}", masters.join(",")));
    task.core.actions.answered(task.run.request, &output);
    task.answer(&output, talk).await
}

/// Runs a program of this machine; its lines go to the client. It ends with the client.
///
/// # Errors
/// How the request ends otherwise.
pub async fn helper(task: &Task, helper: &Helper, talk: &mut Talk) -> Result<u8, End> {
    let arch = match helper {
        Helper::Genesis(arch) => arch,
        Helper::Monitor(asked) => {
            let mut output = asked.0.clone();
            crate::monitor::order(&task.core, &asked.1, &mut output).await;
            return task.answer(&output, talk).await;
        }
    };
    let genesis = &task.core.config.genesis;
    let first = format!("Creating genesis.fs.{arch}.gz in {}\n", genesis.out.display());
    talk.text(&plain(Stream::Out, &first)).await?;
    let child = Command::new(&genesis.program)
        .arg("--cache")
        .arg(&genesis.cache)
        .arg("--agent")
        .arg(&genesis.agent)
        .arg("--out")
        .arg(&genesis.out)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            return task.fail(talk, &format!("cannot run {}: {error}", genesis.program.display())).await;
        }
    };
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return task.fail(talk, "the program has no output").await;
    };
    let (mut out, mut err) = (BufReader::new(out).lines(), BufReader::new(err).lines());
    let deadline = tokio::time::Instant::now() + PROGRAM;
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let (stream, line) = tokio::select! {
            line = out.next_line(), if out_open => (Stream::Out, line),
            line = err.next_line(), if err_open => (Stream::Err, line),
            heard = talk.heard() => return Err(heard.into()),
            () = tokio::time::sleep_until(deadline) => {
                return task.fail(talk, "the program took too long and was ended").await;
            }
        };
        match (stream, line) {
            (_, Ok(Some(line))) => talk.text(&plain(stream, &format!("{line}\n"))).await?,
            (Stream::Out, _) => out_open = false,
            (Stream::Err, _) => err_open = false,
        }
    }
    match tokio::time::timeout_at(deadline, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(0),
        Ok(Ok(status)) => {
            task.fail(talk, &format!("{} ended with {status}", genesis.program.display())).await
        }
        _ => task.fail(talk, "the program did not end").await,
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file, whole or not at all, with the permissions it had.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".margay-new");
    let aside = folder.join(name);
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(bytes)?;
    if let Ok(old) = std::fs::metadata(path) {
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()?;
    match std::fs::rename(&aside, path) {
        Ok(()) => std::fs::File::open(folder).and_then(|folder| folder.sync_all()),
        // A mount point (as in containers) cannot be replaced, only written.
        Err(_) => {
            let _ = std::fs::remove_file(&aside);
            std::fs::write(path, bytes)
        }
    }
}
