//! The past is forgotten by time: when `site.historydays` says so, and never before handlers were told.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use master::retention::forget;
use service::Clock;
use service::clock::Manual;

use crate::cluster::{Cluster, until};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_the_days_in_site_is_forgotten_once_every_handler_was_told() {
    let manual = Manual::new(Clock::Real.unix());
    let runner = |config: &mut master::Config| config.notify.runner = env!("CARGO_BIN_EXE_margayd").into();
    let cluster = Cluster::start_all(1, Clock::Manual(manual.clone()), runner).await;
    let (admin, core) = (cluster.admin(), cluster.core(0));
    let (oldest, newest) = (|| core.read(|state| state.oldest()), || core.read(|state| state.revision()));
    let dir = tempfile::tempdir().unwrap();
    // Stands at its first change until somebody has had the gate open.
    let (gate, path) = (dir.path().join("gate"), dir.path().join("slow"));
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    std::fs::write(&path, format!("#!/bin/sh\ncat <{} >/dev/null\n", gate.display())).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();

    let begin = oldest();
    let quiet = dir.path().join("quiet");
    std::fs::copy(&path, &quiet).unwrap();
    admin.ok(&format!("regnotif {} mac -o a", quiet.display())).await;
    admin.ok(&format!("regnotif {} nodelist -o a", path.display())).await;
    admin.ok("nodeadd n1 groups=all").await;
    let first = newest();
    admin.ok("nodeadd n2 groups=all").await;
    let second = newest();
    manual.advance(10 * 24 * HOUR);
    admin.ok("nodeadd n3 groups=all").await;
    assert!(begin < first - 1);

    forget(core).await.unwrap();
    assert_eq!(oldest(), begin, "nothing goes by time when site does not say so");
    for wrong in ["0", "-7", "week", "99999999999999999999"] {
        admin.ok(&format!("chtab key=historydays site.value={wrong}")).await;
        forget(core).await.unwrap();
    }
    admin.ok("chtab key=historydays site.value=11").await;
    forget(core).await.unwrap();
    assert_eq!(oldest(), begin, "nothing is older than eleven days");

    admin.ok("chtab key=historydays site.value=7").await;
    until("what the handler was told is forgotten", || oldest() == first - 1).await;
    forget(core).await.unwrap();
    assert_eq!(oldest(), first - 1, "what the handler was not told stays");
    let quiet = core.read(|state| state.cursors()[&quiet.display().to_string()].at.revision);
    assert_eq!(quiet, first, "a handler that wants nothing of it seems to have missed nothing");

    tokio::task::spawn_blocking(move || {
        let opened = File::options().write(true).open(&gate).unwrap();
        let open = gate.with_extension("open");
        std::fs::write(&open, "").unwrap();
        std::fs::rename(&open, &gate).unwrap();
        drop(opened);
    })
    .await
    .unwrap();
    until("the handler was told of everything", || {
        core.read(|state| {
            state.cursors()[&path.display().to_string()].at.revision > state.changed_at("nodelist")
        })
    })
    .await;
    manual.advance(HOUR);
    until("the rest of what is old is forgotten", || oldest() == second).await;
    forget(core).await.unwrap();
    assert_eq!(oldest(), second, "what is younger stays");

    let said = admin.run(&format!("nodels --at {first}")).await;
    assert!(said.err.contains("is not kept any more"), "{said:?}");
    assert_eq!(admin.ok(&format!("nodels --at {second}")).await, "n1\nn2\n");
    assert_eq!(admin.ok("nodels --at 7d").await, "n1\nn2\n");
    assert_eq!(admin.ok("margay log n1-n3").await.lines().count(), 1);
    assert_eq!(admin.ok("nodels").await, "n1\nn2\nn3\n");
    let list = admin.ok("margay notification").await;
    assert!(!list.contains("GAP"), "{list}");
}
