//! A bridge's live forwarding table served by net-snmp, asked by us and by snmpwalk.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use netboot::World;
use service::{Clock, Health};
use servicenode::switches::{Switches, Timing};
use wire::ids::Revision;
use wire::names::Mac;
use wire::rack::Evidence;
use wire::secret::Secret;
use wire::view::{NodeView, SiteView, SwitchPort, SwitchView, ViewUpdate};

use super::bench::{Cable, NODE_MAC, Running, text, until};

/// A switch beside the server end of a cable: the bridge br0 with the ports swp1, where
/// the client is, and swp2.
struct Switch {
    cable: Cable,
    folder: tempfile::TempDir,
}

impl Switch {
    fn new() -> Switch {
        let cable = Cable::new();
        let folder = tempfile::tempdir().unwrap();
        let beside = |words: &[&str]| {
            let output = cable.beside(&[&["ip"], words].concat());
            assert!(output.status.success(), "{words:?}: {}", text(&output));
        };
        beside(&["link", "add", "br0", "type", "bridge"]);
        beside(&["link", "set", "vs", "down"]);
        beside(&["addr", "flush", "dev", "vs"]);
        beside(&["link", "set", "vs", "name", "swp1"]);
        beside(&["link", "set", "swp1", "master", "br0", "up"]);
        beside(&["link", "set", "br0", "up"]);
        beside(&["addr", "add", "10.78.0.1/16", "dev", "br0"]);
        beside(&["link", "add", "swp2", "type", "veth", "peer", "name", "far"]);
        beside(&["link", "set", "far", "up"]);
        beside(&["link", "set", "swp2", "master", "br0", "up"]);
        Switch { cable, folder }
    }

    fn snmpd(&self) -> Running {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/bridge_mib.py");
        let config = self.folder.path().join("snmpd.conf");
        let lines = format!(
            "rocommunity public\nrocommunity inner\ncreateUser alice SHA \"password1\" AES \"password1\"\nrouser alice authpriv\n\
             createUser bob MD5 \"password2\" DES \"password2\"\nrouser bob authpriv\n\
             pass_persist .1.3.6.1.2.1.17 {} {} br0\n",
            python(),
            script.display()
        );
        std::fs::write(&config, lines).unwrap();
        let state = self.folder.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        let config = config.to_str().unwrap();
        let words = ["snmpd", "-f", "-Ln", "-C", "-c", config, "udp:161"];
        let running = self.cable.start_beside(&words, &[("SNMP_PERSISTENT_DIR", &state)]);
        until("snmpd", || {
            self.cable
                .beside(&["snmpget", "-v2c", "-cpublic", "-t1", "-r0", "10.78.0.1", ".1.3.6.1.2.1.1.1.0"])
                .status
                .success()
        });
        running
    }

    /// The client makes itself heard, so that the bridge learns it.
    fn hear(&self) {
        Cable::within(&self.cable.client, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket
                .send_to(b"x", ("255.255.255.255", 9))
                .or_else(|_| socket.send_to(b"x", ("10.78.0.1", 9)))
                .unwrap();
        });
        until("the bridge learns", || {
            text(&self.cable.beside(&["bridge", "fdb", "show", "br", "br0"])).contains(NODE_MAC)
        });
    }

    fn ask(&self, switches: &Switches, world: &World, mac: &str) -> Evidence {
        let mac = Mac::parse(mac).unwrap();
        Cable::within(&self.cable.server, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(switches.port_of(world, &[mac]))
        })
    }
}

fn python() -> String {
    let paths = std::env::var("PATH").unwrap_or_default();
    let mut all = std::iter::once("/usr/bin").chain(paths.split(':')).map(|p| format!("{p}/python3"));
    all.find(|path| Path::new(path).exists()).expect("python3 is installed")
}

fn switch(version: &str, user: &str, password: &str, auth: &str, privacy: &str) -> SwitchView {
    SwitchView {
        name: "s1".into(),
        address: "10.78.0.1".into(),
        snmp_version: version.into(),
        user: user.into(),
        password: Secret::new(password),
        auth: auth.into(),
        privacy: privacy.into(),
    }
}

