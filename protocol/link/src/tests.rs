//! Two ends in one process, over loopback.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use service::{Clock, Drain};
use wire::{ALPN_ENROL, ALPN_MAIN};

use crate::pki::{Authority, Key};
use crate::*;

mod junk;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn authority() -> Authority {
    Authority::create("c1", Clock::Real.unix()).unwrap()
}

fn credentials(authority: &Authority, role: Role, name: &str) -> Credentials {
    authority.credentials(role, name, Clock::Real.unix(), Duration::from_secs(3600)).unwrap()
}

/// A master that passes its connections on, or the reason why one was refused.
struct Server {
    address: SocketAddr,
    arrivals: tokio::sync::mpsc::Receiver<Result<Connection, LinkError>>,
    drain: Drain,
}

impl Server {
    fn start(credentials: &Credentials, settings: Settings) -> Self {
        let endpoint =
            Endpoint::server_with(anywhere(), credentials, &[ALPN_MAIN, ALPN_ENROL], settings).unwrap();
        let address = endpoint.local_addr().unwrap();
        let cluster = credentials.identity().unwrap().cluster;
        let (tell, arrivals) = tokio::sync::mpsc::channel(16);
        let drain = Drain::new();
        let inner = drain.clone();
        drain.spawn("accept", async move {
            loop {
                tokio::select! {
                    biased;
                    () = inner.stopping() => return,
                    arrival = endpoint.accept() => match arrival {
                        Some(arrival) => { let _ = tell.send(arrival.complete(&cluster).await).await; }
                        None => return,
                    },
                }
            }
        });
        Self { address, arrivals, drain }
    }

    async fn next(&mut self) -> Result<Connection, LinkError> {
        tokio::time::timeout(LONG, self.arrivals.recv()).await.unwrap().unwrap()
    }
}

/// A connected pair: the client's end, the server's end.
async fn pair() -> (Connection, Connection, Server) {
    let ca = authority();
    let mut server = Server::start(&credentials(&ca, Role::Master, "m1"), Settings::default());
    let client = Endpoint::client(anywhere()).unwrap();
    let us = credentials(&ca, Role::Admin, "root");
    let (near, far) = tokio::join!(client.dial(server.address, &us, ALPN_MAIN, Role::Master), server.next());
    (near.unwrap(), far.unwrap(), server)
}

#[tokio::test]
async fn both_sides_know_each_other_by_certificate() {
    let (near, far, server) = pair().await;
    assert_eq!(near.identity().unwrap().to_string(), "margay://c1/master/m1");
    assert_eq!(identity(&far).unwrap().to_string(), "margay://c1/admin/root");
    assert_eq!(far.alpn(), ALPN_MAIN);
    let exported = |connection: &Connection| connection.export_keying_material::<32>(b"EXPORTER-test", b"");
    assert_eq!(exported(&near).unwrap(), exported(&far).unwrap());
    assert!(server.drain.finish(SECOND).await.is_empty());
}

#[tokio::test]
async fn frames_go_both_ways_and_end_in_order() {
    let (near, far, _server) = pair().await;
    let mut ours = near.open().await.unwrap();
    ours.send(&String::from("question")).await.unwrap();
    ours.finish();
    let mut theirs = far.accept().await.unwrap();
    assert_eq!(theirs.recv::<String>().await.unwrap().unwrap(), "question");
    assert_eq!(theirs.recv::<String>().await.unwrap(), None);
    let large = vec![7u8; 3_000_000];
    let (sent, heard) = tokio::join!(
        async {
            theirs.send(&large).await?;
            theirs.finish();
            Ok::<_, LinkError>(())
        },
        ours.recv::<Vec<u8>>()
    );
    sent.unwrap();
    assert_eq!(heard.unwrap().unwrap(), large);
    assert_eq!(ours.recv::<Vec<u8>>().await.unwrap(), None);
}

#[tokio::test]
async fn dropping_one_end_cancels_the_other() {
    let (near, far, _server) = pair().await;
    let mut ours = near.open().await.unwrap();
    ours.send(&1u64).await.unwrap();
    let mut theirs = far.accept().await.unwrap();
    assert_eq!(theirs.recv::<u64>().await.unwrap(), Some(1));
    let stopped = theirs.sender.stopped();
    drop(ours);
    tokio::time::timeout(LONG, stopped).await.unwrap();
    assert!(matches!(theirs.recv::<u64>().await, Err(LinkError::Reset(1))));
    assert!(matches!(theirs.send(&2u64).await, Err(LinkError::Cancelled)));
}

