//! Agent and service node, and the operations on nodes.

use super::{Sample, s, sample};
use wire::agent::{
    AgentHello, Booted, Call, CallEvent, CallInput, EnrolAnswer, EnrolHello, FromAgent, Phase, Report,
    ToAgent,
};
use wire::hardware::{Adapter, BmcInBand, Disk, Hardware, LinkState, LldpNeighbor};
use wire::op::{
    App, Beacon, BootDevice, BootTarget, Event, Exec, Fault, LifeQuestion, NodeOp, NodeReply, PowerAction,
    Stream,
};

pub fn adapter() -> Adapter {
    Adapter {
        name: s("eno1"),
        candidate_names: vec![s("eno1"), s("enp0s3")],
        mac: s("02:00:00:00:00:01"),
        pci: s("/pci0000:00/0000:00:03.0"),
        vendor: s("Intel"),
        model: s("82540EM"),
        driver: s("e1000"),
        link: LinkState::Up,
        addresses: vec![s("10.0.0.1/24")],
        lldp: Some(LldpNeighbor {
            switch: s("switch1"),
            description: s("a switch"),
            addresses: vec![s("10.0.0.9")],
            port: s("swp3"),
            port_description: s("port 3"),
        }),
    }
}

fn hardware() -> Hardware {
    Hardware {
        arch: s("x86_64"),
        uuid: s("0b9d"),
        vendor: s("V"),
        product: s("P"),
        mtm: s("V:P"),
        serial: s("S1"),
        firmware: s("1.0"),
        cpu_count: 64,
        cpu_model: s("CPU"),
        memory_mib: 257_620,
        disks: vec![Disk { name: s("sda"), bytes: 960_000_000_000, model: s("D"), serial: s("DS") }],
        adapters: vec![
            adapter(),
            Adapter { link: LinkState::Down, ..Adapter::default() },
            Adapter::default(),
        ],
        bmc: Some(BmcInBand {
            address: s("10.1.0.1"),
            source: s("static"),
            mac: s("02:00:00:00:01:01"),
            manufacturer: 674,
            product: 256,
            firmware: s("2.14"),
            guid: s("g"),
        }),
        ssh_host_keys: vec![s("ssh-ed25519 AAAA")],
        virtual_machine: true,
        boot_mac: s("02:00:00:00:00:01"),
    }
}

pub fn hello() -> EnrolHello {
    EnrolHello {
        version: 1,
        public_key: vec![48, 89],
        proof: vec![1; 4],
        hardware: hardware(),
        boot_id: s("b1"),
        phase: Phase::Genesis,
    }
}

