//! Service node and master.

use super::node::{adapter, hello};
use super::{Sample, s, sample};
use wire::agent::Report;
use wire::ids::{ActionId, Revision};
use wire::op::{Event, Fault, NodeEvent, NodeOp, NodeReply};
use wire::rack::{
    Down, Enrol, Evidence, FanOut, FanOutEvent, FanOutInput, FromRack, JoinAnswer, JoinRequest, RackAnswer,
    RackHello, RackReport, ToRack, TokenProof, Up,
};
use wire::secret::Secret;
use wire::view::{
    AccountConfig, BmcView, GroupConfig, InterfaceConfig, MountConfig, NetworkView, NodeConfig, NodeMac,
    NodeView, RouteConfig, SiteView, StartCommand, SwitchPort, SwitchView, ViewUpdate,
};

pub fn config() -> NodeConfig {
    NodeConfig {
        generation: 12,
        hostname: s("n1"),
        domain: s("cluster.test"),
        interfaces: vec![InterfaceConfig {
            name: s("eth0"),
            address: s("10.0.0.1/24"),
            gateway: s("10.0.0.254"),
            mtu: 1500,
        }],
        hosts: vec![(s("10.0.0.1"), vec![s("n1"), s("n1.cluster.test")])],
        routes: vec![RouteConfig {
            destination: s("default"),
            gateway: s("10.0.0.254"),
            interface: s("eth0"),
        }],
        mounts: vec![MountConfig {
            source: s("fs:/home"),
            target: s("/home"),
            kind: s("nfs"),
            options: s("ro"),
        }],
        groups: vec![GroupConfig { name: s("users"), gid: 100 }],
        accounts: vec![AccountConfig {
            name: s("ann"),
            uid: 1001,
            gid: 100,
            groups: vec![s("wheel")],
            gecos: s("Ann"),
            home: s("/home/ann"),
            shell: s("/bin/sh"),
            password: Secret::new("$6$x"),
            keys: vec![s("ssh-ed25519 AAAA ann")],
        }],
        start_command: Some(StartCommand { command: s("run it"), user: s("ann"), timeout: 60 }),
        nameservers: vec![s("10.0.0.254")],
    }
}

fn site() -> SiteView {
    SiteView {
        cluster: s("mn01"),
        domain: s("cluster.test"),
        nameservers: vec![s("10.0.0.254")],
        dhcp_interfaces: vec![s("eth1")],
        dhcp_lease: 43_200,
        networks: vec![NetworkView {
            name: s("rack1"),
            net: s("10.0.0.0"),
            mask: s("255.255.255.0"),
            interface: s("eth1"),
            gateway: s("<xcatmaster>"),
            dynamic_range: s("10.0.0.200-10.0.0.250"),
            tftpserver: s("10.0.0.254"),
            nameservers: vec![s("10.0.0.254")],
            ntpservers: vec![s("10.0.0.253")],
            domain: s("cluster.test"),
            mtu: 9000,
        }],
        switches: vec![SwitchView {
            name: s("switch1"),
            address: s("10.0.0.9"),
            snmp_version: s("3"),
            user: s("admin"),
            password: Secret::new("secret"),
            privacy: s("aes"),
            auth: s("sha"),
        }],
        settings: vec![(s("ipmitimeout"), s("2"))],
    }
}

fn node() -> NodeView {
    NodeView {
        name: s("n1"),
        arch: s("x86_64"),
        netboot: s("xnba"),
        ip: s("10.0.0.1"),
        aliases: vec![s("cn1")],
        macs: vec![NodeMac { mac: s("02:00:00:00:00:01"), host: s("n1"), ip: s("10.0.0.1") }],
        bmc: Some(BmcView {
            address: s("10.1.0.1"),
            port: 623,
            user: Secret::new("admin"),
            password: Secret::new("pw"),
        }),
        ports: vec![SwitchPort { switch: s("switch1"), port: s("swp3"), interface: s("") }],
        serial: s("S1"),
        mtm: s("M1"),
        uuid: s("0b9d"),
        destiny: s("runcmd=true"),
        boot_generation: 3,
        claimed: true,
        key_fingerprint: s("ab"),
        status: s("booted"),
        kernel_arguments: s("quiet"),
        mgt: s("ipmi"),
        config: config(),
    }
}

