//! Commands are whole or did nothing, whoever else is at work and whenever the power fails.
//!
//! `MARGAY_ROUNDS` sets the number of rounds (`cargo xtask atomicity` does), `MARGAY_SEED` repeats a run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use link::LinkError;
use service::Drain;
use wire::client::{Answer, Input, Request};

use crate::cluster::{Client, LONG, call, make};
use crate::process::{Process, client};

const WRITERS: usize = 50;
const READERS: usize = 8;
/// Nodes that stay.
const FIXED: usize = 300;
/// Nodes that each command under a kill changes.
const NODES: usize = 50;
/// The longest time from the beginning of a round to its kill, in microseconds.
const ROUND: u64 = 150_000;

fn rounds(usual: usize) -> usize {
    std::env::var("MARGAY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodels_is_complete_under_fifty_writers() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1);
    let client = Arc::new(client(dir.path(), 1));
    let process = Process::start(dir.path(), 1);
    let rounds = rounds(100);
    client.ok(&format!("nodeadd f1-f{FIXED} groups=all,fixed")).await;
    let drain = Drain::new();
    let ended = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(AtomicUsize::new(0));
    // Each writer makes, changes and removes a pair of nodes, always both at once.
    let writer = |number: usize| {
        let (client, ended, writes) = (client.clone(), ended.clone(), writes.clone());
        async move {
            let pair = format!("w{number}a,w{number}b");
            while !ended.load(Ordering::Relaxed) {
                for line in [
                    format!("nodeadd {pair} groups=all"),
                    format!("chdef -t node -o {pair} groups=all,pairs mgt=ipmi"),
                    format!("noderm {pair}"),
                ] {
                    client.ok(&line).await;
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|number| drain.spawn("writer", writer(number))).collect();
    let left = Arc::new(AtomicUsize::new(rounds));
    let reader = || {
        let (client, left) = (client.clone(), left.clone());
        async move {
            let mut good = 0;
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let line = ["nodels", "nodels all"][good % 2];
                let out = client.ok(line).await;
                let names: BTreeSet<&str> = out.lines().collect();
                assert_eq!(names.len(), out.lines().count(), "no name comes twice");
                let fixed =
                    (1..=FIXED).filter(|number| names.contains(format!("f{number}").as_str())).count();
                assert_eq!(fixed, FIXED, "{line} was incomplete");
                for number in 0..WRITERS {
                    let there = |half: &str| names.contains(format!("w{number}{half}").as_str());
                    assert_eq!(there("a"), there("b"), "{line} saw one half of a change");
                }
                good += 1;
            }
            good
        }
    };
    let begun = Instant::now();
    let readers: Vec<_> = (0..READERS).map(|_| drain.spawn("reader", reader())).collect();
    let mut good = 0;
    for task in readers {
        good += task.await.unwrap();
    }
    ended.store(true, Ordering::Relaxed);
    for task in writers {
        task.await.unwrap();
    }
    let writes = writes.load(Ordering::Relaxed);
    println!("{good} of {rounds} runs of nodels complete, {writes} writes meanwhile, {:?}", begun.elapsed());
    assert_eq!(good, rounds);
    assert!(writes >= WRITERS, "the writers were at work");
    drop(process);
}

/// Runs a command as far as it comes; an editor changes the text. None: the master was gone before the end.
async fn once(client: &Client, line: &str, edit: impl Fn(&str) -> String) -> Option<u8> {
    let talk = async {
        let mut exchange = client.open(0, &Request::Run(call(line).run)).await?;
        let mut text = Vec::new();
        while let Some(answer) = exchange.recv::<Answer>().await? {
            match answer {
                Answer::Edit { name, bytes, last, complaint, .. } => {
                    text.extend_from_slice(&bytes);
                    if last && complaint.is_empty() {
                        let bytes = edit(&String::from_utf8_lossy(&text)).into_bytes();
                        exchange.send(&Input::File { path: name, bytes, last: true }).await?;
                    } else if last {
                        // Somebody else was faster: this user gives up.
                        let reason = "ended with status 1".to_owned();
                        exchange.send(&Input::FileError { path: name, reason }).await?;
                    }
                }
                Answer::Done { status, .. } => return Ok::<_, LinkError>(Some(status)),
                _ => {}
            }
        }
        Ok(None)
    };
    talk.await.unwrap_or(None)
}

/// The table with this text in a column of every row.
fn column(text: &str, column: &str, value: &str) -> String {
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    let at = header.trim_start_matches('#').split(',').position(|name| name == column).unwrap();
    let mut out = format!("{header}\n");
    for line in lines {
        let mut cells: Vec<&str> = line.split(',').collect();
        cells[at] = value;
        out.push_str(&format!("{}\n", cells.join(",")));
    }
    out
}

/// Numbers that look drawn.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What stands in a column of all nodes; each row must have the same.
async fn everywhere(client: &Client, column: &str, round: usize) -> String {
    let out = client.ok(&format!("nodels all {column}")).await;
    let values: Vec<&str> = out.lines().map(|line| line.split_once(':').unwrap().1.trim()).collect();
    assert_eq!(values.len(), NODES, "round {round}: {out}");
    assert!(
        values.windows(2).all(|pair| pair[0] == pair[1]),
        "round {round}: half a change of {column}: {out}"
    );
    values[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn editors_chdef_and_undo_are_whole_or_nothing_when_the_power_fails() {
    let seed = std::env::var("MARGAY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(service::random::number);
    println!("MARGAY_SEED={seed}");
    let mut dice = Dice(seed);
    let rounds = rounds(20);
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1);
    let client = Arc::new(client(dir.path(), 1));
    let mut process = Process::start(dir.path(), 1);
    client.ok(&format!("nodeadd n1-n{NODES} groups=all nodehm.power=p nodehm.cons=p")).await;
    client.ok(&format!("chdef -t node -o n1-n{NODES} mgt=m usercomment=m")).await;
    let (mut acknowledged, mut unheard, mut kept, mut seen) = (0, 0, 0, 0);
    let drain = Drain::new();
    let begun = Instant::now();
    for round in 0..rounds {
        let newest = client.ok("margay log -n 1").await;
        let newest: u64 = newest.split_whitespace().next().unwrap().parse().unwrap();
        let lines = [
            ("tabedit nodehm".to_owned(), Some(format!("\"a{round}\""))),
            ("tabedit nodehm".to_owned(), Some(format!("\"b{round}\""))),
            (format!("chdef -t node -o n1-n{NODES} mgt=x{round} usercomment=x{round}"), None),
            (format!("chdef -t node -o n1-n{NODES} mgt=y{round} usercomment=y{round}"), None),
            (format!("margay undo {newest}"), None),
        ];
        let commands: Vec<_> = lines
            .into_iter()
            .map(|(line, tag)| {
                let client = client.clone();
                drain.spawn("command", async move {
                    let tag = tag.unwrap_or_default();
                    let edit = |text: &str| column(&column(text, "power", &tag), "cons", &tag);
                    let status = tokio::time::timeout(LONG, once(&client, &line, edit)).await.unwrap_or(None);
                    let mark =
                        if tag.is_empty() { line.trim_start_matches("margay ").to_owned() } else { tag };
                    (mark, status)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(dice.throw(ROUND))).await;
        process.kill();
        let mut said = Vec::new();
        for command in commands {
            said.push(command.await.unwrap());
        }
        process = Process::start(dir.path(), 1);
        // Whole or nothing: a column that a command writes to all rows is the same in all rows.
        let power = everywhere(&client, "nodehm.power", round).await;
        assert_eq!(power, everywhere(&client, "nodehm.cons", round).await, "round {round}");
        let mgt = everywhere(&client, "nodehm.mgt", round).await;
        assert_eq!(mgt, everywhere(&client, "nodelist.comments", round).await, "round {round}");
        // What was acknowledged is there.
        let log = client.ok("margay log -n 8").await;
        for (mark, status) in said {
            let logged = match mark.strip_prefix('"') {
                Some(tag) => client.ok("margay log -c -n 8").await.contains(tag),
                None => log.lines().any(|line| line.contains(&mark)),
            };
            match status {
                Some(0) => {
                    assert!(logged, "round {round}: {mark} was acknowledged and is not there: {log}");
                    acknowledged += 1;
                }
                Some(_) => {}
                None => unheard += 1,
            }
            kept += usize::from(logged);
            seen += 1;
        }
    }
    println!(
        "{rounds} of {rounds} rounds whole or nothing; of {seen} commands {acknowledged} acknowledged, {unheard} cut off, \
         {kept} done, {:?}",
        begun.elapsed()
    );
}
