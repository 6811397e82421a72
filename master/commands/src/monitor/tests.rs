#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use state::{Entry, Files, Transaction};
use wire::op::Stream;

use super::*;
use crate::plan::Inputs;

struct World {
    state: State,
    index: u64,
    plugins: Option<Vec<String>>,
}

impl World {
    fn new() -> World {
        let plugins = Some(["rmcmon", "snmpmon", BUILT_IN].map(str::to_owned).to_vec());
        let mut world = World { state: State::new(), index: 0, plugins };
        world.apply(
            ["n1", "n2"].map(|node| RowChange::set("nodelist", &[node], &[("groups", "all")])).to_vec(),
        );
        world
    }

    fn apply(&mut self, changes: Vec<RowChange>) {
        self.index += 1;
        let entry = Entry::Transaction(Transaction { changes, ..Transaction::default() });
        assert_eq!(self.state.apply(self.index, &entry).outcome.unwrap().refused, None);
    }

    fn plan(&self, line: &str) -> Plan {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (command, args) = crate::resolve(&words[0], &words[1..]).unwrap();
        let inputs = Inputs { plugins: self.plugins.clone(), ..Inputs::default() };
        command.make(&Ctx {
            state: &self.state,
            command: command.name,
            args,
            caller: "root",
            cluster: "mn01",
            now: 0,
            version: "1",
            environment: &BTreeMap::new(),
            files: &Files::new(),
            stdin: None,
            inputs: &inputs,
            named: None,
            sink: None,
        })
    }

    /// Runs a command: what it prints on both streams with its status, and what is asked of plug-ins.
    fn run(&mut self, line: &str) -> (String, Vec<Order>) {
        let (output, orders) = match self.plan(line) {
            Plan::Answer(output) => (output, Vec::new()),
            Plan::Change(change) => {
                self.apply(change.changes);
                let orders = change.effects.into_iter().map(|effect| match effect {
                    Effect::Monitor(order) => order,
                    other => panic!("{other:?}"),
                });
                (change.output, orders.collect())
            }
            Plan::Helper(Helper::Monitor(asked)) => (asked.0, vec![asked.1]),
            other => panic!("{line}: {other:?}"),
        };
        (format!("{}{}{}", output.all(Stream::Out), output.all(Stream::Err), output.status), orders)
    }
}

fn order(plugin: &str, deed: Deed, nodes: &[&str], remote: bool) -> Order {
    Order { plugin: plugin.into(), deed, nodes: nodes.iter().map(|node| (*node).into()).collect(), remote }
}

