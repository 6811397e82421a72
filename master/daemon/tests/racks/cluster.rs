//! A master in this process, in a folder of its own.

use std::path::PathBuf;
use std::time::Duration;

use link::{Credentials, Endpoint, Role};
use master::init::Init;
use master::{Config, Core, Master, Surroundings};
use service::Drain;
use state::RowChange;
use wire::rack::{FromRack, JoinAnswer, JoinRequest};

/// Nothing in these tests takes longer on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Cluster {
    dir: tempfile::TempDir,
    master: Option<Master>,
    clock: service::Clock,
}

impl Cluster {
    /// A master with these nodes; `name@rack` belongs to one service node, others to every one.
    pub async fn new(nodes: &[&str]) -> Self {
        Self::with_clock(nodes, service::Clock::Real).await
    }

    /// The same with a clock that stands still until the test moves it.
    pub async fn standing(nodes: &[&str]) -> (Self, service::clock::Manual) {
        let manual = service::clock::Manual::new(service::Clock::Real.unix());
        (Self::with_clock(nodes, service::Clock::Manual(manual.clone())).await, manual)
    }

    async fn with_clock(nodes: &[&str], clock: service::Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let init = Init {
            dir: Some(dir.path().to_path_buf()),
            masters: 1,
            cluster: Some("c1".into()),
            domain: String::new(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            admin: Some("root".into()),
            admin_dir: None,
            hosts: dir.path().join("hosts"),
            no_networks: true,
        };
        master::init::init(&init).unwrap();
        let mut cluster = Self { dir, master: None, clock };
        cluster.start().await;
        let mut rows = Vec::new();
        for node in nodes {
            let (name, rack) = node.split_once('@').unwrap_or((node, ""));
            rows.push(RowChange::set("nodelist", &[name], &[("groups", "all")]));
            rows.push(RowChange::set("nodehm", &[name], &[("mgt", "ipmi")]));
            if !rack.is_empty() {
                rows.push(RowChange::set("noderes", &[name], &[("servicenode", rack)]));
            }
        }
        cluster.change(rows).await;
        cluster
    }

    pub async fn start(&mut self) {
        let config = Config::read(&self.path("m1/margayd.toml")).unwrap();
        // The folder goes away at the end of a test, perhaps before the database is closed.
        let surroundings = Surroundings {
            clock: self.clock.clone(),
            on_fault: storage::OnFault::Report,
            ..Surroundings::default()
        };
        let mut spawned = None;
        // A socket of the master before may be held until its last connection is gone.
        until(|| {
            spawned = Master::spawn(config.clone(), Drain::new(), surroundings.clone()).ok();
            spawned.is_some()
        })
        .await;
        let master = spawned.unwrap();
        let core = master.core().clone();
        self.master = Some(master);
        until(|| core.leads() && core.read(state::State::revision) > 0).await;
    }

    pub async fn stop(&mut self) {
        let late = self.master.take().unwrap().finish().await;
        assert!(late.is_empty(), "tasks did not stop: {late:?}");
    }

    pub fn core(&self) -> &Core {
        self.master.as_ref().unwrap().core()
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.master.as_ref().unwrap().address()
    }

    pub fn admin(&self) -> Credentials {
        let file = |name: &str| self.path(&format!("admin/{name}"));
        Credentials::from_files(&file("ca.pem"), &file("cert.pem"), &file("key.pem")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn change(&self, rows: Vec<RowChange>) {
        self.core().change("test", rows).await.unwrap();
    }

    pub async fn set(&self, table: &str, key: &[&str], cells: &[(&str, &str)]) {
        self.change(vec![RowChange::set(table, key, cells)]).await;
    }

    /// A resolved value.
    pub fn text(&self, node: &str, column: &str) -> String {
        self.core().read(|state| state.text(node, column))
    }

    /// Denials in the audit log.
    pub fn denials(&self) -> Vec<String> {
        use state::view::{Tables, column};
        let rows = self.core().read(|state| Tables::rows(state, "auditlog"));
        let denied = rows.iter().filter(|row| column(row, "status") == "denied");
        denied.map(|row| column(row, "args").to_owned()).collect()
    }

    /// The state of a row of taskstate.
    pub fn task(&self, node: &str) -> String {
        self.wait(node, "state")
    }

    /// A column of a row of taskstate.
    pub fn wait(&self, node: &str, name: &str) -> String {
        use state::view::{Tables, column};
        let row = self.core().read(|state| state.row("taskstate", &[node, "getadapter"]));
        row.map(|row| column(&row, name).to_owned()).unwrap_or_default()
    }

    /// How many requests wait at a node.
    pub fn waiters(&self, node: &str) -> usize {
        self.wait(node, "request").split_whitespace().count()
    }

    /// Expects a service node with this token.
    pub async fn expect_rack(&self, name: &str, token: &str, expires: u64) {
        let digest = master::join::token_digest(token);
        let cells = [("tokenhash", digest.as_str()), ("expires", &expires.to_string())];
        self.set("servicenodes", &[name], &cells).await;
    }

    /// The join of a service node with its token, over the enrolment conversation.
    pub async fn join(&self, name: &str, token: &str) -> (JoinAnswer, link::pki::Key) {
        let key = link::pki::Key::generate().unwrap();
        (self.join_with(name, token, &key).await, key)
    }

    pub async fn join_with(&self, name: &str, token: &str, key: &link::pki::Key) -> JoinAnswer {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let pin = link::pki::pin(&self.admin().ca_pem).unwrap();
        let connection = endpoint.dial_pinned(self.address(), pin, wire::ALPN_ENROL).await.unwrap();
        let mut exchange = connection.open().await.unwrap();
        let request =
            JoinRequest { name: name.into(), token: token.into(), public_key: key.public_der.clone() };
        exchange.ask(&FromRack::Join(request), LIMIT).await.unwrap()
    }

    /// Credentials of a service node that joined.
    pub async fn joined(&self, name: &str) -> Credentials {
        let token = format!("token of {name}");
        self.expect_rack(name, &token, service::Clock::Real.unix() + 60).await;
        let (answer, key) = self.join(name, &token).await;
        let JoinAnswer::Joined { certificate, ca, .. } = answer else { panic!("{answer:?}") };
        Credentials { ca_pem: ca, cert_pem: certificate, key_pem: key.key_pem }
    }

    /// Credentials that the CA made for nobody that is registered.
    pub fn forged(&self, role: Role, name: &str) -> Credentials {
        self.core().pki.new_identity(role, name).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(master) = self.master.take() {
            let end = master.finish();
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(end));
        }
    }
}

/// Waits until something holds; looks often, fails after the limit.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let looks = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, looks).await.expect("it never came about");
}