#[tokio::test]
async fn a_receive_that_is_dropped_half_way_loses_nothing() {
    let (near, far, _server) = pair().await;
    let mut ours = near.open().await.unwrap();
    let mut theirs = {
        ours.sender.send(&0u64).await.unwrap();
        far.accept().await.unwrap()
    };
    assert_eq!(theirs.recv::<u64>().await.unwrap(), Some(0));
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = theirs.recv::<Vec<u8>>() => panic!("nothing was sent yet"),
            () = tokio::task::yield_now() => {}
        }
    }
    let large = vec![1u8; 500_000];
    let send = async { ours.send(&large).await.unwrap() };
    let receive = async {
        loop {
            tokio::select! {
                biased;
                heard = theirs.recv::<Vec<u8>>() => return heard.unwrap().unwrap(),
                () = tokio::time::sleep(Duration::from_micros(50)) => {}
            }
        }
    };
    let ((), heard) = tokio::join!(send, receive);
    assert_eq!(heard, large);
}

#[tokio::test]
async fn oversized_and_malformed_frames_are_refused() {
    let (near, far, _server) = pair().await;
    let mut ours = near.open().await.unwrap();
    ours.sender.send_bytes(&[1, 2, 3]).await.unwrap();
    ours.sender.send_bytes(&[0; 100]).await.unwrap();
    let mut theirs = far.accept().await.unwrap();
    assert!(matches!(theirs.recv::<String>().await, Err(LinkError::Frame(_))));
    theirs.receiver.set_limit(99);
    assert!(matches!(
        theirs.receiver.recv_bytes().await,
        Err(LinkError::Frame(wire::frame::FrameError::TooLarge(100)))
    ));
    assert!(ours.sender.send_bytes(&vec![0; wire::frame::MAX_FRAME + 1]).await.is_err());
}

#[tokio::test]
async fn an_answer_that_does_not_come_meets_its_deadline() {
    let (near, _far, _server) = pair().await;
    let mut ours = near.open().await.unwrap();
    let answer = ours.ask::<u64, u64>(&1, Duration::from_millis(20)).await;
    assert!(matches!(answer, Err(LinkError::Deadline(_))));
}

#[tokio::test]
async fn a_server_of_another_role_name_ca_or_cluster_is_refused() {
    let ca = authority();
    let server = Server::start(&credentials(&ca, Role::ServiceNode, "sn1"), Settings::default());
    let client = Endpoint::client(anywhere()).unwrap();
    let us = credentials(&ca, Role::Node, "n1");
    let dial = |role, name: &'static str, us: Credentials| {
        let client = client.clone();
        async move { client.dial_named(server.address, &us, ALPN_MAIN, role, name).await }
    };
    assert!(dial(Role::ServiceNode, "sn1", us.clone()).await.is_ok());
    let error = dial(Role::Master, "sn1", us.clone()).await.unwrap_err().to_string();
    assert!(error.contains("wanted margay://c1/master/sn1"), "{error}");
    assert!(dial(Role::ServiceNode, "sn2", us).await.is_err());
    let stranger = Authority::create("c1", Clock::Real.unix()).unwrap();
    assert!(dial(Role::ServiceNode, "sn1", credentials(&stranger, Role::Node, "n1")).await.is_err());
    let other = Authority::load("c2", ca.ca_pem(), &ca.key_pem()).unwrap();
    assert!(dial(Role::ServiceNode, "sn1", credentials(&other, Role::Node, "n1")).await.is_err());
}

