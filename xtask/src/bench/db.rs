//! `cargo xtask bench db`: the speed and size of the database with 11,000 and 100,000 nodes, beside what is promised
//! and what xCAT 2.19 needs on two quiet cores.
//!
//! Wall times mean something on idle cores only; processor time (client and master together) always.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{Cluster, Options};
use crate::process;
use crate::workspace::Workspace;

/// Runs of a command that takes milliseconds, and of one that takes longer.
const MANY: usize = 31;
const FEW: usize = 5;
/// Clients that ask at once.
const CLIENTS: usize = 100;
/// Revisions of the past that are made, and how many of them are looked at.
const REVISIONS: usize = 1_000;
const INSTANTS: usize = 100;

/// What a limit is about.
#[derive(Clone, Copy)]
enum Limit {
    Wall(u64),
    Cpu(u64),
    Memory(u64),
    None,
}

/// What a run took.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: Duration,
    client: Duration,
    master: Duration,
}

/// Measures with each number of nodes.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    println!(
        "{:<34} {:>8} {:>10} {:>10} {:>12} {:>10} {:>22}",
        "work", "nodes", "wall", "cpu", "limit", "", "xCAT 2.19"
    );
    for nodes in &options.nodes {
        let cluster = Cluster::of(workspace, &Options { dir: None, ..options.clone() })?;
        let bench = Bench::new(&cluster, *nodes)?;
        bench.load()?;
        bench.reads()?;
        bench.crowd()?;
        bench.writes()?;
        bench.past()?;
        bench.memory("memory after all of this", Limit::None)?;
    }
    Ok(())
}

