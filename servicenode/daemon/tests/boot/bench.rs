//! Two namespaces joined by a cable: the service node in one, clients in the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use service::{Clock, Drain, Health};
use servicenode::boots::Boots;
use servicenode::bootstate::{BootConfig, BootState};
use servicenode::dhcp_sock;
use servicenode::http::{Http, Limits};
use servicenode::mirror::Mirror;
use servicenode::tftp_sock::{Loaders, Tftp, everywhere};
use servicenode::tokens::Tokens;
use wire::ids::Revision;
use wire::view::{NetworkView, NodeMac, NodeView, SiteView, ViewUpdate};

pub const SERVER: &str = "10.78.0.1";
pub const CLIENT: &str = "10.78.255.254";
/// The client namespace's own adapter belongs to this node.
pub const NODE_MAC: &str = "52:54:00:78:00:01";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The namespaces; dropping them removes everything inside.
pub struct Cable {
    pub server: String,
    pub client: String,
}

impl Cable {
    pub fn new() -> Cable {
        assert!(rustix_is_root(), "these tests need root: they make network namespaces");
        let id = format!("mg{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cable = Cable { server: format!("{id}s"), client: format!("{id}c") };
        for name in [&cable.server, &cable.client] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let (s, c) = (&cable.server, &cable.client);
        ip(&["-n", s, "link", "add", "vs", "type", "veth", "peer", "name", "vc", "netns", c]);
        ip(&["-n", c, "link", "set", "vc", "address", NODE_MAC]);
        ip(&["-n", s, "addr", "add", &format!("{SERVER}/16"), "dev", "vs"]);
        ip(&["-n", c, "addr", "add", &format!("{CLIENT}/16"), "dev", "vc"]);
        ip(&["-n", s, "link", "set", "vs", "up"]);
        ip(&["-n", c, "link", "set", "vc", "up"]);
        cable
    }

    /// Runs a program among the clients.
    pub fn client(&self, words: &[&str]) -> Output {
        run(&self.client, words)
    }

    /// Runs a program beside the service node.
    pub fn beside(&self, words: &[&str]) -> Output {
        run(&self.server, words)
    }

    /// Starts a program beside the service node that ends with the returned guard.
    pub fn start_beside(&self, words: &[&str], environment: &[(&str, &Path)]) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server]).args(words);
        for (name, value) in environment {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Does something in a thread whose sockets live in the namespace.
    pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))
                    .unwrap();
                work()
            });
            worker.join().unwrap()
        })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A process that ends with this value.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(namespace: &str, words: &[&str]) -> Output {
    Command::new("ip").args(["netns", "exec", namespace]).args(words).output().unwrap()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until the condition holds; fails after half a minute.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come true within 30 s");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A service node's boot services, running in the server namespace.
pub struct Services {
    pub cable: Cable,
    pub state: Arc<BootState>,
    pub folder: tempfile::TempDir,
    pub loader: Vec<u8>,
    pub kernel: Vec<u8>,
    drain: Drain,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Services {
    pub fn start(nodes: Vec<NodeView>) -> Services {
        Self::start_with(nodes, Limits::default())
    }

    pub fn start_with(nodes: Vec<NodeView>, limits: Limits) -> Services {
        let cable = Cable::new();
        let folder = tempfile::tempdir().unwrap();
        let loader = noise(300_001);
        let kernel = noise(3_000_017);
        for (name, content) in
            [("genesis/vmlinuz", &kernel), ("genesis/initrd", &loader), ("loader/undionly.kpxe", &loader)]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::write(folder.path().join("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink("../secret", folder.path().join("genesis/link")).unwrap();
        std::os::unix::fs::symlink("../secret", folder.path().join("loader/link")).unwrap();
        let mirror = Mirror::new();
        let update = ViewUpdate {
            revision: Revision(1),
            full: true,
            site: Some(site()),
            nodes,
            ..ViewUpdate::default()
        };
        mirror.apply(update).unwrap();
        let config = BootConfig {
            state_dir: Some(folder.path().join("state")),
            genesis_dir: folder.path().join("genesis"),
            ca_pem: b"-----BEGIN CERTIFICATE-----\n".to_vec(),
            ca_sha256: [0xca; 32],
            http_port: 80,
            agent_port: 3002,
            kernel_arguments: Vec::new(),
        };
        let state =
            BootState::open(config, mirror, Boots::new(), Tokens::in_memory(), Clock::Real, Health::new())
                .unwrap();
        let drain = Drain::new();
        let (ready, wait) = std::sync::mpsc::channel();
        let (namespace, shared, loaders, stop) =
            (cable.server.clone(), state.clone(), folder.path().join("loader"), drain.clone());
        let thread = std::thread::spawn(move || {
            Cable::within(&namespace, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(serve(shared, &loaders, limits, stop, ready));
            });
        });
        wait.recv_timeout(Duration::from_secs(30)).unwrap();
        Services { cable, state, folder, loader, kernel, drain, thread: Some(thread) }
    }

    pub fn count(&self, name: &str) -> u64 {
        self.state.health.all().into_iter().find(|(n, _)| n == name).map_or(0, |(_, value)| value)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until DHCP listens.
    pub fn dhcp_listens(&self) {
        until("the DHCP socket", || {
            text(&self.cable.beside(&["ss", "-lnu", "sport", "=", ":67"])).contains(":67")
        });
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.drain.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    state: Arc<BootState>,
    loaders: &Path,
    limits: Limits,
    drain: Drain,
    ready: std::sync::mpsc::Sender<()>,
) {
    let loaders = Loaders::read(loaders).unwrap();
    let tftp = Tftp::bind(everywhere(69), state.clone(), loaders.clone()).await.unwrap();
    let http = Http::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80)), state.clone(), loaders, limits)
        .await
        .unwrap();
    drain.spawn("tftp", tftp.serve(drain.clone()));
    drain.spawn("http", http.serve(drain.clone()));
    drain.spawn("dhcp", dhcp_sock::serve(state.clone(), 67, drain.clone()));
    drain.spawn("leases", state.keep_leases(drain.clone()));
    ready.send(()).unwrap();
    drain.stopping().await;
    let left = drain.finish(Duration::from_secs(5)).await;
    assert!(left.is_empty(), "did not stop: {left:?}");
}

fn site() -> SiteView {
    SiteView {
        cluster: "test".into(),
        domain: "cluster.test".into(),
        dhcp_interfaces: vec!["vs".into()],
        dhcp_lease: 3600,
        networks: vec![NetworkView {
            name: "boot".into(),
            net: "10.78.0.0".into(),
            mask: "255.255.0.0".into(),
            gateway: "<xcatmaster>".into(),
            dynamic_range: "10.78.1.1-10.78.127.250".into(),
            ..NetworkView::default()
        }],
        ..SiteView::default()
    }
}

/// A node whose adapter is the client namespace's.
pub fn node(destiny: &str) -> NodeView {
    NodeView {
        name: "n1".into(),
        ip: CLIENT.into(),
        destiny: destiny.into(),
        boot_generation: 3,
        macs: vec![NodeMac { mac: NODE_MAC.into(), ..NodeMac::default() }],
        ..NodeView::default()
    }
}

/// Bytes that do not compress and are the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    (0..length).map(|_| next()).collect()
}
