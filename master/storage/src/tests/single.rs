//! One member: durability, restarts, limits, faults.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::db::{Batch, Db, Position};
use crate::install::Arriving;
use crate::log::Log;
use crate::snapshot::Packer;

#[tokio::test]
async fn what_was_proposed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    for round in 0..3u64 {
        let group = open(single(directory.path()), &drain);
        leading(&group).await;
        assert_eq!(group.read(|words| words.map.len() as u64), round * 100);
        let mut last = 0;
        for index in 0..100u64 {
            let (at, count) = put(&group, &format!("k{round}-{index}"), "v").await.unwrap();
            assert!(at > last);
            last = at;
            assert_eq!(count as u64, round * 100 + index + 1);
        }
        assert_eq!(group.read_barrier().await.unwrap(), last);
        group.close().await;
        assert_eq!(put(&group, "late", "v").await, Err(ProposeError::Stopped));
    }
}

#[tokio::test]
async fn stored_keys_are_scanned_in_both_directions_within_their_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    for key in ["a", "b", "c", "d"] {
        put(&group, key, "v").await.unwrap();
    }
    let scan = |backwards, most| {
        let mut seen = String::new();
        let each = |key: &[u8], _: &[u8]| {
            seen.push_str(std::str::from_utf8(key).unwrap());
            seen.len() < most
        };
        group.scan(b"b", b"d", backwards, each).unwrap();
        seen
    };
    assert_eq!((scan(false, 9), scan(true, 9), scan(true, 1)), ("bc".into(), "cb".into(), "c".into()));
    group.close().await;
}