pub fn samples() -> Vec<Sample> {
    let report = Report::Status(s("booted"));
    let enrol = Enrol {
        hello: hello(),
        address: s("10.0.0.201:4000"),
        evidence: vec![Evidence { method: s("switch"), node: s("n1"), reason: s("switch1 port swp3") }],
        token: Some(TokenProof { node: s("n1"), generation: 3, digest: s("00ff"), expires: 1_800_000_000 }),
    };
    let view = ViewUpdate {
        revision: Revision(40),
        full: true,
        more: true,
        site: Some(site()),
        nodes: vec![node()],
        removed: vec![s("n2")],
    };
    let fan_out = FanOut {
        action: ActionId(5),
        op: NodeOp::PowerStat,
        nodes: vec![s("n1"), s("n2")],
        window: 64,
        deadline: 10_000,
    };
    vec![
        sample(
            "rack.from.uplink",
            FromRack::Uplink(RackHello {
                version: 1,
                program: s("0.1.0"),
                mirror: Revision(39),
                addresses: vec![s("10.0.0.254:3002")],
                agents: vec![s("n1")],
            }),
        ),
        sample("rack.from.report.enrol", FromRack::Report(RackReport::Enrol(enrol))),
        sample(
            "rack.from.report.node",
            FromRack::Report(RackReport::Node { node: s("n1"), report: report.clone(), at: 1_800_000_000 }),
        ),
        sample(
            "rack.from.report.nodes",
            FromRack::Report(RackReport::Nodes(vec![(
                s("n1"),
                Report::Adapters(vec![adapter()]),
                1_800_000_000,
            )])),
        ),
        sample(
            "rack.from.report.audit",
            FromRack::Report(RackReport::Audit { who: s("node n1"), what: s("claimed to be n2") }),
        ),
        sample(
            "rack.from.join",
            FromRack::Join(JoinRequest { name: s("sn1"), token: s("t"), public_key: vec![48, 89] }),
        ),
        sample("rack.down.not_leader", Down::NotLeader(s("127.0.0.1:3001"))),
        sample("rack.down.refused", Down::Refused(s("unknown service node"))),
        sample("rack.down.view", Down::View(view)),
        sample("rack.down.masters", Down::Masters(vec![s("127.0.0.1:3001")])),
        sample("rack.up.mirrored", Up::Mirrored(Revision(40))),
        sample("rack.up.agents", Up::Agents { up: vec![s("n1")], down: vec![s("n2")] }),
        sample("rack.answer.stored", RackAnswer::Stored(Revision(41))),
        sample(
            "rack.answer.admitted",
            RackAnswer::Admitted {
                node: s("n1"),
                certificate: s("PEM"),
                method: s("switch"),
                revision: Revision(41),
            },
        ),
        sample("rack.answer.pending", RackAnswer::Pending { reason: s("no switch port matches") }),
        sample("rack.answer.denied", RackAnswer::Denied { reason: s("token used before") }),
        sample("rack.answer.not_leader", RackAnswer::NotLeader(s(""))),
        sample("rack.answer.again", RackAnswer::Again(s("no leader"))),
        sample("rack.to.fan_out", ToRack::FanOut(fan_out)),
        sample("rack.fan_out_input.cancel", FanOutInput::Cancel),
        sample("rack.fan_out_input.stdin", FanOutInput::Stdin(vec![9])),
        sample("rack.fan_out_input.stdin_end", FanOutInput::StdinEnd),
        sample(
            "rack.fan_out_event.node",
            FanOutEvent::Node(NodeEvent { node: s("n1"), event: Event::Reply(NodeReply::Text(s("on"))) }),
        ),
        sample(
            "rack.fan_out_event.failed",
            FanOutEvent::Node(NodeEvent {
                node: s("n2"),
                event: Event::Failed { fault: Fault::Timeout, text: s("10.1.0.2: timeout") },
            }),
        ),
        sample("rack.fan_out_event.end", FanOutEvent::End),
        sample(
            "rack.join_answer.joined",
            JoinAnswer::Joined { certificate: s("PEM"), ca: s("PEM"), masters: vec![s("127.0.0.1:3001")] },
        ),
        sample("rack.join_answer.refused", JoinAnswer::Refused(s("token expired"))),
        sample("rack.join_answer.not_leader", JoinAnswer::NotLeader(s(""))),
    ]
}
