//! A cluster on loopback and a client of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use link::{Credentials, Endpoint, Exchange, Role, Settings};
use master::init::{Init, init};
use master::pki::Pki;
use master::{Config, Core, Master, Surroundings};
use service::{Clock, Drain};
use storage::{OnFault, Timing};
use wire::client::{Answer, Input, Request, Run};
use wire::ids::{ActionId, RequestId};
use wire::op::Stream;

/// Longer than anything may take on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Masters in this process.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    masters: Vec<Option<Master>>,
    clock: Clock,
}

impl Cluster {
    /// Makes and starts `count` masters and waits until one leads and the cluster is founded.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, |_| ()).await
    }

    /// The same with a clock that stands still until the test moves it.
    pub async fn standing(count: usize) -> (Self, service::clock::Manual) {
        let manual = service::clock::Manual::new(Clock::Real.unix());
        (Self::start_all(count, Clock::Manual(manual.clone()), |_| ()).await, manual)
    }

    /// [`Cluster::start`] with changed settings.
    pub async fn start_with(count: usize, set: impl Fn(&mut Config)) -> Self {
        Self::start_all(count, Clock::Real, set).await
    }

    pub async fn start_all(count: usize, clock: Clock, set: impl Fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), count);
        for member in 1..=count {
            let path = dir.path().join(format!("m{member}/margayd.toml"));
            let mut config: Config = service::config::load(&path).unwrap();
            set(&mut config);
            std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        }
        let mut cluster = Self { dir, masters: Vec::new(), clock };
        for index in 0..count {
            cluster.masters.push(None);
            cluster.start_member(index).await;
        }
        cluster.founded().await;
        cluster
    }

    /// Starts a member; the socket of an earlier one may take a moment to be free.
    pub async fn start_member(&mut self, index: usize) {
        let config = Config::read(&self.dir.path().join(format!("m{}/margayd.toml", index + 1))).unwrap();
        let timing = Timing { tick: Duration::from_millis(25), heartbeat_ticks: 2, election_ticks: 20 };
        let deadline = Instant::now() + LONG;
        let master = loop {
            let surroundings = Surroundings { clock: self.clock.clone(), timing, on_fault: OnFault::Report };
            match Master::spawn(config.clone(), Drain::new(), surroundings) {
                Ok(master) => break master,
                Err(error) if Instant::now() > deadline => panic!("{error:#}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.masters[index] = Some(master);
    }

    pub async fn stop_member(&mut self, index: usize) {
        self.masters[index].take().unwrap().finish().await;
    }

    pub async fn founded(&self) {
        until("the cluster is founded", || {
            self.masters().any(|core| core.leads() && core.read(|s| s.revision()) > 0)
        })
        .await;
    }

    fn masters(&self) -> impl Iterator<Item = &Core> {
        self.masters.iter().flatten().map(Master::core)
    }

    pub fn core(&self, index: usize) -> &Core {
        self.masters[index].as_ref().unwrap().core()
    }

    pub fn leader(&self) -> Option<usize> {
        (0..self.masters.len()).find(|index| self.masters[*index].as_ref().is_some_and(|m| m.core().leads()))
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.masters.iter().flatten().map(Master::address).collect()
    }

    /// The first admin.
    pub fn admin(&self) -> Client {
        Client::new(admin(self.dir.path()), self.addresses())
    }

    /// Somebody with a certificate of the cluster's CA.
    pub fn client(&self, role: Role, name: &str) -> Client {
        Client::new(credentials(self.dir.path(), role, name), self.addresses())
    }
}

impl Drop for Cluster {
    /// A database that is still open when the process ends takes the process down with it.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for master in self.masters.iter().flatten() {
            tokio::task::block_in_place(|| runtime.block_on(master.core().group.close()));
        }
    }
}

/// Writes the files of a new cluster.
pub fn make(dir: &Path, masters: usize) {
    let arguments = Init {
        dir: Some(dir.to_owned()),
        masters,
        cluster: Some("mn01".into()),
        domain: "cluster.test".into(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        admin: Some("root".into()),
        admin_dir: None,
        hosts: dir.join("hosts"),
        no_networks: true,
    };
    init(&arguments).unwrap();
}

pub fn admin(dir: &Path) -> Credentials {
    let file = |name: &str| dir.join("admin").join(name);
    Credentials::from_files(&file("ca.pem"), &file("cert.pem"), &file("key.pem")).unwrap()
}

pub fn credentials(dir: &Path, role: Role, name: &str) -> Credentials {
    let text = |name: &str| std::fs::read_to_string(dir.join("m1").join(name)).unwrap();
    Pki::load("mn01", &text("ca.pem"), &text("ca.key"), Clock::Real)
        .unwrap()
        .new_identity(role, name)
        .unwrap()
}

/// Waits for a condition, with a deadline.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a client was told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: u8,
    pub action: Option<ActionId>,
    /// Files that were written.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A command to be run.
pub struct Call {
    pub run: Run,
    pub files: BTreeMap<String, Vec<u8>>,
    pub stdin: Vec<u8>,
    /// What is answered to a question.
    pub reply: String,
}

/// A command line as a call; arguments are split at blanks.
pub fn call(line: &str) -> Call {
    let mut words = line.split(' ').map(str::to_owned);
    let command = words.next().unwrap();
    Call {
        run: Run {
            version: wire::version::CURRENT,
            request: RequestId { client: service::random::number(), sequence: 1 },
            command,
            argv: words.collect(),
            environment: Vec::new(),
            folder: "/".into(),
            terminal_width: 0,
            stdin_piped: false,
        },
        files: BTreeMap::new(),
        stdin: Vec::new(),
        reply: String::new(),
    }
}

impl Call {
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.run.stdin_piped = true;
        self.stdin = bytes.to_vec();
        self
    }

    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
        self
    }
}