fn world(switch: SwitchView) -> World {
    let node = |name: &str, port: &str| NodeView {
        name: name.into(),
        ports: vec![SwitchPort { switch: "s1".into(), port: port.into(), interface: String::new() }],
        ..NodeView::default()
    };
    let site = SiteView { switches: vec![switch], ..SiteView::default() };
    let mut world = World::default();
    world.apply(&ViewUpdate {
        revision: Revision(1),
        site: Some(site),
        nodes: vec![node("n1", "1"), node("n2", "swp2")],
        ..ViewUpdate::default()
    });
    world
}

fn timing() -> Timing {
    Timing {
        retry: Duration::ZERO,
        request: Duration::from_millis(400),
        walk: Duration::from_secs(10),
        ..Timing::default()
    }
}

fn asker(switch: &Switch) -> Switches {
    Switches::new(timing(), Clock::Real, Health::new(), Some(switch.folder.path().into()))
}

#[test]
fn machine_is_found_by_every_version_of_snmp() {
    let bench = Switch::new();
    let _snmpd = bench.snmpd();
    bench.hear();
    for row in [
        switch("1", "", "public", "", ""),
        switch("2c", "", "", "", ""),
        switch("2", "", "inner", "", ""),
        switch("3", "alice", "password1", "sha", "aes"),
        switch("3", "bob", "password2", "md5", "des"),
    ] {
        let said = format!("{row:?}");
        let found = bench.ask(&asker(&bench), &world(row), NODE_MAC);
        assert_eq!(found.node, "n1", "{said}: {}", found.reason);
        assert_eq!(found.reason, format!("{NODE_MAC} is at s1 port swp1"));
    }
}

#[test]
fn snmpwalk_agrees_with_us_and_a_wrong_password_is_named() {
    let bench = Switch::new();
    let _snmpd = bench.snmpd();
    bench.hear();
    let walked = text(&bench.cable.beside(&[
        "snmpwalk",
        "-v2c",
        "-cpublic",
        "-On",
        "10.78.0.1",
        ".1.3.6.1.2.1.17.4.3.1.2",
    ]));
    assert!(walked.contains(".82.84.0.120.0.1 = INTEGER: 1"), "{walked}");
    let row = switch("3", "alice", "wrong-password", "sha", "aes");
    let found = bench.ask(&asker(&bench), &world(row), NODE_MAC);
    assert!(
        found.node.is_empty() && found.reason.contains("s1 (10.78.0.1)") && found.reason.contains("password"),
        "{}",
        found.reason
    );
    let unknown = bench.ask(&asker(&bench), &world(switch("2c", "", "", "", "")), "52:54:00:00:00:99");
    assert_eq!((unknown.node.as_str(), unknown.reason.as_str()), ("", "s1 does not know the machine's MACs"));
}

#[test]
fn moved_cable_and_a_switch_that_fell_silent_are_noticed_in_spite_of_the_kept_walk() {
    let bench = Switch::new();
    let snmpd = bench.snmpd();
    bench.hear();
    let timing = Timing { rest: Duration::ZERO, ..timing() };
    let switches = Switches::new(timing, Clock::Real, Health::new(), None);
    let world = world(switch("2c", "", "", "", ""));
    Cable::within(&bench.cable.server, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = || runtime.block_on(switches.port_of(&world, &[Mac::parse(NODE_MAC).unwrap()]));
        assert_eq!(ask().node, "n1");
        // The port that the cable ends at is another one now.
        let beside = |words: &[&str]| assert!(bench.cable.beside(words).status.success(), "{words:?}");
        let move_it = || beside(&["bridge", "fdb", "replace", NODE_MAC, "dev", "swp2", "master", "dynamic"]);
        until("the move is noticed", || {
            // A frame of the machine (it looks for routers by itself) moves the entry back: move it again.
            move_it();
            ask().node == "n2"
        });
        drop(snmpd);
        let found = ask();
        assert!(found.node.is_empty() && found.reason.contains("s1 (10.78.0.1)"), "{}", found.reason);
    });
}