#[tokio::test]
async fn a_client_of_another_ca_or_cluster_or_with_an_old_certificate_is_refused() {
    let ca = authority();
    let mut server = Server::start(&credentials(&ca, Role::Master, "m1"), Settings::default());
    let client = Endpoint::client(anywhere()).unwrap();
    let stranger = Authority::create("c1", Clock::Real.unix()).unwrap();
    let mut wrong_ca = credentials(&stranger, Role::Admin, "root");
    wrong_ca.ca_pem = ca.ca_pem().to_owned();
    let expired =
        ca.credentials(Role::Admin, "root", Clock::Real.unix() - 90_000, Duration::from_secs(60)).unwrap();
    for us in [wrong_ca, expired] {
        let dialed = client.dial(server.address, &us, ALPN_MAIN, Role::Master).await;
        assert!(matches!(server.next().await, Err(LinkError::Refused { .. })));
        // The client's half of the handshake ends before the server has judged: the first use fails.
        if let Ok(connection) = dialed {
            let _ = tokio::time::timeout(LONG, connection.closed()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_is_possible() {
    let ca = authority();
    let mut server = Server::start(&credentials(&ca, Role::ServiceNode, "sn1"), Settings::default());
    let client = Endpoint::client(anywhere()).unwrap();
    let pin = pki::pin(ca.ca_pem()).unwrap();
    assert_eq!(pki::parse_pin(&pki::pin_hex(ca.ca_pem()).unwrap()), Some(pin));
    let (near, far) = tokio::join!(client.dial_pinned(server.address, pin, ALPN_ENROL), server.next());
    assert_eq!(near.unwrap().identity().unwrap().name, "sn1");
    assert!(far.unwrap().identity().is_none());
    let (near, far) = tokio::join!(client.dial_pinned(server.address, pin, ALPN_MAIN), server.next());
    assert!(matches!(far, Err(LinkError::Refused { .. })));
    if let Ok(connection) = near {
        assert!(
            tokio::time::timeout(LONG, connection.closed()).await.unwrap().to_string().contains("no cert")
        );
    }
    assert!(client.dial_pinned(server.address, [7; 32], ALPN_ENROL).await.is_err());
}

#[tokio::test]
async fn enrolment_does_not_look_at_dates_and_ends_in_a_certificate() {
    let ca = authority();
    let long_ago = Clock::Real.unix() - 1_000_000;
    let old = ca.credentials(Role::ServiceNode, "sn1", long_ago, Duration::from_secs(60)).unwrap();
    let mut server = Server::start(&old, Settings::default());
    let client = Endpoint::client(anywhere()).unwrap();
    let pin = pki::pin(ca.ca_pem()).unwrap();
    let (near, far) = tokio::join!(client.dial_pinned(server.address, pin, ALPN_ENROL), server.next());
    near.unwrap();
    far.unwrap();
    let key = Key::generate().unwrap();
    let now = Clock::Real.unix();
    for cert_pem in [
        ca.issue(Role::Node, "n1", &key.public_der, now, LONG).unwrap(),
        ca.issue_request(Role::Node, "n1", &key.request_der, now, LONG).unwrap(),
    ] {
        assert_eq!(pki::expires(&cert_pem).unwrap(), now + LONG.as_secs());
        let us = Credentials { ca_pem: ca.ca_pem().to_owned(), cert_pem, key_pem: key.key_pem.clone() };
        let mut server = Server::start(&credentials(&ca, Role::ServiceNode, "sn1"), Settings::default());
        let (near, far) =
            tokio::join!(client.dial(server.address, &us, ALPN_MAIN, Role::ServiceNode), server.next());
        near.unwrap();
        assert_eq!(far.unwrap().identity().unwrap().name, "n1");
    }
}

#[tokio::test]
async fn a_request_that_its_key_did_not_sign_gets_no_certificate() {
    let ca = authority();
    let mut request = Key::generate().unwrap().request_der;
    let last = request.len() - 1;
    request[last] ^= 1;
    assert!(ca.issue_request(Role::Node, "n1", &request, Clock::Real.unix(), LONG).is_err());
    assert!(ca.issue(Role::Node, "n1", &[0; 100], Clock::Real.unix(), LONG).is_err());
    assert!(ca.issue(Role::Node, "n1", &vec![0; 100_000], Clock::Real.unix(), LONG).is_err());
    let key = Key::generate().unwrap();
    assert!(ca.issue(Role::Node, "n/1", &key.public_der, Clock::Real.unix(), LONG).is_err());
}

#[tokio::test]
async fn of_several_addresses_the_first_that_answers_is_taken() {
    let ca = authority();
    let server = Server::start(&credentials(&ca, Role::Master, "m2"), Settings::default());
    // Bound and never answering: a member that hangs.
    let silent = std::net::UdpSocket::bind(anywhere()).unwrap();
    let client = Endpoint::client(anywhere()).unwrap();
    let us = credentials(&ca, Role::Admin, "root");
    let addresses = [silent.local_addr().unwrap(), server.address];
    let connection = client.dial_any(&addresses, &us, ALPN_MAIN, Role::Master).await.unwrap();
    assert_eq!(connection.identity().unwrap().name, "m2");
    assert!(client.dial_any(&[], &us, ALPN_MAIN, Role::Master).await.is_err());
}

#[tokio::test]
async fn a_silent_peer_is_noticed() {
    let ca = authority();
    let settings =
        Settings { keep_alive: LONG, idle_timeout: Duration::from_millis(200), ..Settings::default() };
    let mut server = Server::start(&credentials(&ca, Role::Master, "m1"), settings);
    let settings = Settings { keep_alive: LONG, ..Settings::small() };
    let client = Endpoint::client_with(anywhere(), settings).unwrap();
    let us = credentials(&ca, Role::Admin, "root");
    let (near, far) = tokio::join!(client.dial(server.address, &us, ALPN_MAIN, Role::Master), server.next());
    let _near = near.unwrap();
    let error = tokio::time::timeout(LONG, far.unwrap().closed()).await.unwrap();
    assert!(error.to_string().contains("no sign of life"), "{error}");
}