/// A client that follows the leader and sends again what was lost, with the same request id.
pub struct Client {
    pub endpoint: Endpoint,
    pub credentials: Credentials,
    pub masters: Vec<SocketAddr>,
}

impl Client {
    pub fn new(credentials: Credentials, masters: Vec<SocketAddr>) -> Self {
        let settings = Settings {
            keep_alive: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(3),
            dial_timeout: Duration::from_secs(5),
            ..Settings::small()
        };
        let endpoint = Endpoint::client_with("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        Self { endpoint, credentials, masters }
    }

    /// Opens a conversation with one master.
    pub async fn open(&self, master: usize, request: &Request) -> Result<Exchange, link::LinkError> {
        let address = self.masters[master];
        let connection =
            self.endpoint.dial(address, &self.credentials, wire::ALPN_MAIN, Role::Master).await?;
        let mut exchange = connection.open().await?;
        exchange.send(request).await?;
        Ok(exchange)
    }

    /// Runs a command line and waits for its end.
    pub async fn run(&self, line: &str) -> Said {
        self.finish(call(line)).await.unwrap_or_else(|why| panic!("{line}: {why}"))
    }

    /// Runs a command whose success is expected; gives its standard output.
    pub async fn ok(&self, line: &str) -> String {
        let said = self.run(line).await;
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{line}");
        said.out
    }

    /// Runs a call to its end, at whichever master answers.
    pub async fn finish(&self, call: Call) -> Result<Said, String> {
        let deadline = Instant::now() + LONG;
        let mut why = String::new();
        let mut master = 0;
        while Instant::now() < deadline {
            match self.once(&call, master).await {
                Ok(Some(said)) => return Ok(said),
                Ok(None) => why = "not the leader".to_owned(),
                Err(error) => why = error.to_string(),
            }
            master = (master + 1) % self.masters.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(why)
    }

    async fn once(&self, call: &Call, master: usize) -> Result<Option<Said>, link::LinkError> {
        let mut exchange = self.open(master, &Request::Run(call.run.clone())).await?;
        let mut said = Said::default();
        while let Some(answer) = exchange.recv::<Answer>().await? {
            match answer {
                Answer::Done { status, .. } => return Ok(Some(Said { status, ..said })),
                Answer::NotLeader(_) => return Ok(None),
                other => self.take(other, call, &mut said, &mut exchange).await?,
            }
        }
        Err(link::LinkError::Ended)
    }

    async fn take(
        &self,
        answer: Answer,
        call: &Call,
        said: &mut Said,
        exchange: &mut Exchange,
    ) -> Result<(), link::LinkError> {
        match answer {
            Answer::Text(text) => {
                let sink = if text.stream == Stream::Out { &mut said.out } else { &mut said.err };
                for line in String::from_utf8_lossy(&text.text).split_inclusive('\n') {
                    if let Some(node) = &text.node {
                        sink.push_str(&format!("{node}: "));
                    }
                    sink.push_str(line);
                }
            }
            Answer::Accepted(id) => said.action = Some(id),
            Answer::WantFile { path, .. } | Answer::Edit { name: path, last: true, .. } => {
                let input = match call.files.get(&path) {
                    Some(bytes) => Input::File { path, bytes: bytes.clone(), last: true },
                    None => Input::FileError { path, reason: "No such file or directory".into() },
                };
                exchange.send(&input).await?;
            }
            Answer::WantFolder { path, .. } => {
                let folder = format!("{}/", path.trim_end_matches('/'));
                let names: Vec<&str> =
                    call.files.keys().filter_map(|file| file.strip_prefix(&folder)).collect();
                let input = match names.is_empty() {
                    false => Input::File { path, bytes: names.join("\n").into_bytes(), last: true },
                    true => Input::FileError { path, reason: "No such file or directory".into() },
                };
                exchange.send(&input).await?;
            }
            Answer::WantStdin => {
                for piece in call.stdin.chunks(64 * 1024) {
                    exchange.send(&Input::Stdin(piece.to_vec())).await?;
                }
                exchange.send(&Input::StdinEnd).await?;
            }
            Answer::FilePiece { path, bytes } => said.files.entry(path).or_default().extend(bytes),
            Answer::WriteFile { path, bytes, .. } => said.files.entry(path).or_default().extend(bytes),
            Answer::Ask(question) => {
                said.err.push_str(&question);
                exchange.send(&Input::Reply(call.reply.clone())).await?;
            }
            _ => {}
        }
        Ok(())
    }
}
