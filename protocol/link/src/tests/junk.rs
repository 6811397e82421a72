//! Garbage at a server's port: counted one by one, and nobody else notices.

use std::net::UdpSocket;

use service::Health;

use super::*;
use crate::packet::Junk;

/// Datagrams of each kind.
const EACH: u64 = 40;

/// A long header of version 1 for a made-up connection, and what follows it.
fn initial(rest: &[u8], length: usize) -> Vec<u8> {
    let mut packet = [&[0xc3, 0, 0, 0, 1, 8][..], &service::random::bytes::<8>(), &[0], rest].concat();
    packet.resize(length, 7);
    packet
}

fn noise(first: u8, length: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..length).map(|_| service::random::bytes::<1>()[0]).collect();
    if let Some(byte) = packet.first_mut() {
        *byte = first;
    }
    packet
}

fn counted(health: &Health) -> Vec<(String, u64)> {
    health.all().into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn of_each_kind_of_garbage_as_many_are_counted_as_were_sent_and_the_next_caller_is_served() {
    let (ca, health) = (authority(), Health::new());
    let settings = Settings { health: health.clone(), ..Settings::default() };
    let mut server = Server::start(&credentials(&ca, Role::Master, "m1"), settings);
    assert_eq!(health.all().len(), Junk::ALL.len(), "every counter is there from the start");
    let socket = UdpSocket::bind(anywhere()).unwrap();
    for _ in 0..EACH {
        for packet in [
            Vec::new(),
            noise(0x40, 9_000),
            noise(0x00, 30),
            noise(0x40, 12),
            [&[0xc0, 0xff, 0xff, 0xff, 0xff][..], &noise(8, 1_300)].concat(),
            [&[0xc0, 0, 0, 0, 1, 21][..], &noise(8, 1_300)].concat(),
            initial(&[0, 0x44, 0x96], 1_199),
            initial(&[0, 0x44, 0x96], 1_200),
            noise(0x40, 1_300),
        ] {
            socket.send_to(&packet, server.address).unwrap();
        }
    }
    // The socket's queue is first in, first out: who is served after them, is served when all are counted.
    let (client, us) = (Endpoint::client(anywhere()).unwrap(), credentials(&ca, Role::Admin, "root"));
    let dialed = client.dial(server.address, &us, ALPN_MAIN, Role::Master);
    let (near, far) = tokio::join!(dialed, server.next());
    let mut ours = near.unwrap().open().await.unwrap();
    ours.send(&5u64).await.unwrap();
    assert_eq!(far.unwrap().accept().await.unwrap().recv::<u64>().await.unwrap(), Some(5));
    let wanted: Vec<_> = health.all().into_iter().map(|(name, _)| (name, EACH)).collect();
    assert_eq!(counted(&health), wanted);
    assert_eq!(counted(&client.settings().health), [], "no packet of a good conversation is dropped");
}

#[tokio::test]
async fn random_bytes_of_any_length_are_all_counted() {
    let (ca, health) = (authority(), Health::new());
    let settings = Settings { health: health.clone(), ..Settings::default() };
    let mut server = Server::start(&credentials(&ca, Role::Master, "m1"), settings);
    let socket = UdpSocket::bind(anywhere()).unwrap();
    let lengths = [0, 1, 5, 9, 20, 21, 100, 1_199, 1_200, 1_452, 1_472, 1_473, 3_000, 20_000];
    for length in lengths.iter().cycle().take(20 * lengths.len()) {
        socket.send_to(&noise(service::random::bytes::<1>()[0], *length), server.address).unwrap();
    }
    let (client, us) = (Endpoint::client(anywhere()).unwrap(), credentials(&ca, Role::Admin, "root"));
    let dialed = client.dial(server.address, &us, ALPN_MAIN, Role::Master);
    let (near, far) = tokio::join!(dialed, server.next());
    assert!(near.is_ok() && far.is_ok());
    let sum: u64 = counted(&health).iter().map(|(_, count)| count).sum();
    assert_eq!(sum, 20 * lengths.len() as u64, "{:?}", counted(&health));
}

/// Passes datagrams between a client and a server, but none of the server's while it is deaf.
struct Relay {
    address: SocketAddr,
    deaf: std::sync::Arc<std::sync::atomic::AtomicBool>,
    drain: Drain,
}

impl Relay {
    async fn start(server: SocketAddr) -> Self {
        let near = tokio::net::UdpSocket::bind(anywhere()).await.unwrap();
        let far = tokio::net::UdpSocket::bind(anywhere()).await.unwrap();
        let (address, drain) = (near.local_addr().unwrap(), Drain::new());
        let deaf = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (inner, is_deaf) = (drain.clone(), deaf.clone());
        drain.spawn("relay", async move {
            let (mut there, mut back, mut client) = (vec![0; 2_000], vec![0; 2_000], None);
            loop {
                tokio::select! {
                    biased;
                    () = inner.stopping() => return,
                    Ok((length, from)) = near.recv_from(&mut there) => {
                        client = Some(from);
                        let _ = far.send_to(&there[..length], server).await;
                    }
                    Ok((length, _)) = far.recv_from(&mut back) => {
                        let deaf = is_deaf.load(std::sync::atomic::Ordering::Relaxed);
                        if let (Some(client), false) = (client, deaf) {
                            let _ = near.send_to(&back[..length], client).await;
                        }
                    }
                }
            }
        });
        Self { address, deaf, drain }
    }

    fn deaf(&self, deaf: bool) {
        self.deaf.store(deaf, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_peer_that_has_forgotten_the_connection_says_so_and_is_heard() {
    let ca = authority();
    let own = credentials(&ca, Role::Master, "m1");
    let endpoint = Endpoint::server(anywhere(), &own, &[ALPN_MAIN]).unwrap();
    let relay = Relay::start(endpoint.local_addr().unwrap()).await;
    let settings = Settings { keep_alive: Duration::from_millis(50), ..Settings::small() };
    let client = Endpoint::client_with(anywhere(), settings).unwrap();
    let us = credentials(&ca, Role::Admin, "root");
    let (near, far) = tokio::join!(client.dial(relay.address, &us, ALPN_MAIN, Role::Master), async {
        endpoint.accept().await.unwrap().complete("c1").await
    });
    let near = near.unwrap();
    let mut exchange = near.open().await.unwrap();
    exchange.send(&1u64).await.unwrap();
    let far = far.unwrap();
    assert_eq!(far.accept().await.unwrap().recv::<u64>().await.unwrap(), Some(1));
    // Its farewell is lost; then it knows nothing of the connection any more.
    relay.deaf(true);
    far.close(close::STOPPING, "gone");
    drop(far);
    let forgotten = async {
        while endpoint.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, forgotten).await.unwrap();
    relay.deaf(false);
    let said = tokio::time::timeout(Duration::from_secs(5), near.closed()).await.unwrap();
    assert!(said.to_string().contains("reset"), "{said}");
    assert!(relay.drain.finish(SECOND).await.is_empty());
}
