//! Whole conversations, decided packet by packet.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};
use wire::view::{NetworkView, NodeMac, NodeView, SiteView, ViewUpdate};

use super::super::packet::tests::raw;
use super::*;
use crate::world::World;

const SN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const KNOWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NEW: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];
const PXE: (u8, &[u8]) = (60, b"PXEClient:Arch:00000:UNDI:002001");

fn world() -> World {
    let network = |name: &str, net: &str, range: &str| NetworkView {
        name: name.into(),
        net: net.into(),
        mask: "255.255.255.0".into(),
        dynamic_range: range.into(),
        gateway: "<xcatmaster>".into(),
        mtu: 1500,
        ..NetworkView::default()
    };
    let site = SiteView {
        cluster: "c".into(),
        domain: "cluster.test".into(),
        nameservers: vec!["10.0.0.1".into()],
        dhcp_interfaces: vec!["eth0".into(), "eth9:noboot".into()],
        dhcp_lease: 43200,
        networks: vec![
            network("boot", "10.0.0.0", "10.0.0.100-10.0.0.200"),
            network("far", "10.5.0.0", "10.5.0.100-10.5.0.110"),
        ],
        ..SiteView::default()
    };
    let mac = |m: &str, host: &str, ip: &str| NodeMac { mac: m.into(), host: host.into(), ip: ip.into() };
    let node = NodeView {
        name: "n1".into(),
        ip: "10.0.0.11".into(),
        macs: vec![
            mac("52:54:00:00:00:01", "", ""),
            mac("52:54:00:00:00:02", "*NOIP*", ""),
            mac("52:54:00:00:00:03", "x", "192.168.0.9"),
        ],
        ..NodeView::default()
    };
    let mut world = World::default();
    world.apply(&ViewUpdate { site: Some(site), nodes: vec![node], ..ViewUpdate::default() });
    world
}

struct Bench {
    world: World,
    leases: Leases,
    now: u64,
    interface: &'static str,
}

impl Bench {
    fn new() -> Bench {
        Bench { world: world(), leases: Leases::default(), now: 1000, interface: "eth0" }
    }

    fn send(&mut self, datagram: &[u8]) -> Outcome {
        let arrival = Arrival {
            interface: self.interface.into(),
            address: SN,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        };
        let settings = Settings { own: vec![SN], http_port: 80 };
        decide(datagram, &arrival, &settings, &self.world, &mut self.leases, self.now)
    }

    fn say(&mut self, kind: u8, mac: [u8; 6], options: &[(u8, &[u8])]) -> Outcome {
        self.send(&raw(kind, mac, options))
    }

    fn verdict(&mut self, kind: u8, mac: [u8; 6], options: &[(u8, &[u8])]) -> Verdict {
        self.say(kind, mac, options).verdict
    }
}

fn message(outcome: &Outcome) -> Message {
    let reply = outcome.reply.as_ref().unwrap();
    assert!(reply.bytes.len() >= 300 && reply.bytes.len() <= 548, "{}", reply.bytes.len());
    Message::decode(&mut Decoder::new(&reply.bytes)).unwrap()
}

fn file(outcome: &Outcome) -> String {
    message(outcome).fname_str().and_then(Result::ok).unwrap_or_default().trim_end_matches('\0').to_owned()
}

#[test]
fn unknown_machine_goes_from_discover_to_ack_with_a_pool_address() {
    let mut b = Bench::new();
    let out = b.say(1, NEW, &[PXE, (93, &[0, 0]), (97, &[7; 17])]);
    let ip = Ipv4Addr::new(10, 0, 0, 100);
    assert_eq!(out.verdict, Verdict::Offer(ip));
    assert_eq!((out.seen, out.node.clone()), (Some(Mac(NEW)), None));
    let offer = message(&out);
    assert_eq!((offer.yiaddr(), offer.siaddr(), offer.xid()), (ip, SN, 0x0102_0304));
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    assert_eq!(file(&out), "undionly.kpxe");
    let opts = offer.opts();
    assert_eq!(
        opts.get(OptionCode::SubnetMask),
        Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)))
    );
    assert_eq!(opts.get(OptionCode::Router), Some(&DhcpOption::Router(vec![SN])));
    assert_eq!(opts.get(OptionCode::DomainNameServer), Some(&DhcpOption::DomainNameServer(vec![SN])));
    assert_eq!(opts.get(OptionCode::DomainName), Some(&DhcpOption::DomainName("cluster.test".into())));
    assert_eq!(opts.get(OptionCode::InterfaceMtu), Some(&DhcpOption::InterfaceMtu(1500)));
    assert_eq!(opts.get(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(600)));
    assert_eq!(opts.get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SN)));
    assert_eq!(
        opts.get(OptionCode::ClientMachineIdentifier),
        Some(&DhcpOption::ClientMachineIdentifier(vec![7; 17]))
    );
    assert_eq!(out.reply.unwrap().destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    let out = b.say(3, NEW, &[PXE, (54, &SN.octets()), (50, &ip.octets())]);
    assert_eq!(out.verdict, Verdict::Ack(ip));
    assert_eq!(b.leases.holder(ip, b.now), Some(Mac(NEW)));
    assert!(b.leases.drain_journal().starts_with("+ 10.0.0.100 52:54:00:00:00:99 1600"));
}

