//! Hundreds of BMCs at once.

use std::time::Duration;

use bmc::Bmcs;
use sim::bmc::{Faults, Running};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::op::{Fault, NodeOp, NodeReply};

use super::{config, lamp, target};

const BMCS: usize = 300;

/// Deadline of each operation, far above what a loaded machine needs; `bmc-bench` measures the time.
const DEADLINE: Duration = Duration::from_secs(40);

async fn crowd() -> Vec<Running> {
    let mut all = Vec::new();
    for _ in 0..BMCS {
        all.push(lamp(config()).await);
    }
    all
}

/// Asks all at once; gives the time until the last healthy one answered, and the errors.
async fn stat(bmcs: &Bmcs, all: &[Running], deadline: Duration) -> (Duration, Vec<Fault>) {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for bmc in all {
        let (bmcs, target) = (bmcs.clone(), target(bmc.address()));
        tasks.spawn(async move { bmcs.run(&target, &NodeOp::PowerStat, began + deadline).await });
    }
    let (mut last, mut faults) = (Duration::ZERO, Vec::new());
    while let Some(reply) = tasks.join_next().await {
        match reply.unwrap() {
            Ok(reply) => {
                assert_eq!(reply, NodeReply::Text("off".into()));
                last = began.elapsed();
            }
            Err(error) => faults.push(error.fault()),
        }
    }
    (last, faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_bmcs_answer_and_hung_ones_delay_nobody() {
    let all = crowd().await;
    let bmcs = Bmcs::new().unwrap();
    let (clean, faults) = stat(&bmcs, &all, DEADLINE).await;
    assert_eq!(faults, []);
    let bad = [
        Faults { hang: true, ..Faults::default() },
        Faults { hang_in_session: true, ..Faults::default() },
        Faults { garbage: true, ..Faults::default() },
        Faults { slow_ms: 120_000, ..Faults::default() },
    ];
    for (bmc, faults) in all.iter().step_by(BMCS / 12).zip(bad.iter().cycle()) {
        bmc.set_faults(faults.clone());
    }
    // all healthy ones have answered before the first bad one is given up
    let deadline = clean * 3 + Duration::from_secs(3);
    let (spoiled, faults) = stat(&bmcs, &all, deadline).await;
    assert_eq!(faults, [Fault::Timeout; 12]);
    assert!(spoiled < deadline, "clean {clean:?}, with hung ones {spoiled:?}");
}
