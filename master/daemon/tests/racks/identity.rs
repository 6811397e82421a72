//! Who gets an identity: service nodes with their token, machines by evidence or token.

use link::Identity;
use wire::agent::{EnrolHello, Phase, Report};
use wire::hardware::{Adapter, Hardware};
use wire::rack::{Enrol, Evidence, JoinAnswer, RackAnswer, RackReport, TokenProof};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::rack::Rack;

fn now() -> u64 {
    service::Clock::Real.unix()
}

/// What a machine asks, with a key of its own.
fn machine(serial: &str, key: &link::pki::Key, evidence: &[(&str, &str)]) -> Enrol {
    let mac = format!("02:00:00:00:00:{serial}");
    Enrol {
        hello: EnrolHello {
            version: 1,
            public_key: key.public_der.clone(),
            proof: Vec::new(),
            hardware: Hardware {
                arch: "x86_64".into(),
                uuid: format!("uuid-{serial}"),
                mtm: "PE860".into(),
                serial: serial.into(),
                adapters: vec![Adapter { name: "eth0".into(), mac: mac.clone(), ..Adapter::default() }],
                boot_mac: mac,
                ..Hardware::default()
            },
            boot_id: "b".into(),
            phase: Phase::Genesis,
        },
        address: "10.0.0.50".into(),
        evidence: evidence
            .iter()
            .map(|(method, node)| Evidence {
                method: (*method).into(),
                node: (*node).into(),
                reason: format!("what {method} says"),
            })
            .collect(),
        token: None,
    }
}

fn token(node: &str, generation: u64, digest: &str, expires: u64) -> Option<TokenProof> {
    Some(TokenProof { node: node.into(), generation, digest: digest.into(), expires })
}

fn key() -> link::pki::Key {
    link::pki::Key::generate().unwrap()
}

async fn ask(rack: &Rack, enrol: Enrol) -> RackAnswer {
    rack.report(RackReport::Enrol(enrol)).await
}

