//! Programs run to their end, with their output kept for the case that they fail.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a failed program's output that are shown.
const SHOWN_LINES: usize = 60;

/// Runs a program with its output in `log`; the end of the log becomes part of the fault.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let name = describe(command);
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("writing {}", log.display()))?;
    let err = out.try_clone().context("sharing the log")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .with_context(|| format!("starting {name}"))?;
    if !status.success() {
        bail!("{name}: {status}\n{}\n(all of it: {})", tail(log, SHOWN_LINES), log.display());
    }
    Ok(())
}

/// Runs a program and returns what it printed; a failure carries its standard error.
pub fn text(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {name}"))?;
    check(&name, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program runs and ends with status 0; its output is dropped.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    const WINDOW: u64 = 32 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn describe(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(arguments);
    words.join(" ")
}

fn check(name: &str, output: &Output) -> Result<()> {
    if !output.status.success() {
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
