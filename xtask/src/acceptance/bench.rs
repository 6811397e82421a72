//! What the checks work with: the lab, commands in it, patience with an end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::{Drawn, Inside};
use crate::stage::Note;

/// How often something awaited is looked at.
const BEAT: Duration = Duration::from_millis(100);
/// The place where the admin sits.
pub const CORE: &str = "core";

/// What a daemon has counted.
pub type Counts = BTreeMap<String, u64>;

/// A lab under examination.
pub struct Bench<'a> {
    /// The lab.
    pub lab: Inside,
    /// Where progress is shown.
    pub note: &'a Note,
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit status, 128 + signal when it was killed.
    pub status: i32,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: status(output.status),
        }
    }

    /// Both streams, standard output first.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Lines of standard output in alphabetical order.
    pub fn sorted(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.out.lines().collect();
        lines.sort_unstable();
        lines
    }

    /// Fails with everything said unless `good`.
    pub fn expect(&self, good: bool, what: &str) -> Result<()> {
        ensure!(good, "{what}; status {}\n-- stdout\n{}-- stderr\n{}", self.status, self.out, self.err);
        Ok(())
    }
}

fn status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

impl Bench<'_> {
    /// Runs a command at the admin's seat; its status is for the caller to judge.
    pub fn say(&self, words: &[&str]) -> Result<Said> {
        Ok(Said::of(&self.lab.output(CORE, words)?))
    }

    /// Runs a command at the admin's seat that must succeed.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        let said = self.say(words)?;
        said.expect(said.status == 0, &format!("'{}' failed", words.join(" ")))?;
        Ok(said.out)
    }

    /// A command with this standard input.
    pub fn fed(&self, words: &[&str], input: &str) -> Result<Said> {
        let path = self.lab.path("check-input");
        std::fs::write(&path, input).context("writing a command's input")?;
        let file = std::fs::File::open(&path).context("opening a command's input")?;
        self.begin_with(words, file.into())?.wait(Duration::from_secs(60))
    }

    /// Starts a command at the admin's seat.
    pub fn begin(&self, words: &[&str]) -> Result<Running<'_>> {
        self.begin_with(words, Stdio::null())
    }

    fn begin_with(&self, words: &[&str], stdin: Stdio) -> Result<Running<'_>> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let names = ["pid", "out", "err"].map(|end| format!("check-{number}.{end}"));
        let [pid, out, err] = names.each_ref().map(String::as_str);
        let child = self.lab.begin(CORE, words, stdin, [pid, out, err])?;
        let [pid, out, err] = [pid, out, err].map(|name| self.lab.path(name));
        let mut running = Running { lab: &self.lab, child: Some(child), pid: String::new(), out, err };
        running.pid = until("a command's process id", 20, || {
            Ok(std::fs::read_to_string(&pid).ok().map(|text| text.trim().to_owned()))
        })?;
        Ok(running)
    }

    /// `nodels RANGE COLUMN` as pairs.
    pub fn column(&self, range: &str, column: &str) -> Result<Vec<(String, String)>> {
        let text = self.ok(&["nodels", range, column])?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(node, value)| (node.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// Waits until a column has this value at every node of the range.
    pub fn until_all(&self, range: &str, column: &str, value: &str, seconds: u64) -> Result<()> {
        let mut last = Vec::new();
        let all = until(&format!("{column} of {range} to be '{value}'"), seconds, || {
            last = self.column(range, column)?;
            Ok((!last.is_empty() && last.iter().all(|(_, has)| has == value)).then_some(()))
        });
        all.with_context(|| format!("last seen: {last:?}"))
    }

    /// Waits until every node of the range has a connected agent that takes commands.
    pub fn until_agents(&self, range: &str, seconds: u64) -> Result<()> {
        let mut last = String::new();
        let all = until(&format!("the agents of {range}"), seconds, || {
            let said = self.say(&["xdsh", range, "-t", "5", "true"])?;
            last = said.all();
            Ok((said.status == 0).then_some(()))
        });
        all.with_context(|| format!("last seen:\n{last}"))
    }

    /// Process ids, as the lab counts, whose command line matches.
    pub fn pids(&self, pattern: &str) -> Result<Vec<String>> {
        let output = self.lab.ground(&["pgrep", "-f", pattern])?;
        Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
    }

    /// The process that is a soft node's power; none when it is off.
    pub fn machine_pid(&self, machine: &str) -> Result<Option<String>> {
        let settings = self.lab.path("machines").join(machine).join("machine.json");
        let pattern = format!("^{} {}", self.lab.program("margay-sim-node"), settings.display());
        Ok(self.pids(&pattern)?.into_iter().next())
    }

    /// The agent of a soft node.
    pub fn agent_pid(&self, machine: &str) -> Result<Option<String>> {
        let folder = self.lab.path("machines").join(machine);
        let pattern = format!("^{} --root {}/", self.lab.program("margay-agent"), folder.display());
        Ok(self.pids(&pattern)?.into_iter().next())
    }

    /// The boot id of a soft node's present system; none when no agent runs.
    pub fn boot_id(&self, machine: &str) -> Result<Option<String>> {
        let Some(pid) = self.agent_pid(machine)? else { return Ok(None) };
        let line = self.lab.ground(&["cat", &format!("/proc/{pid}/cmdline")])?.stdout;
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let root = words.iter().skip_while(|word| *word != "--root").nth(1);
        let Some(root) = root else { return Ok(None) };
        let path = PathBuf::from(root).join("proc/sys/kernel/random/boot_id");
        Ok(std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()))
    }

    /// Lines in the journal of a soft node that contain `mark`.
    pub fn journal(&self, machine: &str, mark: &str) -> usize {
        self.lab.log(&format!("{machine}.node")).lines().filter(|line| line.contains(mark)).count()
    }

    /// The counters of a service node.
    pub fn counters(&self, name: &str) -> Result<Counts> {
        let path = self.lab.path("racks").join(name).join("counters");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(counts(&text, " "))
    }

    /// The counters of the master that answers.
    pub fn master_counters(&self) -> Result<Counts> {
        Ok(counts(&self.ok(&["margay", "status"])?, ": "))
    }

    /// The machines whose nodes are defined.
    pub fn defined(&self) -> Vec<Drawn> {
        self.lab.drawn().into_iter().filter(|machine| machine.defined).collect()
    }

    /// Kills a daemon and waits until it is gone.
    pub fn kill(&self, daemon: &str) -> Result<()> {
        let pid = self.lab.pid(daemon)?;
        self.lab.signal("KILL", &pid)?;
        self.until_gone(&pid)
    }

    /// Waits until a process of the lab is gone.
    pub fn until_gone(&self, pid: &str) -> Result<()> {
        until(&format!("process {pid} to end"), 20, || {
            let stat = self.lab.ground(&["cat", &format!("/proc/{pid}/stat")])?;
            let text = String::from_utf8_lossy(&stat.stdout).into_owned();
            Ok((!stat.status.success() || text.contains(") Z")).then_some(()))
        })
    }

    /// The name that the cluster has in error texts.
    pub fn server(&self) -> Result<String> {
        let said = self.say(&["xdsh", "r1n03", "-t", "5", "echo x >&2"])?;
        let name = said.err.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name);
        name.map(str::to_owned).with_context(|| format!("no server in: {}", said.err))
    }
}

