//! Everything real, in one process: the client, a master with its database, a service node that joined with
//! its token, agents. Only the machines below the agents are folders.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use cli::config::Config;
use cli::render::Render;
use master::init::{Init, init};
use master::{Master, Surroundings};
use rack::{Running, eventually, localhost, quiet_config};
use service::Drain;
use servicenode::ServiceNode;
use storage::OnFault;
use wire::agent::Phase;
use wire::hardware::{Adapter, Hardware, LinkState};

struct Whole {
    dir: tempfile::TempDir,
    master: Option<Master>,
    node: ServiceNode,
    drain: Drain,
    pin: [u8; 32],
}

impl Whole {
    /// A master, and a service node that joined as an administrator lets it join.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments = Init {
            dir: Some(dir.path().to_owned()),
            masters: 1,
            cluster: Some("mn01".into()),
            domain: String::new(),
            listen: vec![localhost()],
            admin: Some("root".into()),
            admin_dir: None,
            hosts: dir.path().join("hosts"),
            no_networks: true,
        };
        init(&arguments).unwrap();
        let master = master_of(dir.path()).await;
        let config = Config::read(&dir.path().join("admin/client.toml")).unwrap();
        let (out, err, status) = margay(&config, "margay sn add sn1").await;
        assert_eq!(status, 0, "{err}");
        let told = |what: &str| {
            let line = out.lines().find_map(|line| line.strip_prefix(&format!("sn1: {what} "))).unwrap();
            line.to_owned()
        };
        let state = dir.path().join("sn1");
        std::fs::create_dir_all(&state).unwrap();
        let masters: Vec<String> = told("masters").split(',').map(str::to_owned).collect();
        servicenode::join::join(&state, "sn1", &told("token"), &masters, &told("ca")).await.unwrap();
        let thief = dir.path().join("thief");
        let again = servicenode::join::join(&thief, "sn1", &told("token"), &masters, &told("ca")).await;
        assert!(again.unwrap_err().to_string().contains("used before"), "a token works once");
        let drain = Drain::new();
        let node = ServiceNode::start(quiet_config(&state, localhost()), &drain).await.unwrap();
        let pin = link::pki::parse_pin(&told("ca")).unwrap();
        let whole = Self { dir, master: Some(master), node, drain, pin };
        whole.connected().await;
        whole
    }

    /// Waits until the service node is connected.
    async fn connected(&self) {
        let core = self.master.as_ref().unwrap().core();
        eventually("the service node is connected", || core.racks.status().len() == 1).await.unwrap();
    }

    async fn margay(&self, line: &str) -> (String, String, i32) {
        margay(&Config::read(&self.dir.path().join("admin/client.toml")).unwrap(), line).await
    }

    /// Runs a command that must succeed.
    async fn good(&self, line: &str) -> String {
        let (out, err, status) = self.margay(line).await;
        assert_eq!(status, 0, "{line}: {out}{err}");
        out
    }

    /// A machine with this serial number, which boots the discovery image or its system.
    fn machine(&self, root: &Path, serial: &str, phase: Phase) -> Running {
        let mut config = agent::Config::new(root, vec![self.node.agent_address().unwrap()], self.pin, phase);
        let card = Adapter {
            name: "eno1".into(),
            mac: format!("02:00:00:00:00:{serial}"),
            link: LinkState::Up,
            ..Adapter::default()
        };
        config.hardware = Some(Box::new(Hardware {
            arch: "x86_64".into(),
            uuid: format!("uuid-{serial}"),
            mtm: "PE860".into(),
            serial: serial.into(),
            boot_mac: card.mac.clone(),
            adapters: vec![card],
            ..Hardware::default()
        }));
        Running::start(config)
    }

    async fn agent(&self, node: &str) {
        let core = self.master.as_ref().unwrap().core();
        eventually("the agent is connected", || core.racks.is_connected(node)).await.unwrap();
    }

    fn text(&self, node: &str, column: &str) -> String {
        self.master.as_ref().unwrap().core().read(|state| state.text(node, column))
    }

    async fn becomes(&self, node: &str, column: &str, value: &str) {
        let what = format!("{node} {column} is '{value}'");
        if eventually(&what, || self.text(node, column) == value).await.is_err() {
            panic!("{what}, but '{}'", self.text(node, column));
        }
    }

    async fn finish(mut self) {
        self.drain.finish(Duration::from_secs(10)).await;
        self.node.close().await;
        self.master.take().unwrap().finish().await;
    }
}