struct Bench<'a> {
    cluster: &'a Cluster,
    nodes: u64,
    master: u32,
    folder: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(cluster: &'a Cluster, nodes: u64) -> Result<Self> {
        let members = std::fs::read_to_string(cluster.dir.join("members")).context("reading the members")?;
        let master = members.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let folder = cluster.dir.join("tables");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { cluster, nodes, master: master.context("no member")?, folder })
    }

    /// Twenty attributes of each node, table by table.
    fn load(&self) -> Result<()> {
        let begun = Instant::now();
        let cpu = Threads::of(self.master);
        for (table, columns, row) in TABLES {
            let mut text = format!("#{columns}\n");
            for node in 1..=self.nodes {
                text.push_str(&row(node));
                text.push('\n');
            }
            let path = self.folder.join(format!("{table}.csv"));
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            self.say(&["tabrestore", &path.display().to_string()])?;
        }
        self.say(&["chtab", "node=ten", r"mp.id=|n(\d+)|($1%14+1)|"])?;
        self.say(&["chtab", "key=domain", "site.value=cluster.test"])?;
        let took = Took { wall: begun.elapsed(), client: Duration::ZERO, master: cpu.ran(self.master) };
        self.line("tabrestore of 10 tables", took, Limit::None, "");
        let count = self.say(&["nodels"])?.lines().count() as u64;
        if count != self.nodes {
            bail!("{count} nodes instead of {}", self.nodes);
        }
        let limit = if self.nodes == 100_000 { Limit::Memory(1024) } else { Limit::None };
        self.memory("memory with 20 attributes a node", limit)
    }

    fn reads(&self) -> Result<()> {
        let all = self.nodes == 100_000;
        self.measure(
            "nodels of 1 node",
            MANY,
            Limit::Wall(10),
            "0.21 s, 0.34 CPU s",
            &["nodels", "n000500"],
        )?;
        self.measure("nodels of 10,000", FEW, Limit::Cpu(20), "0.57 s, 0.73 CPU s", &["nodels", "ten"])?;
        let wall = if all { Limit::Wall(200) } else { Limit::None };
        self.measure("nodels all", FEW, wall, "", &["nodels", "all"])?;
        let words = ["nodels", "ten", "mp.id"];
        self.measure("nodels of 10,000, pattern", FEW, Limit::Cpu(50), "2.25 s, 2.46 CPU s", &words)?;
        let words = ["lsdef", "ten", "-i", "arch,ip", "-c"];
        self.measure("lsdef of 10,000, two attributes", FEW, Limit::Cpu(150), "12.1 s", &words)?;
        let words = ["lsdef", "n[000001-001000]"];
        self.measure("lsdef of 1,000", FEW, Limit::Cpu(100), "2.5 s", &words)?;
        let dump = if all { Limit::Cpu(300) } else { Limit::None };
        self.measure("tabdump nodelist", FEW, dump, "0.32 s (10,095 rows)", &["tabdump", "nodelist"])
    }

    /// Many clients at once.
    fn crowd(&self) -> Result<()> {
        let mut took = Vec::new();
        for _ in 0..FEW {
            let (begun, cpu) = (Instant::now(), Threads::of(self.master));
            let mut clients = Vec::new();
            for number in 1..=CLIENTS {
                clients.push(self.start(&["nodels", &format!("n{number:06}")])?);
            }
            let mut client = Duration::ZERO;
            for child in clients {
                client += ended(child)?;
            }
            let master = cpu.ran(self.master);
            took.push(Took { wall: begun.elapsed(), client, master });
        }
        self.line("100 clients at once", median(took), Limit::Wall(500), "21.6 s, 34.8 CPU s");
        let limit = if self.nodes < 100_000 { Limit::Memory(300) } else { Limit::None };
        self.memory("memory after 100 clients", limit)
    }

    fn writes(&self) -> Result<()> {
        let mut took = Vec::new();
        for run in 0..FEW {
            took.push(self.took(&["nodeadd", &format!("x{run}n[00001-10000]"), "groups=all,added"])?);
            self.say(&["noderm", "added"])?;
        }
        self.line("nodeadd of 10,000", median(took), Limit::Wall(300), "3.8 s");
        let mut took = Vec::new();
        for run in 0..FEW {
            let words =
                ["nodech", "ten", &format!("nodepos.room=r{run}"), &format!("nodelist.comments=c{run}")];
            took.push(self.took(&words)?);
        }
        self.line("nodech of 10,000, two attributes", median(took), Limit::Wall(200), "7.3 s");
        let mut took = Vec::new();
        for _ in 0..FEW {
            // An old file of the machine and no node in it yet.
            std::fs::write(self.cluster.dir.join("hosts"), "127.0.0.1 localhost\n")?;
            took.push(self.took(&["makehosts", "ten"])?);
        }
        self.line("makehosts of 10,000", median(took), Limit::Cpu(150), "15.8 s");
        let took = self.took(&["makehosts", "ten"])?;
        self.line("makehosts again", took, Limit::Cpu(150), "");
        let mut took = Vec::new();
        for _ in 0..FEW {
            took.push(self.took(&["noderm", "n[010001-011000]"])?);
            let log = self.say(&["margay", "log", "-n", "1"])?;
            let revision = log.split_whitespace().next().context("nothing in the log")?.to_owned();
            self.say(&["margay", "undo", &revision])?;
        }
        self.line("noderm of 1,000", median(took), Limit::Cpu(100), "15.6 s");
        Ok(())
    }

    /// Any instant among many revisions of a table.
    fn past(&self) -> Result<()> {
        let newest = |bench: &Self| -> Result<usize> {
            let log = bench.say(&["margay", "log", "-n", "1"])?;
            log.split_whitespace().next().and_then(|word| word.parse().ok()).context("nothing in the log")
        };
        let first = newest(self)?;
        for number in 0..REVISIONS {
            let node = format!("n{:06}", number * 7 % 10_000 + 1);
            self.say(&["nodech", &node, &format!("nodelist.comments=past{number}")])?;
        }
        let last = newest(self)?;
        let mut took = Vec::new();
        for at in 0..INSTANTS {
            let revision = (first + (last - first) * at / INSTANTS).to_string();
            took.push(self.took(&["nodels", "n000001", "nodelist.comments", "--at", &revision])?);
        }
        took.sort_by_key(|took| took.wall);
        let worst = took.last().copied().unwrap_or_default();
        self.line("an instant of 1,000, half", took[took.len() / 2], Limit::None, "");
        let limit = if self.nodes < 100_000 { Limit::Wall(200) } else { Limit::None };
        self.line("an instant of 1,000, slowest", worst, limit, "");
        Ok(())
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let [name, arguments @ ..] = words else { bail!("no command") };
        let mut command = Command::new(self.cluster.dir.join("bin").join(name));
        command.args(arguments).env("MARGAY_CONFIG", self.cluster.dir.join("admin/client.toml"));
        Ok(command)
    }

    fn say(&self, words: &[&str]) -> Result<String> {
        process::text(&mut self.command(words)?)
    }

    fn start(&self, words: &[&str]) -> Result<Child> {
        let mut command = self.command(words)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("starting {}", words.join(" ")))
    }

    fn took(&self, words: &[&str]) -> Result<Took> {
        let (begun, cpu) = (Instant::now(), Threads::of(self.master));
        let client = ended(self.start(words)?).with_context(|| words.join(" "))?;
        let wall = begun.elapsed();
        Ok(Took { wall, client, master: cpu.ran(self.master) })
    }

    fn measure(&self, what: &str, runs: usize, limit: Limit, xcat: &str, words: &[&str]) -> Result<()> {
        let took = (0..runs).map(|_| self.took(words)).collect::<Result<Vec<_>>>()?;
        self.line(what, median(took), limit, xcat);
        Ok(())
    }

    fn line(&self, what: &str, took: Took, limit: Limit, xcat: &str) {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let cpu = took.client + took.master;
        let (limit, holds) = match limit {
            Limit::Wall(most) => (format!("{most} ms wall"), took.wall <= Duration::from_millis(most)),
            Limit::Cpu(most) => (format!("{most} ms cpu"), cpu <= Duration::from_millis(most)),
            Limit::Memory(_) | Limit::None => (String::new(), true),
        };
        let verdict = if holds { "" } else { "over" };
        println!(
            "{what:<34} {:>8} {:>10} {:>10} {limit:>12} {verdict:>10} {xcat:>22}",
            self.nodes,
            ms(took.wall),
            ms(cpu)
        );
    }

    fn memory(&self, what: &str, limit: Limit) -> Result<()> {
        let (now, most) = (status(self.master, "VmRSS:")?, status(self.master, "VmHWM:")?);
        let (limit, holds) = match limit {
            Limit::Memory(mib) => (format!("{mib} MiB"), now <= mib),
            _ => (String::new(), true),
        };
        let verdict = if holds { "" } else { "over" };
        let now = format!("{now} MiB");
        println!(
            "{what:<34} {:>8} {now:>10} {:>10} {limit:>12} {verdict:>10} {:>22}",
            self.nodes,
            "",
            format!("(at most {most} MiB)")
        );
        Ok(())
    }
}