fn ops() -> Vec<Sample> {
    let exec = Exec {
        command: s("uname -r"),
        user: s("ann"),
        script: Some(vec![35, 33]),
        environment: vec![(s("A"), s("b"))],
        stdin: true,
        timeout: 30,
    };
    let powers = [
        ("on", PowerAction::On),
        ("off", PowerAction::Off),
        ("softoff", PowerAction::SoftOff),
        ("cycle", PowerAction::Cycle),
        ("reset", PowerAction::Reset),
        ("boot", PowerAction::Boot),
    ];
    let targets = [
        ("net", BootTarget::Net),
        ("hd", BootTarget::Hd),
        ("cd", BootTarget::Cd),
        ("default", BootTarget::Default),
        ("setup", BootTarget::Setup),
        ("floppy", BootTarget::Floppy),
    ];
    let beacons =
        [("on", Beacon::On), ("off", Beacon::Off), ("blink", Beacon::Blink), ("stat", Beacon::Stat)];
    let faults = [
        ("timeout", Fault::Timeout),
        ("unreachable", Fault::Unreachable),
        ("denied", Fault::Denied),
        ("undefined", Fault::Undefined),
        ("refused", Fault::Refused),
        ("cancelled", Fault::Cancelled),
        ("unknown", Fault::Unknown),
    ];
    let app = App { name: s("db"), port: 5432, nodes: vec![s("n1")] };
    let mut all = vec![
        sample("op.power_stat", NodeOp::PowerStat),
        sample("op.boot_device_stat", NodeOp::BootDeviceStat),
        sample("op.inventory", NodeOp::Inventory(vec![s("serial")])),
        sample("op.exec", NodeOp::Exec(exec)),
        sample("op.adapters", NodeOp::Adapters),
        sample("op.boot_genesis", NodeOp::BootGenesis),
        sample("op.node_stat", NodeOp::NodeStat),
        sample("op.node_life", NodeOp::NodeLife(LifeQuestion { power: true, apps: vec![app] })),
        sample("op.bmc_reset", NodeOp::BmcReset),
        sample("reply.text", NodeReply::Text(s("on"))),
        sample("reply.texts", NodeReply::Texts(vec![s("a"), s("b")])),
        sample("reply.adapters", NodeReply::Adapters(vec![adapter()])),
        sample("reply.hardware", NodeReply::Hardware(Box::new(hardware()))),
        sample("reply.done", NodeReply::Done),
        sample("event.output", Event::Output { stream: Stream::Err, bytes: b"x\n".to_vec() }),
        sample("event.exit", Event::Exit(-1)),
    ];
    all.extend(powers.map(|(name, action)| sample(&format!("op.power.{name}"), NodeOp::Power(action))));
    all.extend(targets.map(|(name, target)| {
        let device = BootDevice { target, persistent: true, uefi: false };
        sample(&format!("op.boot_device.{name}"), NodeOp::BootDevice(device))
    }));
    all.extend(beacons.map(|(name, beacon)| sample(&format!("op.beacon.{name}"), NodeOp::Beacon(beacon))));
    all.extend(faults.map(|(name, fault)| {
        sample(&format!("event.failed.{name}"), Event::Failed { fault, text: s("why") })
    }));
    all
}

pub fn samples() -> Vec<Sample> {
    let booted =
        Booted { generation: 12, failed_steps: vec![(s("mounts"), s("no server"))], start_status: Some(7) };
    let report =
        |name: &str, report| sample(&format!("agent.report.{name}"), FromAgent { sequence: 3, report });
    let mut all = ops();
    all.extend([
        sample("agent.enrol", hello()),
        sample(
            "agent.enrol_answer.admitted",
            EnrolAnswer::Admitted { node: s("n1"), certificate: s("PEM"), ca: s("PEM"), now: 1_800_000_000 },
        ),
        sample("agent.enrol_answer.pending", EnrolAnswer::Pending(s("why"))),
        sample("agent.enrol_answer.denied", EnrolAnswer::Denied(s("why"))),
        sample(
            "agent.hello",
            AgentHello {
                version: 1,
                program: s("0.1.0"),
                boot_id: s("b1"),
                phase: Phase::System,
                generation: 12,
            },
        ),
        report("hardware", Report::Hardware(Box::new(hardware()))),
        report("adapters", Report::Adapters(vec![adapter()])),
        report("status", Report::Status(s("standingby"))),
        report("next_destiny", Report::NextDestiny { done: s("runcmd=true"), status: 0 }),
        report("booted", Report::Booted(booted)),
        report("host_keys", Report::HostKeys(vec![s("ssh-ed25519 AAAA")])),
        sample("agent.to.stored", ToAgent::Stored(3)),
        sample("agent.to.rejected", ToAgent::Rejected { sequence: 3, reason: s("too many adapters") }),
        sample("agent.to.destiny", ToAgent::Destiny(s("standby"))),
        sample("agent.to.config", ToAgent::Config(super::rack::config())),
        sample("agent.call.exec", Call::Exec(Exec { command: s("true"), ..Exec::default() })),
        sample("agent.call.adapters", Call::Adapters),
        sample("agent.call.hardware", Call::Hardware),
        sample("agent.call_input.stdin", CallInput::Stdin(vec![1])),
        sample("agent.call_input.stdin_end", CallInput::StdinEnd),
        sample("agent.call_input.cancel", CallInput::Cancel),
        sample("agent.call_event.output", CallEvent::Output { stream: Stream::Out, bytes: b"hi\n".to_vec() }),
        sample("agent.call_event.exit", CallEvent::Exit(137)),
        sample("agent.call_event.reply", CallEvent::Reply(NodeReply::Done)),
        sample("agent.call_event.failed", CallEvent::Failed(s("no shell"))),
    ]);
    all
}