#[test]
fn silent_switch_is_named_and_found_again_when_it_is_back() {
    let bench = Switch::new();
    bench.hear();
    let (switches, world) = (asker(&bench), world(switch("2c", "", "", "", "")));
    let found = bench.ask(&switches, &world, NODE_MAC);
    assert!(found.node.is_empty() && found.reason.starts_with("s1 (10.78.0.1) "), "{}", found.reason);
    let switches = asker(&bench);
    let _snmpd = bench.snmpd();
    let found = bench.ask(&switches, &world, NODE_MAC);
    assert_eq!(found.node, "n1", "{}", found.reason);
}

#[test]
fn machine_that_comes_after_the_walk_is_asked_for_by_itself() {
    let bench = Switch::new();
    let _snmpd = bench.snmpd();
    let health = Health::new();
    let switches = Switches::new(timing(), Clock::Real, health.clone(), None);
    let world = world(switch("2c", "", "", "", ""));
    let late = "52:54:00:78:00:55";
    Cable::within(&bench.cable.server, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = || runtime.block_on(switches.port_of(&world, &[Mac::parse(late).unwrap()]));
        assert!(ask().node.is_empty());
        let output = bench.cable.client(&["ip", "link", "set", "vc", "address", late]);
        assert!(output.status.success());
        until("it is found", || {
            bench.cable.client(&["ping", "-c1", "-W1", "10.78.0.1"]);
            ask().node == "n1"
        });
    });
    let count = |name: &str| health.all().into_iter().find(|(n, _)| n == name).map_or(0, |(_, v)| v);
    assert_eq!((count("snmp_walks"), count("snmp_single_questions")), (1, 1));
}

/// A question with its first byte of kind changed to that of an answer, and its request id to `id`.
fn answered(question: &[u8], id: Option<[u8; 4]>) -> Vec<u8> {
    let mut answer = question.to_vec();
    // The community ends where the question begins; both have short lengths.
    let kind = 5 + 2 + usize::from(question[6]);
    answer[kind] = 0xa2;
    if let Some(id) = id {
        let length = usize::from(question[kind + 3]);
        answer[kind + 4..kind + 4 + length].copy_from_slice(&id[..length]);
    }
    answer
}

/// What is found where so many questions are answered like this, and two counters.
fn ask_a_liar(questions: usize, lies: fn(&[u8]) -> Vec<Vec<u8>>) -> (Evidence, u64, u64) {
    let health = Health::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let row = SwitchView { address, ..switch("2c", "", "", "", "") };
    let switches = Switches::new(timing(), Clock::Real, health.clone(), None);
    let liar = std::thread::spawn(move || {
        let mut question = [0; 1_500];
        for _ in 0..questions {
            let (length, from) = socket.recv_from(&mut question).unwrap();
            for lie in lies(&question[..length]) {
                socket.send_to(&lie, from).unwrap();
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(switches.port_of(&world(row), &[Mac::parse(NODE_MAC).unwrap()]));
    liar.join().unwrap();
    let count = |name: &str| health.all().into_iter().find(|(n, _)| n == name).map_or(0, |(_, v)| v);
    assert_eq!(count("snmp_failures"), 1);
    (found, count("snmp_dropped_malformed"), count("snmp_dropped_unasked"))
}

#[test]
fn what_is_no_snmp_or_answers_no_question_is_counted_and_said() {
    // The first question and its two repetitions.
    let (found, malformed, unasked) = ask_a_liar(3, |question| {
        let cut = &answered(question, None)[..question.len() - 1];
        let other = answered(question, Some([1, 2, 3, 4]));
        vec![Vec::new(), vec![0x30; 30], vec![0x30; 60_000], cut.to_vec(), other]
    });
    assert!(found.node.is_empty(), "{found:?}");
    assert!(found.reason.contains("did not answer SNMP"), "{}", found.reason);
    assert!(found.reason.contains("malformed or answered no question"), "{}", found.reason);
    assert_eq!((malformed, unasked), (12, 3));
}

#[test]
fn an_answer_that_says_the_question_again_is_named_as_wrong() {
    let (found, malformed, unasked) = ask_a_liar(1, |question| vec![answered(question, None)]);
    assert!(found.node.is_empty() && found.reason.contains("answers wrongly"), "{found:?}");
    assert_eq!((malformed, unasked), (0, 0));
}
