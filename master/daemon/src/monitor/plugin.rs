//! Plug-ins on this machine: which are there, and how one is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use commands::monitor::{BUILT_IN, named_well};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::perform::{Answer, Job, KEPT};
use crate::config::Monitor;
use crate::effects::hex;

/// What calls a function of a Perl module.
const MODULE: &str = include_str!("module.pl");
/// Exit status: there is no such function.
const NO_FUNCTION: i32 = 3;
/// Longer than the process between takes for anything but the call itself.
const SLACK: Duration = Duration::from_secs(15);
/// Most bytes of settings: they go into the environment.
const SETTINGS: usize = 60_000;
/// Names of xCAT's own modules that are no plug-ins.
const NOT_PLUGINS: [&str; 3] = ["monitorctrl", "montbhandler", "rrdutil"];

/// A plug-in that is asked through a process.
#[derive(Debug, Clone)]
pub struct Plugin {
    name: String,
    file: PathBuf,
    perl: bool,
}

/// What a plug-in is told beside the names of nodes.
#[derive(Debug, Clone, Default)]
pub struct Told<'a> {
    /// Nodes; none is all.
    pub nodes: &'a [String],
    /// At the nodes, too.
    pub remote: bool,
    /// Its rows of monsetting.
    pub settings: BTreeMap<String, String>,
    /// Less time than usual.
    pub deadline: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// What it printed; none when it has no such function.
    pub printed: Option<String>,
    /// What was wrong.
    pub fault: Option<String>,
}

/// Where Perl modules of xCAT are.
fn perl_library() -> PathBuf {
    std::env::var_os("XCATROOT").map_or_else(|| PathBuf::from("/opt/xcat"), PathBuf::from).join("lib/perl")
}

/// Names of all plug-ins that are there, in byte order.
#[must_use]
pub fn names(config: &Monitor) -> Vec<String> {
    let mut names = BTreeSet::from([BUILT_IN.to_owned()]);
    for (folder, programs) in
        [(config.plugins.clone(), true), (perl_library().join("xCAT_monitoring"), false)]
    {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let name = match file.strip_suffix(".pm") {
                Some(name) => name,
                None if programs && is_program(&entry.path()) => file,
                None => continue,
            };
            if named_well(name) && !NOT_PLUGINS.contains(&name) {
                names.insert(name.to_owned());
            }
        }
    }
    names.into_iter().collect()
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

impl Plugin {
    /// The plug-in of this name: a program, else a Perl module.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn find(config: &Monitor, name: &str) -> Result<Self, String> {
        if !named_well(name) {
            return Err(format!("'{name}' cannot be the name of a plug-in"));
        }
        let program = config.plugins.join(name);
        if is_program(&program) {
            return Ok(Self { name: name.to_owned(), file: program, perl: false });
        }
        let module = format!("{name}.pm");
        let places = [config.plugins.join(&module), perl_library().join("xCAT_monitoring").join(&module)];
        match places.iter().find(|file| file.is_file()) {
            Some(file) => Ok(Self { name: name.to_owned(), file: file.clone(), perl: true }),
            None => Err(format!(
                "there is no program {} and no Perl module {} or {}",
                program.display(),
                places[0].display(),
                places[1].display()
            )),
        }
    }

    /// Asks it to do something.
    pub async fn ask(&self, config: &Monitor, function: &str, told: Told<'_>) -> Said {
        let deadline = told.deadline.unwrap_or(Duration::from_secs(config.deadline));
        let answer = match tokio::time::timeout(
            deadline + SLACK,
            self.perform(config, function, told, deadline),
        )
        .await
        {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Said { printed: None, fault: Some(format!("{function}: {error}")) };
            }
            Err(_) => return Said { printed: None, fault: Some(format!("{function}: no end was reported")) },
        };
        if answer.code == Some(NO_FUNCTION) {
            return Said::default();
        }
        let fault = answer.fault.map(|fault| match self.perl && fault.contains("cannot be started") {
            true => format!("{function}: {fault}; Perl modules need perl"),
            false => format!("{function}: {fault}"),
        });
        Said { printed: Some(answer.printed), fault }
    }

    async fn perform(
        &self,
        config: &Monitor,
        function: &str,
        told: Told<'_>,
        deadline: Duration,
    ) -> Result<Answer, String> {
        let mut body = Vec::new();
        for node in told.nodes {
            body.extend_from_slice(node.as_bytes());
            body.push(b'\n');
        }
        let file = self.file.display().to_string();
        let (program, arguments) = match self.perl {
            false => (self.file.clone(), vec![function.to_owned()]),
            true => {
                let library = perl_library().display().to_string();
                let words = ["-e", MODULE, &file, function, &library];
                ("perl".into(), words.map(str::to_owned).to_vec())
            }
        };
        let json = serde_json::to_string(&told.settings).map_err(|error| error.to_string())?;
        if json.len() > SETTINGS {
            return Err(format!("its settings have {} bytes, more than {SETTINGS}", json.len()));
        }
        let pairs = told
            .settings
            .iter()
            .map(|(key, value)| format!("{}={}", hex(key.as_bytes()), hex(value.as_bytes())));
        let environment = [
            ("MARGAY_PLUGIN", self.name.clone()),
            ("MARGAY_SCOPE", if told.remote { "2" } else { "0" }.to_owned()),
            ("MARGAY_SETTINGS", json),
            ("MARGAY_SETTINGS_HEX", pairs.collect::<Vec<_>>().join(" ")),
        ];
        let job = Job {
            program,
            arguments,
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            deadline: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            bytes: body.len(),
        };
        let mut line = serde_json::to_vec(&job).map_err(|error| error.to_string())?;
        line.push(b'\n');
        line.extend_from_slice(&body);
        let runner = match config.runner.as_os_str().is_empty() {
            true => std::env::current_exe().map_err(|error| error.to_string())?,
            false => config.runner.clone(),
        };
        // It ends by itself after the deadline, also when nobody waits for it here.
        let mut child = Command::new(&runner)
            .arg("perform")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", runner.display()))?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the process between has no pipes".to_owned());
        };
        stdin.write_all(&line).await.map_err(|error| error.to_string())?;
        drop(stdin);
        let mut answer = Vec::new();
        let most = u64::try_from(KEPT * 8).unwrap_or(u64::MAX);
        stdout.take(most).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        let _ = child.wait().await;
        serde_json::from_slice(&answer).map_err(|_| "the process between ended without an answer".to_owned())
    }
}
