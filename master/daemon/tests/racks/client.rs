//! A client that runs one command.

use link::{Connection, Endpoint, Exchange, Role};
use wire::client::{Answer, Input, Request, Run};
use wire::ids::RequestId;
use wire::op::Stream;

use crate::cluster::{Cluster, LIMIT};

pub struct Client {
    connection: Connection,
    exchange: Exchange,
    pub out: String,
    pub err: String,
}

/// A request id that nobody else has.
pub fn id() -> RequestId {
    RequestId { client: service::random::number(), sequence: 1 }
}

impl Client {
    pub async fn start(cluster: &Cluster, line: &str) -> Self {
        Self::resume(cluster, line, id()).await
    }

    /// Sends a request that may have been sent before.
    pub async fn resume(cluster: &Cluster, line: &str, request: RequestId) -> Self {
        Self::of(cluster, &cluster.admin(), line, request).await
    }

    /// Somebody's request.
    pub async fn of(cluster: &Cluster, user: &link::Credentials, line: &str, request: RequestId) -> Self {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = endpoint.dial(cluster.address(), user, wire::ALPN_MAIN, Role::Master).await.unwrap();
        let mut exchange = connection.open().await.unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        let run = Run {
            version: wire::version::CURRENT,
            request,
            command: words.next().unwrap(),
            argv: words.collect(),
            environment: Vec::new(),
            folder: "/".into(),
            terminal_width: 0,
            stdin_piped: false,
        };
        exchange.send(&Request::Run(run)).await.unwrap();
        Self { connection, exchange, out: String::new(), err: String::new() }
    }

    /// Runs a command to its end.
    pub async fn run(cluster: &Cluster, line: &str) -> (String, String, u8) {
        let mut client = Self::start(cluster, line).await;
        let status = client.finish().await;
        (client.out, client.err, status)
    }

    /// Reads until some output has come.
    pub async fn hear(&mut self) {
        let before = self.out.len() + self.err.len();
        while self.out.len() + self.err.len() == before {
            assert!(self.next().await.is_none(), "it ended: {} {}", self.out, self.err);
        }
    }

    /// Reads to the end.
    pub async fn finish(&mut self) -> u8 {
        loop {
            if let Some(status) = self.next().await {
                return status;
            }
        }
    }

    async fn next(&mut self) -> Option<u8> {
        match self.exchange.expect::<Answer>(LIMIT).await.unwrap() {
            Answer::Text(text) => {
                let words = String::from_utf8(text.text).unwrap();
                let words = match text.node {
                    Some(node) => words.lines().map(|line| format!("{node}: {line}\n")).collect(),
                    None => words,
                };
                match text.stream {
                    Stream::Out => self.out.push_str(&words),
                    Stream::Err => self.err.push_str(&words),
                }
                None
            }
            Answer::Done { status, .. } => Some(status),
            Answer::NotLeader(address) => panic!("sent elsewhere: '{address}'"),
            _ => None,
        }
    }

    /// Ctrl-C.
    pub async fn cancel(&mut self) {
        self.exchange.send(&Input::Cancel).await.unwrap();
    }

    /// Dies without a word.
    pub fn kill(self) {
        self.connection.close(9, "killed");
    }
}
