//! Masters as processes of their own, killed without warning.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service::Drain;

use crate::cluster::{Client, call, make};
use crate::process::{Process, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_has_every_acknowledged_node_after_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1);
    let client = client(dir.path(), 1);
    let mut process = Process::start(dir.path(), 1);
    for round in 0..3 {
        for node in 0..10 {
            client.ok(&format!("nodeadd r{round}n{node} groups=all")).await;
        }
        process.kill();
        process = Process::start(dir.path(), 1);
        let said = client.ok("nodels all").await;
        assert_eq!(said.lines().count(), (round + 1) * 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leader_loses_no_acknowledged_node_and_another_one_serves_within_seconds() {
    const REQUESTS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 3);
    let mut processes: Vec<Process> = (1..=3).map(|member| Process::start(dir.path(), member)).collect();
    let shared = Arc::new(client(dir.path(), 3));
    let status = shared.ok("margay status").await;
    let leader: usize = status
        .lines()
        .find(|line| line.contains(": leader"))
        .and_then(|line| line.strip_prefix("master m")?.chars().next()?.to_digit(10))
        .unwrap() as usize;
    let drain = Drain::new();
    let work: Vec<_> = (0..REQUESTS)
        .map(|number| {
            let client = shared.clone();
            let line = format!("nodeadd q{number}n[0-9] groups=all");
            drain.spawn("nodeadd", async move { client.finish(call(&line)).await })
        })
        .collect();
    let before = Instant::now();
    tokio::time::sleep(Duration::from_millis(150)).await;
    processes[leader - 1].kill();
    let killed = Instant::now();
    let probe = shared.ok("nodels").await;
    let gap = killed.elapsed();
    drop(probe);
    let mut acknowledged = 0;
    let mut unknown = 0;
    let mut expected = BTreeSet::new();
    for (number, task) in work.into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(said) if said.status == 0 => {
                acknowledged += 1;
                expected.extend((0..10).map(|node| format!("q{number}n{node}")));
            }
            // Nothing but "the outcome is unknown" is allowed here.
            Ok(said) => panic!("request {number}: {said:?}"),
            Err(_) => unknown += 1,
        }
    }
    let said = shared.ok("nodels all").await;
    let there: BTreeSet<String> = said.lines().map(str::to_owned).collect();
    let lost: Vec<_> = expected.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(acknowledged > 0);
    println!(
        "{acknowledged} acknowledged, {unknown} unknown, served again after {gap:?}, all done after {:?}",
        before.elapsed()
    );
    // 5 s on a machine of its own; the machine of a test may be busy.
    assert!(gap < Duration::from_secs(15), "{gap:?}");
    // The killed member comes back and catches up.
    processes[leader - 1] = Process::start(dir.path(), leader);
    let alone = Client { masters: vec![shared.masters[leader - 1]], ..client(dir.path(), 3) };
    assert_eq!(alone.ok("nodels all").await, said);
}