#[test]
fn each_command_says_and_asks_what_its_arguments_want() {
    let mut world = World::new();
    let missing =
        "Error: [mn01]: There is no monitoring plug-in 'nomon'; 'monls -a' lists those that are there\n1";
    let unknown = "Error: [mn01]: snmpmon is not in the table monitoring; 'monadd snmpmon' adds it\n1";
    let cases: Vec<(&str, &str, Vec<Order>)> = vec![
        ("monls", "0", vec![]),
        (
            "monls -a",
            "rmcmon\t\tnot-monitored\nsnmpmon\t\tnot-monitored\nxcatmon\t\tnot-monitored\n0",
            vec![],
        ),
        ("monadd nomon", missing, vec![]),
        ("monls nomon", missing, vec![]),
        ("monadd xcatmon -n -s ping-interval=2 -s apps=ssh,ll --settings ssh=port=22,group=all", "0", vec![]),
        ("monadd rmcmon -s [a=1],[b=2=3]", "0", vec![]),
        ("monadd rmcmon", "Error: [mn01]: rmcmon is in the table monitoring already\n1", vec![]),
        ("monadd snmpmon -s x", "Error: [mn01]: 'x' is not a setting; settings are key=value\n1", vec![]),
        ("monls", "xcatmon\t\tnot-monitored\nrmcmon\t\tnot-monitored\n0", vec![]),
        ("monstart snmpmon", unknown, vec![]),
        ("monstop snmpmon", unknown, vec![]),
        ("monstart xcatmon", "0", vec![order("xcatmon", Deed::Start, &[], false)]),
        ("monls", "xcatmon\t\tmonitored\tnode-status-monitored\nrmcmon\t\tnot-monitored\n0", vec![]),
        ("monls rmcmon", "rmcmon\t\tnot-monitored\n0", vec![]),
        ("monrm xcatmon", "Error: [mn01]: xcatmon monitors; 'monstop xcatmon' comes first\n1", vec![]),
        ("startmon rmcmon n1-n2 -r", "0", vec![order("rmcmon", Deed::Start, &["n1", "n2"], true)]),
        ("monstart rmcmon n1", "0", vec![order("rmcmon", Deed::Start, &["n1"], false)]),
        ("moncfg rmcmon --remote", "0", vec![order("rmcmon", Deed::Config, &[], true)]),
        ("mondecfg rmcmon n2", "0", vec![order("rmcmon", Deed::Deconfig, &["n2"], false)]),
        ("monstop rmcmon n9", "Error: Invalid nodes and/or groups in noderange: n9\n1", vec![]),
        ("monstop rmcmon n2", "0", vec![order("rmcmon", Deed::Stop, &["n2"], false)]),
        ("monls rmcmon", "rmcmon\t\tmonitored\n0", vec![]),
        ("monls rmcmon -d", "rmcmon\t\tmonitored\n0", vec![order("rmcmon", Deed::Describe, &[], false)]),
        ("stopmon rmcmon", "0", vec![order("rmcmon", Deed::Stop, &[], false)]),
        ("monrm rmcmon", "0", vec![]),
        (
            "monrm rmcmon",
            "Error: [mn01]: rmcmon is not in the table monitoring; 'monadd rmcmon' adds it\n1",
            vec![],
        ),
        ("monls", "xcatmon\t\tmonitored\tnode-status-monitored\n0", vec![]),
    ];
    for (line, said, orders) in cases {
        assert_eq!(world.run(line), (said.to_owned(), orders), "{line}");
    }
    assert!(world.run("monls xcatmon -d").0.contains("ping-interval: minutes"));
    for line in
        ["monadd", "monadd a b", "monrm", "monls a b", "monls a -a", "monstart", "monstop", "moncfg a b c"]
    {
        let said = world.run(line).0;
        assert!(said.starts_with("Usage: ") && said.ends_with('1'), "{line}: {said}");
    }
    let set = settings(&world.state, BUILT_IN);
    assert_eq!(
        set.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "),
        "apps=ssh,ll ping-interval=2 ssh=port=22,group=all"
    );
    let kept = settings(&world.state, "rmcmon");
    assert_eq!((kept["a"].as_str(), kept["b"].as_str()), ("1", "2=3"));
}

#[test]
fn a_row_that_chtab_made_starts_its_plug_in_and_a_bad_name_does_not() {
    let mut world = World::new();
    world.run("chtab name=xcatmon monitoring.nodestatmon=Y");
    world.run("chtab name=../../bin/sh monitoring.nodestatmon=Y");
    world.run("chtab name=rmcmon monitoring.nodestatmon=N monitoring.disable=yes");
    assert_eq!(wishes(&world.state), [Wish { name: "xcatmon".into(), nodestatmon: true }]);
    assert!(!named_well("") && !named_well("-x") && !named_well("a.b") && named_well("a-b_1"));
}

#[test]
fn what_is_there_is_asked_of_the_master_first() {
    let mut world = World::new();
    world.plugins = None;
    assert_eq!(world.plan("monls -a"), Plan::Need(Need::Plugins));
    assert_eq!(world.plan("monadd rmcmon"), Plan::Need(Need::Plugins));
    let Plan::Answer(_) = world.plan("monls") else { panic!("the table is enough") };
}