#[test]
fn known_node_gets_its_fixed_address_and_name_and_never_one_of_the_pool() {
    let mut b = Bench::new();
    let out = b.say(1, KNOWN, &[(50, &[10, 0, 0, 150])]);
    assert_eq!(out.verdict, Verdict::Offer(Ipv4Addr::new(10, 0, 0, 11)));
    assert_eq!(out.node.as_deref(), Some("n1"));
    let offer = message(&out);
    assert_eq!(offer.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("n1".into())));
    assert_eq!(offer.opts().get(OptionCode::AddressLeaseTime), Some(&DhcpOption::AddressLeaseTime(43200)));
    assert_eq!(file(&out), "", "an operating system gets no boot file");
    assert_eq!(b.verdict(3, KNOWN, &[(50, &[10, 0, 0, 150])]), Verdict::Nak);
    assert_eq!(b.verdict(3, KNOWN, &[(50, &[10, 0, 0, 11])]), Verdict::Ack(Ipv4Addr::new(10, 0, 0, 11)));
    assert!(b.leases.is_empty());
}

#[test]
fn adapters_without_address_get_none() {
    let mut b = Bench::new();
    assert_eq!(b.verdict(1, [0x52, 0x54, 0, 0, 0, 2], &[]), Verdict::Dropped(Drop::Denied));
    assert_eq!(b.verdict(1, [0x52, 0x54, 0, 0, 0, 3], &[]), Verdict::Dropped(Drop::NoAddress));
    assert_eq!(b.verdict(3, [0x52, 0x54, 0, 0, 0, 3], &[(50, &[10, 0, 0, 120])]), Verdict::Nak);
}

#[test]
fn ipxe_gets_the_script_of_its_mac_and_need_not_wait_for_others() {
    let mut b = Bench::new();
    for options in [&[PXE, (77, &b"iPXE"[..])][..], &[PXE, (175, &[19, 1, 1])], &[PXE, (77, b"xNBA")]] {
        let out = b.say(1, NEW, options);
        assert_eq!(file(&out), "http://10.0.0.1/boot/ipxe?mac=52:54:00:00:00:99");
        let bytes = out.reply.unwrap().bytes;
        assert!(bytes.windows(5).any(|w| w == [175, 3, 176, 1, 1]));
    }
}

#[test]
fn uefi_gets_its_loader_and_http_boot_an_address() {
    let mut b = Bench::new();
    let out = b.say(1, NEW, &[(60, b"PXEClient:Arch:00007"), (93, &[0, 7]), (55, &[66, 67])]);
    assert_eq!(file(&out), "snponly.efi");
    let m = message(&out);
    assert_eq!(
        m.opts().get(OptionCode::BootfileName),
        Some(&DhcpOption::BootfileName(b"snponly.efi".to_vec()))
    );
    assert_eq!(
        m.opts().get(OptionCode::TFTPServerName),
        Some(&DhcpOption::TFTPServerName(b"10.0.0.1".to_vec()))
    );
    let out = b.say(1, NEW, &[(60, b"HTTPClient:Arch:00016"), (93, &[0, 16])]);
    assert_eq!(file(&out), "http://10.0.0.1/loader/snponly.efi");
    let m = message(&out);
    assert_eq!(
        m.opts().get(OptionCode::ClassIdentifier),
        Some(&DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()))
    );
}

#[test]
fn interfaces_that_are_not_listed_are_silent_and_noboot_gives_no_file() {
    let mut b = Bench::new();
    b.interface = "eth1";
    assert_eq!(b.verdict(1, KNOWN, &[]), Verdict::Dropped(Drop::NotServed));
    b.interface = "eth9";
    assert_eq!(file(&b.say(1, NEW, &[PXE])), "");
}

