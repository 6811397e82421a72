//! Actions: followed, detached, attached to, cancelled, locked, bounded.

use wire::client::{Answer, Input, Request, Wanted};
use wire::ids::ActionId;
use wire::op::{Event, Fault, NodeOp, NodeReply, PowerAction, Stream};
use wire::rack::FanOutInput;

use crate::cluster::{Cluster, Said, call, until};
use crate::rack::Rack;

async fn ready(nodes: &str) -> (Cluster, Rack) {
    let cluster = Cluster::start(1).await;
    let rack = Rack::join(&cluster, "sn1").await;
    cluster.admin().ok(&format!("nodeadd {nodes} groups=all nodehm.mgt=ipmi")).await;
    (cluster, rack)
}

fn out(text: &str) -> Event {
    Event::Output { stream: Stream::Out, bytes: text.as_bytes().to_vec() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_answers_come_node_by_node_and_the_status_is_written_down() {
    let (cluster, rack) = ready("n1-n3").await;
    rack.answer(|fan_out, node| match (&fan_out.op, node) {
        (NodeOp::PowerStat, "n2") => {
            Event::Failed { fault: Fault::Timeout, text: "no answer from 10.0.0.2 within 5 s".into() }
        }
        (NodeOp::PowerStat, _) => Event::Reply(NodeReply::Text("off".into())),
        (NodeOp::Power(PowerAction::On), _) => Event::Reply(NodeReply::Text("on".into())),
        other => panic!("{other:?}"),
    });
    let admin = cluster.admin();
    let said = admin.run("rpower all stat").await;
    assert_eq!(said.out, "n1: off\nn3: off\n");
    assert_eq!(said.err, "n2: [mn01]: Error: no answer from 10.0.0.2 within 5 s\n");
    assert_eq!((said.status, said.action), (1, None));
    let said = admin.run("margay power n1 on").await;
    assert_eq!((said.out.as_str(), said.status, said.action), ("n1: on\n", 0, Some(ActionId(1))));
    assert_eq!(admin.ok("nodels n1 nodelist.status").await, "n1: powering-on\n");
    let list = admin.ok("margay action list").await;
    assert!(list.contains("done") && list.contains("rpower n1 on"), "{list}");
    assert!(admin.ok("margay action show 1").await.contains("text=1 of 1 nodes did it"));
    assert_eq!(admin.run("margay action show 2").await.status, 1);
    let said = admin.run("rpower n1 nosuchop").await;
    assert_eq!(said.out, "n1: Error: Unsupported command: rpower nosuchop when using mgt=ipmi.\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_output_is_told_before_it_also_to_a_client_that_comes_back() {
    let (cluster, mut rack) = ready("n1,n2").await;
    let admin = cluster.admin();
    let request = Request::Run(call("xdsh --output json --sort node n1,n2 uname -r").run);
    let lost = admin.open(0, &request).await.unwrap();
    let mut order = rack.order().await;
    order.say("n2", out("6.2\n")).await;
    drop(lost);
    let mut exchange = admin.open(0, &request).await.unwrap();
    order.say("n1", Event::Failed { fault: Fault::Timeout, text: "gone".into() }).await;
    order.say("n2", Event::Exit(0)).await;
    order.end().await;
    let mut said = Vec::new();
    while let Ok(Some(answer)) = exchange.recv::<Answer>().await {
        match answer {
            Answer::Layout(layout) => said.push(format!("{:?} {:?}", layout.format, layout.sort)),
            Answer::Text(text) => said.push(format!("{:?} {:?}", text.stream, text.node)),
            Answer::Done { .. } => break,
            _ => {}
        }
    }
    assert_eq!(said[..2], ["Json Some(\"node\")", "Out Some(\"n2\")"], "{said:?}");
    assert!(said[2..].iter().all(|text| text.starts_with("Err")) && said.len() > 2, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_action_gives_its_number_and_loses_no_line() {
    let (cluster, mut rack) = ready("n1,n2").await;
    let admin = cluster.admin();
    let said = admin.run("xdsh --detach").await;
    assert_eq!(said.status, 1);
    let said = admin.run("xdsh n1,n2 --detach uname -r").await;
    assert_eq!((said.out.as_str(), said.status), ("1\n", 0));
    let mut order = rack.order().await;
    order.say("n1", out("6.1\n")).await;
    let following = tokio::spawn({
        let admin = cluster.admin();
        async move { admin.run("margay action attach 1").await }
    });
    order.say("n2", out("6.2\n")).await;
    order.say("n2", Event::Exit(0)).await;
    order.say("n1", Event::Exit(0)).await;
    order.end().await;
    let lines = Said { out: "n1: 6.1\nn2: 6.2\n".into(), action: Some(ActionId(1)), ..Said::default() };
    assert_eq!(following.await.unwrap(), lines);
    assert_eq!(admin.run("margay action attach 1").await, lines);
    let skipped = Request::Attach { action: Wanted::Action(ActionId(1)), skip: 1 };
    let mut exchange = admin.open(0, &skipped).await.unwrap();
    let mut texts = Vec::new();
    while let Ok(Some(answer)) = exchange.recv::<Answer>().await {
        if let Answer::Text(text) = answer {
            texts.push(text.node.unwrap());
        }
    }
    assert_eq!(texts, ["n2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_client_cancels_nothing_and_the_same_request_comes_back_to_it() {
    let (cluster, mut rack) = ready("n1").await;
    let admin = cluster.admin();
    let run = call("xdsh n1 sleep 100").run;
    let mut lost = admin.open(0, &Request::Run(run.clone())).await.unwrap();
    assert_eq!(lost.recv::<Answer>().await.unwrap(), Some(Answer::Accepted(ActionId(1))));
    let mut order = rack.order().await;
    drop(lost);
    order.say("n1", out("still here\n")).await;
    let again = tokio::spawn({
        let admin = cluster.admin();
        async move { admin.finish(crate::cluster::Call { run, ..call("x") }).await.unwrap() }
    });
    order.say("n1", Event::Exit(0)).await;
    order.end().await;
    assert_eq!(again.await.unwrap().out, "n1: still here\n");
    assert!(rack.orders.try_recv().is_err(), "it was sent once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_nodes_and_ends_the_action() {
    let (cluster, mut rack) = ready("n1,n2").await;
    let admin = cluster.admin();
    let mut talk = admin.open(0, &Request::Run(call("xdsh n1,n2 sleep 100").run)).await.unwrap();
    let mut order = rack.order().await;
    talk.send(&Input::Cancel).await.unwrap();
    assert_eq!(order.input().await, Some(FanOutInput::Cancel));
    order.say("n1", Event::Exit(130)).await;
    order.say("n2", Event::Failed { fault: Fault::Cancelled, text: "cancelled".into() }).await;
    order.end().await;
    let mut last = None;
    while let Ok(Some(answer)) = talk.recv::<Answer>().await {
        last = Some(answer);
    }
    assert!(matches!(last, Some(Answer::Done { status: 2, .. })), "{last:?}");
    assert!(admin.ok("margay action list").await.contains("cancelled"));
    // By number, from another connection.
    admin.run("xdsh n1 --detach sleep 100").await;
    let mut order = rack.order().await;
    let cancelling = tokio::spawn({
        let admin = cluster.admin();
        async move { admin.run("margay action cancel 2").await }
    });
    assert_eq!(order.input().await, Some(FanOutInput::Cancel));
    order.say("n1", Event::Exit(130)).await;
    order.end().await;
    assert_eq!(cancelling.await.unwrap().out, "action 2 cancelled\n");
    assert_eq!(admin.run("margay action cancel 2").await.status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_power_actions_at_one_node_do_not_run_at_once_and_the_holder_is_named() {
    let (cluster, mut rack) = ready("n1,n2").await;
    let admin = cluster.admin();
    admin.run("rpower n1 off --detach").await;
    let mut first = rack.order().await;
    let second = tokio::spawn({
        let admin = cluster.admin();
        async move { admin.run("rpower n1,n2 on").await }
    });
    let mut order = rack.order().await;
    assert_eq!(order.fan_out.nodes, ["n2"]);
    order.say("n2", Event::Reply(NodeReply::Text("on".into()))).await;
    order.end().await;
    let said = second.await.unwrap();
    assert_eq!((said.out.as_str(), said.status), ("n2: on\n", 1));
    assert!(
        said.err.contains("n1: [mn01]: Error: action 1 (rpower n1 off, by root) holds this node"),
        "{said:?}"
    );
    first.say("n1", Event::Reply(NodeReply::Text("off".into()))).await;
    first.end().await;
    until("the first action is over", || cluster.core(0).actions.running().is_empty()).await;
    let third = tokio::spawn({
        let admin = cluster.admin();
        async move { admin.run("rpower n1 on").await }
    });
    let mut order = rack.order().await;
    order.say("n1", Event::Reply(NodeReply::Text("on".into()))).await;
    order.end().await;
    assert_eq!(third.await.unwrap().out, "n1: on\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_reaches_the_nodes_whole() {
    let (cluster, mut rack) = ready("n1").await;
    let text: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let sending = tokio::spawn({
        let (admin, text) = (cluster.admin(), text.clone());
        async move { admin.finish(call("xdsh n1 cat").stdin(&text)).await.unwrap() }
    });
    let mut order = rack.order().await;
    assert!(matches!(&order.fan_out.op, NodeOp::Exec(exec) if exec.stdin && exec.command == "cat"));
    let mut heard = Vec::new();
    while let Some(FanOutInput::Stdin(bytes)) = order.input().await {
        heard.extend(bytes);
    }
    assert!(heard == text, "{} bytes of {}", heard.len(), text.len());
    order.say("n1", Event::Exit(0)).await;
    order.end().await;
    assert_eq!(sending.await.unwrap().status, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_all_seats_taken_is_told_and_can_still_cancel() {
    let (cluster, mut rack) = ready("n1").await;
    let admin = cluster.admin();
    let limit = cluster.core(0).config.limits.actions_per_user;
    let mut orders = Vec::new();
    for _ in 0..limit {
        assert_eq!(admin.run("xdsh n1 --detach sleep 100").await.status, 0);
        orders.push(rack.order().await);
    }
    let said = admin.run("xdsh n1 --detach true").await;
    assert!(said.err.contains("outstanding actions already"), "{said:?}");
    let cancelling = tokio::spawn({
        let admin = cluster.admin();
        async move { admin.run("margay action cancel 1").await }
    });
    let mut order = orders.remove(0);
    assert_eq!(order.input().await, Some(FanOutInput::Cancel));
    order.say("n1", Event::Exit(130)).await;
    order.end().await;
    assert_eq!(cancelling.await.unwrap().status, 0);
    assert_eq!(admin.run("xdsh n1 --detach true").await.status, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_service_node_each_node_says_so() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1,n2 groups=all nodehm.mgt=ipmi").await;
    let said = admin.run("rpower all stat").await;
    assert_eq!((said.err.lines().count(), said.status), (2, 1), "{said:?}");
    assert!(said.err.contains("n1: [mn01]: Error: "), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_s_action_is_not_shown_nor_ended() {
    let (cluster, mut rack) = ready("n1").await;
    let admin = cluster.admin();
    admin.ok("chtab priority=5 policy.name=bob policy.commands=action policy.rule=allow").await;
    admin.run("xdsh n1 --detach sleep 100").await;
    let _order = rack.order().await;
    let bob = cluster.client(link::Role::Admin, "bob");
    for line in ["margay action attach 1", "margay action cancel 1"] {
        let said = bob.run(line).await;
        assert!(said.err.contains("Permission denied") && said.status == 1, "{said:?}");
    }
}