async fn master_of(dir: &Path) -> Master {
    let config = master::Config::read(&dir.join("m1/margayd.toml")).unwrap();
    let surroundings = Surroundings { on_fault: OnFault::Report, ..Surroundings::default() };
    let mut master = None;
    // The port may still belong to the connections of the one before.
    eventually("the master starts", || {
        master = Master::spawn(config.clone(), Drain::new(), surroundings.clone()).ok();
        master.is_some()
    })
    .await
    .unwrap();
    master.unwrap()
}

async fn margay(config: &Config, line: &str) -> (String, String, i32) {
    let mut words = line.split(' ').map(str::to_owned);
    let mut run = cli::request(words.next().unwrap(), words.collect());
    run.stdin_piped = false;
    let mut render = Render::new(Vec::new(), Vec::new(), false);
    let status = cli::session::run_on(config, run, &mut render).await;
    let (out, err) = render.into_parts();
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_machine_is_listed_named_commanded_and_asked_for_its_adapters() {
    let whole = Whole::start().await;
    whole.good("nodeadd n1 groups=all").await;
    whole.good("chtab node=n1 chain.chain=runcmd=true,standby").await;
    let root = tempfile::tempdir().unwrap();
    let machine = whole.machine(root.path(), "01", Phase::Genesis);
    let core = whole.master.as_ref().unwrap().core().clone();
    let listed = || core.read(|state| state.named("discoverydata").unwrap().len() == 1);
    eventually("the machine is listed", listed).await.unwrap();
    let list = whole.good("nodediscoverls -t undef -l").await;
    assert!(list.contains("reason=switch:") && list.contains("reason=mtms:"), "{list}");
    assert_eq!(whole.good("nodediscoverdef -u uuid-01 -n n1").await, "Defined [uuid-01] to node n1.\n");
    whole.agent("n1").await;
    whole.becomes("n1", "chain.currstate", "standby").await;
    whole.becomes("n1", "nodelist.status", "standingby").await;
    let shown = whole.good("nodels n1 vpd.serial vpd.mtm mac.mac nodetype.arch").await;
    for cell in ["vpd.serial: 01", "vpd.mtm: PE860", "mac.mac: 02:00:00:00:00:01", "nodetype.arch: x86_64"] {
        assert!(shown.contains(&format!("n1: {cell}\n")), "{shown}");
    }
    assert_eq!(whole.good("xdsh n1 echo hello").await, "n1: hello\n");
    let shown = whole.good("getadapter n1").await;
    assert!(shown.ends_with("n1:[0]->eno1!mac=02:00:00:00:00:01|linkstate=UP\n"), "{shown}");
    let list = whole.good("nodediscoverls").await;
    assert!(list.contains("uuid-01") && list.contains("manual"), "{list}");
    machine.stop().await.unwrap();
    whole.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_expected_is_recognized_and_a_twin_of_it_is_not() {
    let whole = Whole::start().await;
    whole.good("nodeadd n1-n2 groups=all").await;
    whole.good("chtab node=n1 vpd.serial=01 vpd.mtm=PE860").await;
    let roots = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machine = whole.machine(roots.0.path(), "01", Phase::Genesis);
    whole.agent("n1").await;
    let key = whole.text("n1", "identity.fingerprint");
    assert_eq!((key.len(), whole.text("n1", "identity.level").as_str()), (64, "mtms"));
    let twin = whole.machine(roots.1.path(), "01", Phase::Genesis);
    let core = whole.master.as_ref().unwrap().core().clone();
    let denied = || {
        use state::view::{Tables, column};
        let rows = core.read(|state| Tables::rows(state, "auditlog"));
        rows.iter()
            .any(|row| column(row, "status") == "denied" && column(row, "args").contains("claims node n1"))
    };
    eventually("the twin is audited", denied).await.unwrap();
    assert_eq!(whole.text("n1", "identity.fingerprint"), key);
    assert_eq!(whole.good("xdsh n1 echo still here").await, "n1: still here\n");
    machine.stop().await.unwrap();
    twin.kill();
    whole.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booted_node_sets_itself_up_and_a_changed_row_reaches_it_at_once() {
    let whole = Whole::start().await;
    whole.good("nodeadd n1 groups=all").await;
    whole.good("chtab node=n1 vpd.serial=01 vpd.mtm=PE860").await;
    whole.good("chtab node=n1 hosts.ip=10.0.0.1").await;
    let root = tempfile::tempdir().unwrap();
    let machine = whole.machine(root.path(), "01", Phase::System);
    whole.becomes("n1", "nodelist.status", "booted").await;
    let hosts = std::fs::read_to_string(root.path().join("etc/hosts")).unwrap();
    assert!(hosts.contains("10.0.0.1"), "{hosts}");
    let begin = Instant::now();
    whole.good("chtab node=n1 hosts.hostnames=login").await;
    eventually("the alias is in the hosts file", || {
        std::fs::read_to_string(root.path().join("etc/hosts")).is_ok_and(|hosts| hosts.contains("login"))
    })
    .await
    .unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let generation = whole.master.as_ref().unwrap().core().read(|state| state.config_revision("n1"));
    whole.becomes("n1", "selfconf.generation", &generation.to_string()).await;
    machine.stop().await.unwrap();
    whole.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_restarts_finds_its_rack_again() {
    let mut whole = Whole::start().await;
    whole.good("nodeadd n1 groups=all").await;
    whole.good("chtab node=n1 vpd.serial=01 vpd.mtm=PE860").await;
    let root = tempfile::tempdir().unwrap();
    let machine = whole.machine(root.path(), "01", Phase::Genesis);
    whole.agent("n1").await;
    whole.master.take().unwrap().finish().await;
    whole.master = Some(master_of(whole.dir.path()).await);
    whole.connected().await;
    whole.agent("n1").await;
    assert_eq!(whole.good("xdsh n1 echo back").await, "n1: back\n");
    machine.stop().await.unwrap();
    whole.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodestat_knocks_at_applications_asks_for_the_power_of_silent_nodes_and_keeps_what_it_found() {
    let whole = Whole::start().await;
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = app.local_addr().unwrap().port();
    whole.good("nodeadd n1,n2 groups=all").await;
    whole.good("chtab node=n1 hosts.ip=127.0.0.1").await;
    for (key, value) in [
        ("apps", "db,away,other,script".to_owned()),
        ("db", format!("port={port},group=all")),
        ("away", format!("port={closed}")),
        ("other", format!("port={port},group=nosuchgroup")),
        ("script", "dcmd=/bin/true".to_owned()),
    ] {
        whole.good(&format!("chtab name=xcatmon,key={key} monsetting.value={value}")).await;
    }
    // Until the service node has the address of the node.
    let mut said = String::new();
    let limit = Instant::now() + Duration::from_secs(60);
    while Instant::now() < limit {
        said = whole.margay("nodestat all -m -p -u").await.0;
        if said.contains("n1: ping") || said.contains("n1: sshd") {
            break;
        }
    }
    let one = said.lines().find(|line| line.starts_with("n1: ")).unwrap();
    assert!(matches!(one, "n1: ping,db" | "n1: sshd,db"), "{said}");
    assert!(said.contains("n2: noping(nothing says how to reach its BMC; set ipmi.bmc)\n"), "{said}");
    let warned = whole.margay("nodestat n1 -m").await.1;
    assert!(warned.contains("Warning: [mn01]: script: no port=NUMBER"), "{warned}");
    whole.becomes("n1", "nodelist.status", "alive").await;
    whole.becomes("n2", "nodelist.status", "unreachable").await;
    assert!(whole.text("n1", "nodelist.appstatus").ends_with("db"));
    assert!(!whole.text("n1", "nodelist.statustime").is_empty());
    whole.finish().await;
}