fn denied(answer: &RackAnswer, words: &str) -> bool {
    matches!(answer, RackAnswer::Denied { reason } if reason.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_on_a_known_port_gets_a_certificate_with_its_nodes_name() {
    let cluster = Cluster::new(&["n1@sn1"]).await;
    let mut rack = Rack::new(&cluster, "sn1").await;
    rack.view().await;
    let key = key();
    let answer = ask(&rack, machine("01", &key, &[("switch", "n1")])).await;
    let RackAnswer::Admitted { node, certificate, method, revision } = answer else { panic!("{answer:?}") };
    assert_eq!((node.as_str(), method.as_str()), ("n1", "switch"));
    let der = link::Credentials {
        ca_pem: cluster.admin().ca_pem,
        cert_pem: certificate,
        key_pem: key.key_pem.clone(),
    };
    assert_eq!(identity_of(&cluster, &der).await, "margay://c1/node/n1");
    let view = rack.view().await;
    assert!(view.revision >= revision);
    let known = &view.nodes[0];
    assert_eq!((known.serial.as_str(), known.destiny.as_str()), ("01", "standby"));
    assert_eq!(known.key_fingerprint, master::join::hex(&link::pki::digest(&key.public_der)));
    let (out, ..) = Client::run(&cluster, "nodels n1 vpd.serial vpd.mtm mac.mac nodelist.status").await;
    for cell in
        ["vpd.serial: 01", "vpd.mtm: PE860", "mac.mac: 02:00:00:00:00:01", "nodelist.status: standingby"]
    {
        assert!(out.contains(&format!("n1: {cell}")), "{out}");
    }
}

/// Who a master says that the holder is: it refuses nodes, but only after it has read their name.
async fn identity_of(cluster: &Cluster, credentials: &link::Credentials) -> String {
    let server = link::Endpoint::server(
        "127.0.0.1:0".parse().unwrap(),
        &cluster.forged(link::Role::ServiceNode, "x"),
        &[wire::ALPN_MAIN],
    )
    .unwrap();
    let address = server.local_addr().unwrap();
    let client = link::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let (accepted, dialed) = tokio::join!(
        async { server.accept().await.unwrap().complete("c1").await.unwrap() },
        client.dial(address, credentials, wire::ALPN_MAIN, link::Role::ServiceNode),
    );
    dialed.unwrap();
    accepted.identity().map(Identity::to_string).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_machines_that_claim_one_node_at_once_one_wins() {
    let cluster = Cluster::new(&["n1"]).await;
    let racks = (Rack::new(&cluster, "sn1").await, Rack::new(&cluster, "sn2").await);
    let keys = (key(), key());
    let answers = tokio::join!(
        ask(&racks.0, machine("01", &keys.0, &[("switch", "n1")])),
        ask(&racks.1, machine("02", &keys.1, &[("switch", "n1")])),
    );
    let admitted = |answer: &RackAnswer| matches!(answer, RackAnswer::Admitted { .. });
    assert!(admitted(&answers.0) != admitted(&answers.1), "{answers:?}");
    let serial = if admitted(&answers.0) { "01" } else { "02" };
    assert_eq!(cluster.text("n1", "vpd.serial"), serial);
    assert_eq!(cluster.denials().len(), 1);
    // The winner lost its answer and asks again: the same node.
    let again = match serial {
        "01" => ask(&racks.0, machine("01", &keys.0, &[("switch", "n1")])).await,
        _ => ask(&racks.1, machine("02", &keys.1, &[("switch", "n1")])).await,
    };
    assert!(admitted(&again), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_token_works_once_in_time_for_its_node() {
    let cluster = Cluster::new(&["n1@sn1", "n2@sn1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    ask(&rack, machine("01", &key(), &[("switch", "n1")])).await;
    ask(&rack, machine("02", &key(), &[("switch", "n2")])).await;
    let with = |serial, token| Enrol { token, ..machine(serial, &key(), &[]) };
    let old = ask(&rack, with("01", token("n1", 1, "aa", now() - 1))).await;
    assert!(denied(&old, "expired"), "{old:?}");
    let other = ask(&rack, with("02", token("n1", 1, "aa", now() + 60))).await;
    assert!(denied(&other, "without any of its adapters"), "{other:?}");
    let good = ask(&rack, with("01", token("n1", 1, "aa", now() + 60))).await;
    assert!(
        matches!(&good, RackAnswer::Admitted { node, method, .. } if node == "n1" && method == "token"),
        "{good:?}"
    );
    let before = cluster.text("n1", "identity.fingerprint");
    let twice = ask(&rack, with("01", token("n1", 1, "aa", now() + 60))).await;
    assert!(denied(&twice, "used before"), "{twice:?}");
    let older = ask(&rack, with("01", token("n1", 1, "bb", now() + 60))).await;
    assert!(denied(&older, "boot generation 1, now is 2"), "{older:?}");
    assert_eq!(cluster.text("n1", "identity.fingerprint"), before);
    assert_eq!(cluster.denials().len(), 4, "{:?}", cluster.denials());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_machine_waits_in_the_list_until_an_admin_names_it() {
    let cluster = Cluster::new(&["n1@sn1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    let key = key();
    let request = machine("0a", &key, &[("switch", ""), ("mtms", "")]);
    let answer = ask(&rack, request.clone()).await;
    assert!(
        matches!(&answer, RackAnswer::Pending { reason } if reason.contains("what switch says")),
        "{answer:?}"
    );
    let revision = cluster.core().read(state::State::revision);
    ask(&rack, request.clone()).await;
    assert_eq!(cluster.core().read(state::State::revision), revision, "asking again writes nothing");
    let (out, ..) = Client::run(&cluster, "nodediscoverls -t undef").await;
    assert!(out.contains("uuid-0a") && out.contains("undef"), "{out}");
    let (out, ..) = Client::run(&cluster, "nodediscoverls -l").await;
    assert!(out.contains("reason=switch: what switch says\n    reason=mtms: what mtms says"), "{out}");
    let (out, err, status) = Client::run(&cluster, "nodediscoverdef -u uuid-0a -n n1").await;
    assert_eq!((out.as_str(), status), ("Defined [uuid-0a] to node n1.\n", 0), "{err}");
    let answer = ask(&rack, request).await;
    assert!(
        matches!(&answer, RackAnswer::Admitted { node, method, .. } if node == "n1" && method == "manual"),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_node_that_speaks_for_anothers_node_is_refused_and_audited() {
    let cluster = Cluster::new(&["n1@sn1", "m1@sn2"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    let answer = rack.node("m1", Report::Status("booted".into())).await;
    assert!(denied(&answer, "does not belong"), "{answer:?}");
    assert_eq!(cluster.text("m1", "nodelist.status"), "");
    assert_eq!(cluster.denials().len(), 1);
    let tried = RackReport::Audit { who: "node n1".into(), what: "claims node n2".into() };
    assert!(matches!(rack.report(tried).await, RackAnswer::Stored(_)));
    assert_eq!(cluster.denials()[1], "claims node n2 (service node sn1)");
    let mixed = vec![
        ("n1".to_owned(), Report::Status("booting".into()), now()),
        ("m1".to_owned(), Report::Status("booting".into()), now()),
    ];
    assert!(matches!(rack.report(RackReport::Nodes(mixed)).await, RackAnswer::Stored(_)));
    assert_eq!(
        (cluster.text("n1", "nodelist.status").as_str(), cluster.text("m1", "nodelist.status").as_str()),
        ("booting", "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_in_a_certificate_take_no_node() {
    let cluster = Cluster::new(&["n1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    let mut request = machine("01", &key(), &[("switch", "n1")]);
    for bytes in [Vec::new(), vec![1, 2, 3], vec![0; 100_000]] {
        request.hello.public_key = bytes;
        assert!(matches!(ask(&rack, request.clone()).await, RackAnswer::Denied { .. }));
    }
    assert_eq!(cluster.text("n1", "identity.fingerprint"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_is_taken_once_and_only_in_time() {
    let cluster = Cluster::new(&[]).await;
    let refused = |answer: JoinAnswer, words: &str| {
        assert!(matches!(&answer, JoinAnswer::Refused(reason) if reason.contains(words)), "{answer:?}");
    };
    refused(cluster.join("sn1", "t").await.0, "margay sn add");
    cluster.expect_rack("sn1", "t", now() - 1).await;
    refused(cluster.join("sn1", "t").await.0, "expired");
    cluster.expect_rack("sn1", "t", now() + 60).await;
    refused(cluster.join("sn1", "wrong").await.0, "not the join token");
    refused(cluster.join("sn/1", "t").await.0, "not a valid");
    let (answer, key) = cluster.join("sn1", "t").await;
    assert!(matches!(&answer, JoinAnswer::Joined { masters, .. } if masters.len() == 1), "{answer:?}");
    assert!(
        matches!(cluster.join_with("sn1", "t", &key).await, JoinAnswer::Joined { .. }),
        "its answer was lost"
    );
    refused(cluster.join("sn1", "t").await.0, "used before");
    assert_eq!(cluster.denials().len(), 4, "{:?}", cluster.denials());
}