#[test]
fn request_to_another_server_frees_our_offer() {
    let mut b = Bench::new();
    assert_eq!(b.verdict(1, NEW, &[]), Verdict::Offer(Ipv4Addr::new(10, 0, 0, 100)));
    let other = [10, 0, 0, 254];
    assert_eq!(
        b.verdict(3, NEW, &[(54, &other), (50, &[10, 0, 0, 180])]),
        Verdict::Dropped(Drop::OtherServer)
    );
    assert_eq!(b.leases.held(Mac(NEW)), None);
}

#[test]
fn init_reboot_renewal_and_rebinding_are_answered() {
    let mut b = Bench::new();
    let ip = [10, 0, 0, 120];
    assert_eq!(b.verdict(3, NEW, &[(50, &ip)]), Verdict::Ack(ip.into()), "free address of the range");
    assert_eq!(b.verdict(3, NEW, &[(50, &[10, 9, 0, 1])]), Verdict::Nak, "foreign network");
    let mut renew = raw(3, NEW, &[]);
    renew[12..16].copy_from_slice(&ip);
    let out = b.send(&renew);
    assert_eq!(out.verdict, Verdict::Ack(ip.into()));
    assert_eq!(out.reply.unwrap().destination, SocketAddrV4::new(ip.into(), 68), "straight to the client");
    let thief = [0x52, 0x54, 0, 0, 0, 0x77];
    renew[28..34].copy_from_slice(&thief);
    assert_eq!(b.send(&renew).verdict, Verdict::Nak);
    let out = b.say(3, thief, &[(50, &ip)]);
    assert_eq!(out.verdict, Verdict::Nak);
    assert_eq!(message(&out).opts().msg_type(), Some(MessageType::Nak));
    assert_eq!(out.reply.unwrap().destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    assert_eq!(
        b.verdict(3, thief, &[(54, &SN.octets()), (50, &[10, 0, 0, 130])]),
        Verdict::Nak,
        "never offered"
    );
    assert_eq!(b.verdict(3, thief, &[]), Verdict::Dropped(Drop::Pointless));
}

#[test]
fn machine_that_became_known_loses_its_pool_address_at_renewal() {
    let mut b = Bench::new();
    assert!(matches!(b.verdict(1, NEW, &[]), Verdict::Offer(_)));
    assert!(matches!(b.verdict(3, NEW, &[(50, &[10, 0, 0, 100])]), Verdict::Ack(_)));
    let node = NodeView {
        name: "n2".into(),
        ip: "10.0.0.12".into(),
        macs: vec![NodeMac { mac: "52:54:00:00:00:99".into(), ..NodeMac::default() }],
        ..NodeView::default()
    };
    b.world.apply(&ViewUpdate { nodes: vec![node], ..ViewUpdate::default() });
    assert_eq!(b.verdict(3, NEW, &[(50, &[10, 0, 0, 100])]), Verdict::Nak);
    assert_eq!(b.verdict(1, NEW, &[]), Verdict::Offer(Ipv4Addr::new(10, 0, 0, 12)));
}

#[test]
fn release_decline_and_inform_do_what_they_say() {
    let mut b = Bench::new();
    let ip = Ipv4Addr::new(10, 0, 0, 100);
    b.verdict(1, NEW, &[]);
    b.verdict(3, NEW, &[(50, &ip.octets())]);
    let mut release = raw(7, NEW, &[]);
    release[12..16].copy_from_slice(&ip.octets());
    assert_eq!(b.send(&release).verdict, Verdict::Released(ip));
    assert_eq!(b.send(&release).verdict, Verdict::Dropped(Drop::Pointless));
    b.verdict(1, NEW, &[]);
    let held = b.leases.held(Mac(NEW)).unwrap();
    assert_eq!(b.verdict(4, NEW, &[(50, &held.octets())]), Verdict::Declined(held));
    assert_ne!(b.verdict(1, NEW, &[(50, &held.octets())]), Verdict::Offer(held));
    assert_eq!(
        b.verdict(4, NEW, &[(50, &[10, 0, 0, 11])]),
        Verdict::Dropped(Drop::Pointless),
        "a node's address"
    );
    let mut inform = raw(8, KNOWN, &[]);
    inform[12..16].copy_from_slice(&[10, 0, 0, 11]);
    let out = b.send(&inform);
    assert_eq!(out.verdict, Verdict::Inform);
    let m = message(&out);
    assert!(m.yiaddr().is_unspecified() && m.opts().get(OptionCode::AddressLeaseTime).is_none());
}

#[test]
fn relay_chooses_the_network_and_gets_its_option_back_last() {
    let mut b = Bench::new();
    let mut d = raw(1, NEW, &[(82, &[1, 2, 0, 7])]);
    d[24..28].copy_from_slice(&[10, 5, 0, 2]);
    let out = b.send(&d);
    assert_eq!(out.verdict, Verdict::Offer(Ipv4Addr::new(10, 5, 0, 100)));
    let reply = out.reply.unwrap();
    assert_eq!(reply.destination, SocketAddrV4::new(Ipv4Addr::new(10, 5, 0, 2), 67));
    let end = reply.bytes.iter().rposition(|b| *b != 0).unwrap();
    assert_eq!(reply.bytes[end - 6..=end], [82, 4, 1, 2, 0, 7, 255]);
    d[24..28].copy_from_slice(&[10, 77, 0, 2]);
    assert_eq!(b.send(&d).verdict, Verdict::Dropped(Drop::NoNetwork));
    let mut chosen = raw(1, [0x52, 0x54, 0, 0, 0, 0x98], &[(82, &[5, 4, 10, 0, 0, 0])]);
    chosen[24..28].copy_from_slice(&[10, 77, 0, 2]);
    assert_eq!(b.send(&chosen).verdict, Verdict::Offer(Ipv4Addr::new(10, 0, 0, 100)), "link selection");
}

#[test]
fn full_pool_says_nothing_until_an_offer_ends() {
    let mut b = Bench::new();
    for n in 0..101u8 {
        assert!(matches!(b.verdict(1, [2, 0, 0, 0, 1, n], &[]), Verdict::Offer(_)));
    }
    assert_eq!(b.verdict(1, NEW, &[]), Verdict::Dropped(Drop::PoolEmpty));
    b.now += 11;
    assert!(matches!(b.verdict(1, NEW, &[]), Verdict::Offer(_)));
}

#[test]
fn local_disk_is_left_to_uefi_firmware() {
    let mut b = Bench::new();
    let node = NodeView {
        name: "n1".into(),
        ip: "10.0.0.11".into(),
        destiny: "boot".into(),
        macs: vec![NodeMac { mac: "52:54:00:00:00:01".into(), ..NodeMac::default() }],
        ..NodeView::default()
    };
    b.world.apply(&ViewUpdate { nodes: vec![node], ..ViewUpdate::default() });
    assert_eq!(file(&b.say(1, KNOWN, &[(60, b"PXEClient"), (93, &[0, 7])])), "");
    assert_eq!(file(&b.say(1, KNOWN, &[(60, b"PXEClient"), (93, &[0, 0])])), "undionly.kpxe");
}

#[test]
fn garbage_is_dropped_and_named() {
    let mut b = Bench::new();
    assert_eq!(b.send(&[1, 2, 3]).verdict, Verdict::Dropped(Drop::Bad(Bad::Cut)));
    assert_eq!(b.send(&vec![0; 3000]).verdict, Verdict::Dropped(Drop::Bad(Bad::Oversized)));
    assert_eq!(b.send(&[0xff; 400]).verdict, Verdict::Dropped(Drop::Bad(Bad::Malformed)));
    let mut reply = raw(2, NEW, &[]);
    reply[0] = 2;
    assert_eq!(b.send(&reply).verdict, Verdict::Dropped(Drop::Bad(Bad::NotARequest)));
}

#[test]
fn random_sequences_keep_the_lease_table_whole() {
    let mut b = Bench::new();
    let mut seed = 0x1234_5678_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    for _ in 0..20_000 {
        let mac = [2, 0, 0, 0, 2, (next() % 130) as u8];
        let ip = [10, 0, 0, 95 + (next() % 110) as u8];
        let kind = [1, 3, 3, 4, 7, 8][(next() % 6) as usize];
        let wish: [(u8, &[u8]); 1] = [(50, &ip)];
        let mut d = raw(kind, mac, &wish[..(next() % 2) as usize]);
        if next() % 2 == 0 {
            d[12..16].copy_from_slice(&ip);
        }
        if next() % 8 == 0 {
            let at = (next() as usize) % d.len();
            d[at] = next() as u8;
        }
        b.now += u64::from(next() % 5);
        let out = b.send(&d);
        if let Verdict::Ack(given) = out.verdict {
            assert_eq!(b.leases.holder(given, b.now), out.seen, "one holder");
        }
    }
    let journal = b.leases.drain_journal();
    assert_eq!(Leases::load(&journal).1, 0);
}
