//! `cargo xtask dev DIR`: one or three masters on loopback, kept in the foreground.
//!
//! Fault tests rest on three files: `DIR/env` (settings for a shell), `DIR/members` (who runs where, kept
//! current) and `DIR/start NAME` (starts a stopped member again). A member that dies stays dead until then.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::Workspace;
use crate::{links, process};

/// How often members and requests are looked at.
const BEAT: Duration = Duration::from_millis(50);
/// How long a member may take until it accepts connections.
const READY: Duration = Duration::from_secs(60);

/// Options of the dev command.
#[derive(Args)]
pub struct Options {
    /// Folder of the throwaway cluster; what is there already is used again.
    dir: PathBuf,
    /// How many masters: 1 or 3.
    #[arg(long, default_value_t = 1, value_parser = crate::lab::masters)]
    masters: u8,
    /// Run what was built before.
    #[arg(long)]
    no_build: bool,
}

/// Runs until interrupted; the members end with this process, whatever its end.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let profile = workspace.profile.clone();
    if !options.no_build {
        workspace.cargo_build(&["master", "cli"], &profile)?;
    }
    let dir = std::path::absolute(&options.dir).context("the folder's path")?;
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let daemon = workspace.program("margayd", &profile);
    let client = workspace.program("margay", &profile);
    if !dir.join("m1/margayd.toml").exists() {
        let mut init = Command::new(&daemon);
        init.args(["init", "--listen", "127.0.0.1:0", "--cluster", "dev", "--no-networks", "--masters"])
            .arg(options.masters.to_string())
            .arg("--dir")
            .arg(&dir)
            .arg("--hosts")
            .arg(dir.join("hosts"));
        process::text(&mut init).context("making the cluster")?;
    }
    links::make(&client, &dir.join("bin"))?;
    write_env(&dir)?;
    write_start(&dir)?;
    let mut members = Vec::new();
    for number in 1..=options.masters {
        let name = format!("m{number}");
        if !dir.join(&name).join("margayd.toml").exists() {
            bail!("{} has no member {name}: it was made with fewer masters", dir.display());
        }
        members.push(Member::start(&dir, &daemon, &name)?);
    }
    write_members(&dir, &members)?;
    for member in &mut members {
        member.wait_ready()?;
    }
    println!(
        "Ready. In another shell:\n    . {}/env\n    lsxcatd -a; margay status; nodels all",
        dir.display()
    );
    println!(
        "Members are listed in {0}/members; {0}/start NAME starts one again. Ctrl-C ends all.",
        dir.display()
    );
    watch(&dir, &daemon, &mut members)
}

/// One master.
struct Member {
    name: String,
    address: String,
    folder: PathBuf,
    child: Option<Child>,
    /// Length of the log when the process was started: only what follows tells about it.
    log_start: u64,
}

impl Member {
    fn start(dir: &Path, daemon: &Path, name: &str) -> Result<Self> {
        let folder = dir.join(name);
        let config = folder.join("margayd.toml");
        let text =
            std::fs::read_to_string(&config).with_context(|| format!("reading {}", config.display()))?;
        let table: toml::Table = text.parse().with_context(|| format!("reading {}", config.display()))?;
        let address =
            table.get("listen").and_then(toml::Value::as_str).context("the configuration has no listen")?;
        let mut member =
            Self { name: name.to_owned(), address: address.to_owned(), folder, child: None, log_start: 0 };
        member.spawn(daemon)?;
        Ok(member)
    }

    fn spawn(&mut self, daemon: &Path) -> Result<()> {
        let path = self.folder.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("writing {}", path.display()))?;
        self.log_start = log.metadata().context("the log's size")?.len();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(daemon)
            .arg("--config")
            .arg(self.folder.join("margayd.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
            let start = usize::try_from(self.log_start).unwrap_or(usize::MAX).min(log.len());
            if String::from_utf8_lossy(&log[start..]).contains(" ready on ") {
                return Ok(());
            }
            if !self.running() {
                bail!("{} ended:\n{}", self.name, process::tail(&self.folder.join("log"), 20));
            }
            std::thread::sleep(BEAT);
        }
        bail!("{} did not become ready:\n{}", self.name, process::tail(&self.folder.join("log"), 20))
    }

    /// Whether it runs; an ended process is collected.
    fn running(&mut self) -> bool {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => true,
            Some(_) => {
                self.child = None;
                false
            }
            None => false,
        }
    }
}

/// Keeps `members` current and starts what is asked for, until this process is ended.
fn watch(dir: &Path, daemon: &Path, members: &mut [Member]) -> Result<()> {
    loop {
        let (mut changed, mut answered) = (false, Vec::new());
        for member in members.iter_mut() {
            let ran = member.child.is_some();
            let runs = member.running();
            if ran && !runs {
                println!("{} ended", member.name);
                changed = true;
            }
            let request = member.folder.join("start-wanted");
            if !runs && request.exists() {
                member.spawn(daemon)?;
                println!("{} started", member.name);
                answered.push(request);
                changed = true;
            }
        }
        if changed {
            write_members(dir, members)?;
        }
        // Last, because `start` returns as soon as the request is gone: the list must be right by then.
        for request in answered {
            std::fs::remove_file(&request).with_context(|| format!("removing {}", request.display()))?;
        }
        std::thread::sleep(BEAT);
    }
}

fn write_env(dir: &Path) -> Result<()> {
    let text = format!(
        "PATH='{0}/bin':$PATH\nexport PATH\nMARGAY_CONFIG='{0}/admin/client.toml'\nexport MARGAY_CONFIG\n",
        dir.display()
    );
    replace(&dir.join("env"), &text, 0o644)
}

fn write_start(dir: &Path) -> Result<()> {
    let text = format!(
        "#!/bin/sh\n# Starts a stopped member again: start NAME. Ends when the process is there.\n\
         dir='{}'\n\
         if [ $# -ne 1 ] || [ ! -f \"$dir/$1/margayd.toml\" ]; then echo \"usage: start m1|m2|m3\" >&2; exit 2; fi\n\
         : > \"$dir/$1/start-wanted\"\n\
         for beat in $(seq 30); do\n\
         \x20   [ -e \"$dir/$1/start-wanted\" ] || exit 0\n\
         \x20   sleep 0.1\n\
         done\n\
         rm -f \"$dir/$1/start-wanted\"\n\
         echo \"$1 was not started: it still runs, or cargo xtask dev does not\" >&2\n\
         exit 1\n",
        dir.display()
    );
    replace(&dir.join("start"), &text, 0o755)
}

fn write_members(dir: &Path, members: &[Member]) -> Result<()> {
    let mut text = String::new();
    for member in members {
        let process = member.child.as_ref().map_or_else(|| "-".to_owned(), |child| child.id().to_string());
        let data = member.folder.join("data");
        text.push_str(&format!("{} {process} {} {}\n", member.name, member.address, data.display()));
    }
    replace(&dir.join("members"), &text, 0o644)
}

/// Readers see the old file or the new one.
fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let partial = path.with_extension("new");
    let mut file = File::create(&partial).with_context(|| format!("writing {}", partial.display()))?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&partial, path).with_context(|| format!("naming {}", path.display()))
}