#[tokio::test]
async fn deleted_keys_stay_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    put(&group, "a", "1").await.unwrap();
    put(&group, "b", "1").await.unwrap();
    assert_eq!(put(&group, "a", "").await.unwrap().1, 1);
    group.close().await;
    let group = open(single(directory.path()), &drain);
    assert_eq!(group.read(|words| words.map.keys().cloned().collect::<Vec<_>>()), ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposers_at_once_each_get_their_own_answer() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    let mut tasks = Vec::new();
    for proposer in 0..32 {
        let group = group.clone();
        tasks.push(drain.spawn("proposer", async move {
            let mut seen = Vec::new();
            for index in 0..20 {
                seen.push(put(&group, &format!("{proposer}-{index}"), "v").await.unwrap());
            }
            seen
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    // One new word each: index and answer grow together.
    all.sort_unstable();
    assert_eq!(all.len(), 640);
    assert!(all.iter().enumerate().all(|(at, (_, count))| *count == at + 1));
    group.close().await;
}

#[tokio::test]
async fn the_log_is_cut_and_a_restart_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let options = Options { keep_entries: 10, ..single(directory.path()) };
    for round in 0..3 {
        let group = open(options.clone(), &drain);
        leading(&group).await;
        for index in 0..50 {
            put(&group, &format!("{round}-{index}"), "v").await.unwrap();
        }
        group.close().await;
    }
    let log = Log::open(Arc::new(Db::open(directory.path()).unwrap())).unwrap();
    assert!(log.last().index >= 150);
    assert!(log.last().index - log.truncated.index <= 21, "{:?} {:?}", log.truncated, log.last());
}

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn child_that_proposes_until_it_is_killed() {
    let Ok(directory) = std::env::var("STORAGE_TEST_CHILD") else { return };
    let group = open(single(Path::new(&directory)), &Drain::new());
    leading(&group).await;
    for index in 0u64.. {
        put(&group, &format!("{index:08}"), "v").await.unwrap();
        std::io::stdout().write_all(format!("acknowledged {index};\n").as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=5u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::single::child_that_proposes_until_it_is_killed", "--nocapture"])
            .env("STORAGE_TEST_CHILD", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: &str| line.split_once("acknowledged ")?.1.strip_suffix(';')?.parse::<u64>().ok();
        let enough = round * 40;
        while number(&lines.next().unwrap().unwrap()).is_none_or(|number| number < enough) {}
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still managed to say before it died counts too.
        let rest = lines.map_while(Result::ok).filter_map(|line| number(&line));
        let last = rest.chain([enough]).max().unwrap();
        let group = open(single(directory.path()), &Drain::new());
        leading(&group).await;
        group.read_barrier().await.unwrap();
        for index in 0..=last {
            assert!(group.read(|words| words.map.contains_key(&format!("{index:08}"))), "{index} of {last}");
        }
        group.close().await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_changes_by_name_and_goes_on_reading() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    put(&group, "a", "1").await.unwrap();
    group.close().await;
    let group = open(Options { min_free: u64::MAX, ..single(directory.path()) }, &drain);
    leading(&group).await;
    assert_eq!(put(&group, "b", "1").await, Err(ProposeError::DiskFull));
    assert!(group.status().wait_for(|status| status.disk_full).await.is_ok());
    group.read_barrier().await.unwrap();
    assert_eq!(group.read(|words| words.map.len()), 1);
    group.close().await;
}

/// Not a test by itself: runs in a mount namespace of its own, with a file system of 40 MiB.
#[tokio::test]
async fn child_that_fills_its_file_system() {
    let Ok(directory) = std::env::var("STORAGE_TEST_FULL") else { return };
    let mount = |options: &str| {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", &directory]).status();
        assert!(done.unwrap().success());
    };
    mount("size=40m");
    let drain = Drain::new();
    let group = open(single(Path::new(&directory)), &drain);
    leading(&group).await;
    let mut acknowledged = 0u64;
    let long = "x".repeat(500_000);
    // A full disk is noticed by a failed write: nobody looks ahead here.
    let refused = loop {
        match put(&group, &format!("{acknowledged:08}"), &long).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ProposeError::Unknown);
    let mut status = group.status();
    let fault = status.wait_for(|status| status.fault.is_some()).await.unwrap().fault.clone().unwrap();
    assert!(fault.contains("no space left"), "{fault}");
    group.close().await;
    mount("remount,size=200m");
    let group = open(single(Path::new(&directory)), &drain);
    leading(&group).await;
    group.read_barrier().await.unwrap();
    assert!(acknowledged > 10);
    for index in 0..acknowledged {
        assert!(group.read(|words| words.map.contains_key(&format!("{index:08}"))), "{index}");
    }
    assert_eq!(group.read(|words| words.map.keys().filter(|key| key.len() != 8).count()), 0);
    group.close().await;
}

#[test]
fn a_disk_that_fills_up_fences_the_group_and_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::single::child_that_fills_its_file_system", "--nocapture"])
        .env("STORAGE_TEST_FULL", directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}\n{}", String::from_utf8_lossy(&child.stdout));
}

#[tokio::test]
async fn an_entry_that_is_too_long_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let group = open(single(directory.path()), &Drain::new());
    leading(&group).await;
    let entry = vec![b'x'; MAX_ENTRY + 1];
    assert_eq!(group.propose(entry).await, Err(ProposeError::TooLarge(MAX_ENTRY + 1)));
    let (_, count) = put(&group, "a", &"x".repeat(MAX_ENTRY - 2)).await.unwrap();
    assert_eq!(count, 1);
    group.close().await;
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    open(single(directory.path()), &drain).close().await;
    let mut other = single(directory.path());
    other.cluster = "c2".to_owned();
    let error = Group::open(other, Words::default(), None, &drain).unwrap_err();
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
    let mut more = single(directory.path());
    more.members.push(Member { id: 2, name: "m2".to_owned(), address: ([127, 0, 0, 1], 1).into() });
    let error = Group::open(more, Words::default(), None, &drain).unwrap_err();
    assert!(matches!(error, StorageError::Config(_)), "{error}");
}

#[tokio::test]
async fn a_panic_while_applying_fences_the_group() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    ARMED.store(true, Ordering::Relaxed);
    let machine = Words { panics: true, ..Words::default() };
    let group = Group::open(single(directory.path()), machine, None, &drain).unwrap();
    leading(&group).await;
    assert_eq!(put(&group, "panic", "now").await, Err(ProposeError::Unknown));
    let mut status = group.status();
    let fault = status.wait_for(|status| status.fault.is_some()).await.unwrap().fault.clone().unwrap();
    assert!(fault.contains("on purpose"), "{fault}");
    group.close().await;
    // The entry is committed: a machine without the fault applies it.
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    group.read_barrier().await.unwrap();
    assert_eq!(group.read(|words| words.map.len()), 1);
    group.close().await;
}

#[tokio::test]
async fn a_database_that_lost_its_newest_entries_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    put(&group, "a", "1").await.unwrap();
    group.close().await;
    let saved = copy.path().join("db");
    assert!(Command::new("cp").arg("-a").arg(directory.path()).arg(&saved).status().unwrap().success());
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    put(&group, "b", "1").await.unwrap();
    group.close().await;
    std::fs::copy(directory.path().join("high-water"), saved.join("high-water")).unwrap();
    let error = Group::open(single(&saved), Words::default(), None, &drain).unwrap_err();
    assert!(matches!(error, StorageError::Amnesia { .. }), "{error}");
}

#[test]
fn impossible_positions_are_named_and_do_not_panic() {
    let directory = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open(directory.path()).unwrap());
    let mut batch = Batch::default();
    batch.applied(&db, Position { index: 7, term: 1 });
    db.write(batch, true, "test").unwrap();
    assert!(matches!(Log::open(db.clone()), Err(StorageError::Damaged(_))));
}

#[tokio::test]
async fn a_snapshot_that_never_arrives_whole_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let drain = Drain::new();
    let group = open(single(directory.path()), &drain);
    leading(&group).await;
    put(&group, "a", "1").await.unwrap();
    group.close().await;
    let mut packer = Packer::default();
    assert!(packer.row(b"b", b"2").is_none());
    let frames = packer.end();
    let db = Arc::new(Db::open(directory.path()).unwrap());
    let mut arriving = Arriving::start(db.clone()).unwrap();
    assert!(!arriving.frame(&frames[0]).unwrap());
    assert!(arriving.frame(&frames[0][1..]).is_err());
    drop(arriving);
    // Complete, but the process ends before it is installed.
    let mut arriving = Arriving::start(db.clone()).unwrap();
    assert!(!arriving.frame(&frames[0]).unwrap());
    assert!(arriving.frame(&frames[1]).unwrap());
    drop((arriving, db));
    let group = open(single(directory.path()), &drain);
    assert_eq!(group.read(|words| words.map.keys().cloned().collect::<Vec<_>>()), ["a"]);
    group.close().await;
}
