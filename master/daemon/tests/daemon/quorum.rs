//! A wait whose deadline passes while no majority of the masters is there.

use std::sync::Arc;
use std::time::Duration;

use state::view::{Tables, column};
use wire::op::{Event, NodeOp, NodeReply};

use crate::cluster::{Cluster, call, until};
use crate::rack::Rack;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_does_not_pass_without_a_quorum_and_passes_once_with_it() {
    let (mut cluster, clock) = Cluster::standing(3).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1 groups=all nodehm.mgt=ipmi").await;
    admin.ok("chtab key=getadaptertimeout site.value=5").await;
    let rack = Rack::join(&cluster, "sn1").await.answer(|order, _| match order.op {
        NodeOp::PowerStat => Event::Reply(NodeReply::Text("off".to_owned())),
        _ => Event::Reply(NodeReply::Done),
    });
    let client = Arc::new(cluster.admin());
    let waits = {
        let client = client.clone();
        rack.spawn("getadapter", async move { client.finish(call("getadapter n1")).await })
    };
    let leader = cluster.leader().unwrap();
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let cell = |cluster: &Cluster, name: &str| {
        let row = cluster.core(leader).read(|state| state.row("taskstate", &["n1", "getadapter"]));
        row.map(|row| column(&row, name).to_owned()).unwrap_or_default()
    };
    until("its boot is ordered", || cell(&cluster, "reserve") == "boot:").await;
    let mut committed = cluster.core(leader).committed();
    for other in &others {
        cluster.stop_member(*other).await;
    }
    until("nobody leads", || cluster.leader().is_none()).await;
    clock.advance(Duration::from_secs(3600));
    assert_eq!(cell(&cluster, "state"), "waiting");
    cluster.start_member(others[0]).await;
    until("somebody leads again", || cluster.leader().is_some()).await;
    cluster.admin().ok("chtab key=x site.value=1").await;
    until("the member of before has caught up", || {
        cluster.core(leader).read(|state| state.site("x") == Some("1"))
    })
    .await;
    assert_eq!(cell(&cluster, "state"), "waiting", "the hour without a quorum does not count");
    until("it times out", || {
        clock.advance(Duration::from_millis(100));
        cell(&cluster, "state") == "timeout"
    })
    .await;
    clock.advance(Duration::from_secs(10));
    cluster.admin().ok("chtab key=x site.value=2").await;
    let mut ends = 0;
    while let Ok(change) = committed.try_recv() {
        let rows = change.events.iter().filter(|event| event.table_name() == "taskstate");
        ends += rows.filter(|event| event.new_text("state") == "timeout").count();
    }
    assert_eq!(ends, 1);
    let said = waits.await.unwrap().unwrap();
    assert_eq!((said.err.as_str(), said.status), ("n1: Timeout to get the adapter information\n", 1));
}
