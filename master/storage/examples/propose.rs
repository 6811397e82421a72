//! How many proposals a second: `propose [members] [proposers] [seconds] [directory]`.
//!
//! All members run in this process and share one disk, so three members make three fsyncs of one.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use link::pki::Authority;
use link::{Endpoint, Settings};
use service::{Clock, Drain, Health};
use storage::{Group, Machine, Member, OnFault, Options, Role, Transport, Writes};

/// Entries of the size of a node's row.
const ENTRY: usize = 256;

/// Keeps nothing but writes every entry under one of 100,000 keys.
struct Sink;

impl Machine for Sink {
    type Answer = ();

    fn apply(&mut self, index: u64, entry: &[u8], writes: &mut Writes) {
        writes.put((index % 100_000).to_be_bytes(), entry);
    }

    fn load(&mut self, _rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    service::log::init("warn");
    let mut words = std::env::args().skip(1);
    let mut number = |default: u64| words.next().and_then(|word| word.parse().ok()).unwrap_or(default);
    let (members, proposers, seconds) = (number(1), number(64), number(5));
    let directory = PathBuf::from(std::env::args().nth(4).unwrap_or_else(|| "/var/tmp".to_owned()))
        .join(format!("margay-propose-{}", std::process::id()));
    let drain = Drain::new();
    let groups = start(members, &directory, &drain)?;
    let leader = leader(&groups).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (started, cpu) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..proposers)
        .map(|_| {
            let (group, stop) = (leader.clone(), stop.clone());
            drain.spawn("proposer", async move {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    if group.propose(vec![7; ENTRY]).await.is_err() {
                        break;
                    }
                    times.push(asked.elapsed());
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await?);
    }
    let (wall, cpu) = (started.elapsed().as_secs_f64(), self::cpu() - cpu);
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{members} members, {proposers} proposers: {:.0} proposals/s, p50 {:?}, p99 {:?}, {:.0} us CPU each, {} MiB resident",
        times.len() as f64 / wall,
        at(0.5),
        at(0.99),
        cpu * 1e6 / times.len().max(1) as f64,
        Health::resident().unwrap_or(0) / 1024 / 1024,
    );
    drain.finish(Duration::from_secs(5)).await;
    for group in groups {
        group.close().await;
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn start(
    count: u64,
    directory: &std::path::Path,
    drain: &Drain,
) -> Result<Vec<Group<Sink>>, Box<dyn std::error::Error>> {
    let authority = Authority::create("bench", Clock::Real.unix())?;
    let sockets: Vec<_> = (0..count).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    let mut members = Vec::new();
    for (id, socket) in (1..).zip(&sockets) {
        members.push(Member { id, name: format!("m{id}"), address: socket.local_addr()? });
    }
    drop(sockets);
    let mut groups = Vec::new();
    for member in &members {
        let lifetime = Duration::from_secs(3600);
        let credentials =
            authority.credentials(link::Role::Master, &member.name, Clock::Real.unix(), lifetime)?;
        let settings = Settings { warn_if_small: false, ..Settings::default() };
        let endpoint = Endpoint::server_with(member.address, &credentials, &[wire::ALPN_PEER], settings)?;
        let options = Options {
            id: member.id,
            members: members.clone(),
            on_fault: OnFault::Exit,
            ..Options::single(directory.join(&member.name), "bench", &member.name)
        };
        let group = Group::open(options, Sink, Some(Transport::new(endpoint.clone(), credentials)), drain)?;
        let (serving, tasks) = (group.clone(), drain.clone());
        drain.spawn("accept", async move {
            loop {
                let arrival = tokio::select! {
                    biased;
                    () = tasks.stopping() => return,
                    arrival = endpoint.accept() => arrival,
                };
                let Some(arrival) = arrival else { return };
                let serving = serving.clone();
                tasks.spawn("peer", async move {
                    if let Ok(connection) = arrival.complete("bench").await {
                        let _ = serving.serve_peer(connection).await;
                    }
                });
            }
        });
        groups.push(group);
    }
    Ok(groups)
}

async fn leader(groups: &[Group<Sink>]) -> Group<Sink> {
    loop {
        if let Some(leader) = groups.iter().find(|group| group.status().borrow().role == Role::Leader) {
            return leader.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
