//! What a hundred thousand waits cost: measured in a process of its own, where nothing else allocates.

use std::time::Instant;

use state::RowChange;

use crate::client::Client;
use crate::cluster::{Cluster, until};

const WAITS: usize = 100_000;
/// Set in the process that measures.
const MEASURES: &str = "MARGAY_TEST_MEASURES_WAITS";

/// Of `/proc/self/status`: kilobytes, or a count.
fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

fn children() -> usize {
    let id = std::process::id();
    std::fs::read_to_string(format!("/proc/self/task/{id}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .count()
}

#[test]
fn a_hundred_thousand_waits_take_less_than_a_kibibyte_each_and_no_thread_or_process() {
    if std::env::var_os(MEASURES).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(measure());
    }
    let name = "crowd::a_hundred_thousand_waits_take_less_than_a_kibibyte_each_and_no_thread_or_process";
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    let done = own.args([name, "--exact", "--nocapture"]).env(MEASURES, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.contains("bytes a wait"), "{out}{err}");
    print!("{out}");
}

async fn measure() {
    // The clock stands still, and so does the patience for a service node that has not come yet.
    let (mut cluster, _clock) = Cluster::standing(&[]).await;
    cluster.joined("sn1").await;
    cluster.stop().await;
    cluster.start().await;
    let began = Instant::now();
    for part in 0..WAITS / 1000 {
        let node =
            |number: usize| RowChange::set("nodelist", &[&format!("n{part}x{number}")], &[("groups", "all")]);
        cluster.change((0..1000).map(node).collect()).await;
    }
    let defined = began.elapsed();
    let (_, err, status_before) = Client::run(&cluster, "getadapter nosuch").await;
    assert_eq!(status_before, 1, "{err}");
    let before = (status("VmRSS"), status("Threads"), children());
    let began = Instant::now();
    let _client = Client::start(&cluster, "getadapter all").await;
    let last = format!("n{}x999", WAITS / 1000 - 1);
    let count = || {
        let rows =
            cluster.core().read(|state| state.named("taskstate").map_or(0, |table| table.rows().count()));
        rows == WAITS
    };
    until(|| cluster.task(&last) == "waiting" && count()).await;
    let opened = began.elapsed();
    let after = (status("VmRSS"), status("Threads"), children());
    let bytes = after.0.saturating_sub(before.0) * 1024 / WAITS;
    println!("defined in {defined:?}, opened in {opened:?}, {bytes} bytes a wait, {before:?} {after:?}");
    assert!(bytes <= 1024, "{bytes} bytes a wait");
    assert!(after.1 <= before.1 + 4 && after.2 == before.2, "threads and processes: {before:?} {after:?}");
}