/// Lines of a name and a number; others are passed over.
fn counts(text: &str, between: &str) -> Counts {
    let pairs = text.lines().filter_map(|line| line.split_once(between));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Waits until something is there; looks again and again, with an end.
pub fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > Duration::from_secs(seconds) {
            bail!("waited {seconds} s in vain for {what}");
        }
        std::thread::sleep(BEAT);
    }
}

/// A command that runs; dropped, it is killed.
pub struct Running<'a> {
    lab: &'a Inside,
    child: Option<Child>,
    pid: String,
    out: PathBuf,
    err: PathBuf,
}

impl Running<'_> {
    /// Sends it a signal.
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.lab.signal(signal, &self.pid)
    }

    /// What it has written so far.
    pub fn so_far(&self) -> Said {
        let read = |path: &PathBuf| std::fs::read(path).unwrap_or_default();
        Said {
            out: String::from_utf8_lossy(&read(&self.out)).into_owned(),
            err: String::from_utf8_lossy(&read(&self.err)).into_owned(),
            status: 0,
        }
    }

    /// Waits for its end.
    pub fn wait(mut self, limit: Duration) -> Result<Said> {
        let begun = Instant::now();
        let Some(child) = &mut self.child else { bail!("it has ended") };
        let ended = loop {
            if let Some(ended) = child.try_wait().context("waiting for a command")? {
                break ended;
            }
            if begun.elapsed() > limit {
                let said = self.so_far();
                bail!("it still runs after {:.0?}; so far:\n{}", limit, said.all());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        self.child = None;
        Ok(Said { status: status(ended), ..self.so_far() })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = self.lab.signal("KILL", &self.pid);
            let _ = child.wait();
        }
    }
}