/// A table, its columns, and the row of a node.
type Table = (&'static str, &'static str, fn(u64) -> String);

const TABLES: [Table; 10] = [
    ("nodelist", "node,groups,status,statustime", |n| {
        let ten = if n <= 10_000 { "ten," } else { "" };
        format!("\"n{n:06}\",\"all,{ten}rack{}\",\"booted\",\"11-20-2026 12:00:00\"", n / 40)
    }),
    ("hosts", "node,ip,hostnames", |n| {
        format!("\"n{n:06}\",\"10.{}.{}.{}\",\"node{n}\"", n / 62_500, n / 250 % 250, n % 250 + 1)
    }),
    ("mac", "node,mac", |n| {
        format!("\"n{n:06}\",\"52:54:00:{:02x}:{:02x}:{:02x}\"", n >> 16, n >> 8 & 255, n & 255)
    }),
    ("vpd", "node,serial,mtm,uuid", |n| {
        format!("\"n{n:06}\",\"S{n:08}\",\"7X06CTO1WW\",\"4c4c4544-0036-3010-8052-{n:012x}\"")
    }),
    ("noderes", "node,servicenode,netboot", |n| format!("\"n{n:06}\",\"sn{:03}\",\"xnba\"", n / 1000)),
    ("nodetype", "node,os,arch,profile,provmethod", |n| {
        format!("\"n{n:06}\",\"debian12\",\"x86_64\",\"compute\",\"image{}\"", n % 7)
    }),
    ("nodehm", "node,mgt", |n| format!("\"n{n:06}\",\"ipmi\"")),
    ("ipmi", "node,bmc,username", |n| format!("\"n{n:06}\",\"n{n:06}-bmc\",\"admin\"")),
    ("nodepos", "node,rack,u", |n| format!("\"n{n:06}\",\"rack{}\",\"{}\"", n / 40, n % 40 + 1)),
    ("switch", "node,switch,port", |n| format!("\"n{n:06}\",\"sw{}\",\"{}\"", n / 40, n % 40 + 1)),
];

/// The run whose time is in the middle.
fn median(mut took: Vec<Took>) -> Took {
    let middle = took.len() / 2;
    let wall = {
        took.sort_by_key(|took| took.wall);
        took[middle].wall
    };
    took.sort_by_key(|took| took.client + took.master);
    Took { wall, ..took[middle] }
}

/// Waits for a program; what its first thread ran is read before it is collected.
fn ended(mut child: Child) -> Result<Duration> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the program's id")?;
    rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .context("waiting for the program")?;
    let ran = ran(&Path::new("/proc").join(child.id().to_string()).join("schedstat"));
    let status = child.wait().context("collecting the program")?;
    if !status.success() {
        bail!("the program ended with {status}");
    }
    Ok(ran)
}

/// Processor time of a process's threads; those that end meanwhile are left out.
struct Threads(BTreeMap<PathBuf, Duration>);

impl Threads {
    fn of(process: u32) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{process}/task"));
        let threads = threads.into_iter().flatten().flatten();
        Self(threads.map(|thread| (thread.path(), ran(&thread.path().join("schedstat")))).collect())
    }

    /// What they ran since then.
    fn ran(&self, process: u32) -> Duration {
        let now = Self::of(process).0.into_iter();
        now.map(|(thread, ran)| ran.saturating_sub(self.0.get(&thread).copied().unwrap_or_default())).sum()
    }
}

fn ran(path: &Path) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// A line of the process's status, in MiB.
fn status(process: u32, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).context("the master's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: u64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).context("no number")?;
    Ok(kib / 1024)
}
