//! Three members over QUIC on loopback.

use std::net::SocketAddr;
use std::time::Instant;

use link::pki::Authority;
use link::{Credentials, Endpoint, Settings};
use service::Clock;

use super::*;

/// Three members whose parts can be stopped and started again.
struct Cluster {
    directory: tempfile::TempDir,
    authority: Authority,
    members: Vec<Member>,
    nodes: Vec<Option<Node>>,
    keep_entries: u64,
}

struct Node {
    group: Group<Words>,
    endpoint: Endpoint,
    drain: Drain,
}

impl Cluster {
    async fn start(keep_entries: u64) -> Self {
        let authority = Authority::create("c1", Clock::Real.unix()).unwrap();
        // Take three free ports; each member binds its own right afterwards.
        let free: Vec<_> = (0..3).map(|_| std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap()).collect();
        let members = (1..=3)
            .zip(&free)
            .map(|(id, socket)| Member { id, name: format!("m{id}"), address: socket.local_addr().unwrap() })
            .collect();
        drop(free);
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Self { directory, authority, members, nodes: vec![None, None, None], keep_entries };
        for index in 0..3 {
            cluster.up(index).await;
        }
        cluster
    }

    fn credentials(&self, role: link::Role, name: &str) -> Credentials {
        self.authority.credentials(role, name, Clock::Real.unix(), Duration::from_secs(3600)).unwrap()
    }

    async fn up(&mut self, index: usize) {
        let member = &self.members[index];
        let credentials = self.credentials(link::Role::Master, &member.name);
        let endpoint = bind(member.address, &credentials).await;
        let drain = Drain::new();
        let options = Options {
            directory: self.directory.path().join(&member.name),
            id: member.id,
            members: self.members.clone(),
            keep_entries: self.keep_entries,
            timing: Timing { tick: Duration::from_millis(30), heartbeat_ticks: 2, election_ticks: 20 },
            ..single(Path::new(""))
        };
        let transport = Transport::new(endpoint.clone(), credentials);
        let group = Group::open(options, Words::default(), Some(transport), &drain).unwrap();
        let (accepting, stop, serving) = (endpoint.clone(), drain.clone(), group.clone());
        drain.spawn("accept", async move {
            loop {
                let arrival = tokio::select! {
                    biased;
                    () = stop.stopping() => return,
                    arrival = accepting.accept() => arrival,
                };
                let Some(arrival) = arrival else { return };
                let serving = serving.clone();
                stop.spawn("peer", async move {
                    if let Ok(connection) = arrival.complete("c1").await {
                        let _ = serving.serve_peer(connection).await;
                    }
                });
            }
        });
        self.nodes[index] = Some(Node { group, endpoint, drain });
    }

    /// Ends a member without a word to the others.
    async fn down(&mut self, index: usize) {
        let node = self.nodes[index].take().unwrap();
        node.drain.finish(Duration::from_secs(10)).await;
        node.group.close().await;
        node.endpoint.close("").await;
    }

    fn group(&self, index: usize) -> &Group<Words> {
        &self.nodes[index].as_ref().unwrap().group
    }

    fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..3).filter(|index| self.nodes[*index].is_some())
    }

    /// Which member leads, as soon as one does.
    async fn leader(&self) -> usize {
        let wait = async {
            loop {
                if let Some(index) = self.alive().find(|index| self.group(*index).leads()) {
                    return index;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap()
    }

    /// Proposes until it is acknowledged, wherever the leader is.
    async fn put(&self, key: &str) -> u64 {
        let wait = async {
            loop {
                let leader = self.leader().await;
                if let Ok((index, _)) = put(self.group(leader), key, "v").await {
                    return index;
                }
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap()
    }

    async fn caught_up(&self, member: usize, index: u64) {
        tokio::time::timeout(LONG, self.group(member).applied(index)).await.unwrap();
    }

    fn keys(&self, member: usize) -> Vec<String> {
        self.group(member).read(|words| words.map.keys().cloned().collect())
    }

    async fn end(mut self) {
        for index in self.alive().collect::<Vec<_>>() {
            self.down(index).await;
        }
    }
}

/// A port that was just given back may be taken a moment longer.
async fn bind(address: SocketAddr, credentials: &Credentials) -> Endpoint {
    let settings = Settings { warn_if_small: false, ..Settings::default() };
    let give_up = Instant::now() + LONG;
    loop {
        match Endpoint::server_with(address, credentials, &[wire::ALPN_PEER], settings.clone()) {
            Ok(endpoint) => return endpoint,
            Err(error) => assert!(Instant::now() < give_up, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_ends_another_one_has_all_that_was_acknowledged() {
    let mut cluster = Cluster::start(1000).await;
    for index in 0..50 {
        cluster.put(&format!("a{index:03}")).await;
    }
    let old = cluster.leader().await;
    let started = Instant::now();
    cluster.down(old).await;
    let down = started.elapsed();
    let at = cluster.put("after").await;
    assert!(started.elapsed() - down < Duration::from_secs(5), "{:?}", started.elapsed() - down);
    let mut expected: Vec<String> = (0..50).map(|index| format!("a{index:03}")).collect();
    expected.push("after".to_owned());
    let alive: Vec<_> = cluster.alive().collect();
    for index in alive {
        cluster.caught_up(index, at).await;
        assert_eq!(cluster.keys(index), expected);
    }
    // The old leader comes back and follows.
    cluster.up(old).await;
    cluster.caught_up(old, at).await;
    assert_eq!(cluster.keys(old), expected);
    let leader = cluster.leader().await;
    let refused = put(cluster.group((leader + 1) % 3), "x", "v").await;
    let Err(ProposeError::NotLeader { leader: Some(told) }) = refused else { panic!("{refused:?}") };
    assert_eq!(told, cluster.members[leader]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_hands_over() {
    let cluster = Cluster::start(1000).await;
    let at = cluster.put("h").await;
    let old = cluster.leader().await;
    for member in 0..3 {
        cluster.caught_up(member, at).await;
    }
    cluster.group(old).hand_over().await;
    assert!(!cluster.group(old).leads());
    cluster.put("i").await;
    assert_ne!(cluster.leader().await, old);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_catches_up_by_log_and_by_snapshot() {
    for keep_entries in [1000, 5] {
        let mut cluster = Cluster::start(keep_entries).await;
        let first = cluster.put("first").await;
        let away = (cluster.leader().await + 1) % 3;
        cluster.caught_up(away, first).await;
        cluster.down(away).await;
        let mut last = 0;
        for index in 0..60 {
            last = cluster.put(&format!("b{index:03}")).await;
        }
        cluster.up(away).await;
        cluster.caught_up(away, last).await;
        let leader = cluster.leader().await;
        assert_eq!(cluster.keys(away), cluster.keys(leader));
        // It takes part again, and still does after more restarts.
        for round in 0..3 {
            cluster.down(away).await;
            cluster.up(away).await;
            let at = cluster.put(&format!("c{round}")).await;
            cluster.caught_up(away, at).await;
        }
        let leader = cluster.leader().await;
        assert_eq!(cluster.keys(away), cluster.keys(leader));
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_was_emptied_rejoins_and_restarts_five_times() {
    let mut cluster = Cluster::start(5).await;
    for index in 0..40 {
        cluster.put(&format!("d{index:03}")).await;
    }
    let wiped = (cluster.leader().await + 1) % 3;
    cluster.down(wiped).await;
    std::fs::remove_dir_all(cluster.directory.path().join(&cluster.members[wiped].name)).unwrap();
    for round in 0..5 {
        cluster.up(wiped).await;
        let at = cluster.put(&format!("e{round}")).await;
        cluster.caught_up(wiped, at).await;
        assert_eq!(cluster.keys(wiped).len(), 41 + round);
        cluster.down(wiped).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_on_a_follower_sees_everything_acknowledged_before() {
    let cluster = Cluster::start(1000).await;
    for index in 0..10 {
        let key = format!("f{index}");
        cluster.put(&key).await;
        for member in 0..3 {
            cluster.group(member).read_barrier().await.unwrap();
            assert!(cluster.keys(member).contains(&key));
        }
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_is_lost() {
    let mut cluster = Cluster::start(1000).await;
    let at = cluster.put("before").await;
    let leader = cluster.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.caught_up(other, at).await;
        cluster.down(other).await;
    }
    let lonely = put(cluster.group(leader), "lonely", "v").await;
    assert!(matches!(lonely, Err(ProposeError::Unknown | ProposeError::NotLeader { .. })), "{lonely:?}");
    assert_eq!(cluster.group(leader).read_barrier().await, Err(ReadError::NoMajority));
    // The machine can still be looked at, and what was acknowledged is there.
    assert_eq!(cluster.keys(leader), ["before"]);
    cluster.up(others[0]).await;
    let at = cluster.put("again").await;
    for member in [leader, others[0]] {
        cluster.caught_up(member, at).await;
        let keys = cluster.keys(member);
        assert!(keys.contains(&"before".to_owned()) && keys.contains(&"again".to_owned()), "{keys:?}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_reach_the_consensus() {
    let cluster = Cluster::start(1000).await;
    let at = cluster.put("g").await;
    let client = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    for (role, name) in [(link::Role::Node, "m2"), (link::Role::Master, "m9"), (link::Role::Admin, "root")] {
        let credentials = cluster.credentials(role, name);
        let address = cluster.members[0].address;
        let connection =
            client.dial(address, &credentials, wire::ALPN_PEER, link::Role::Master).await.unwrap();
        let end = tokio::time::timeout(LONG, connection.closed()).await.unwrap().to_string();
        assert!(end.contains("only masters") || end.contains("not a member"), "{end}");
    }
    cluster.caught_up(0, at).await;
    cluster.end().await;
}
