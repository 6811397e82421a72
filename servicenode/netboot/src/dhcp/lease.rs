//! Addresses lent to machines that no table knows.
//!
//! Invariants: an address has at most one holder and a MAC at most one address; an address of a
//! known node is never lent; an offer binds an address for ten seconds only. Every granted or
//! ended lease is one line for the journal, and the lines of a journal, read in order, give the
//! table again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::net::Ipv4Addr;

use wire::names::Mac;

/// Leases and offers of one service node.
pub const MAX_LEASES: usize = 65_536;
/// How long an offer is kept for its client.
pub const OFFER_SECONDS: u64 = 10;
/// Lease of an unknown machine: short, for discovery soon gives it an address of its own.
pub const POOL_LEASE_SECONDS: u32 = 600;
/// An address that a client found in use is left alone for this long.
const DECLINED_SECONDS: u64 = 600;
/// New machines behind one switch port of a relay (option 82) within a minute.
const NEW_PER_PORT: u32 = 20;
const MAX_PORTS: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered,
    Held,
    Declined,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    mac: Mac,
    expires: u64,
    state: State,
}

#[derive(Debug, Default)]
struct Pool {
    /// Next address that was never lent.
    cursor: Option<u32>,
    /// Lent addresses by end.
    ends: BTreeSet<(u64, u32)>,
}

type Ranges = Vec<(u32, u32)>;

/// Why no address is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAddress {
    /// All addresses of the ranges are lent, or there are none.
    Empty,
    /// Too many new machines behind one port.
    TooMany,
}

/// The lease table.
#[derive(Debug, Default)]
pub struct Leases {
    by_ip: HashMap<u32, Lease>,
    by_mac: HashMap<Mac, u32>,
    pools: BTreeMap<Ranges, Pool>,
    ports: BTreeMap<Vec<u8>, (u64, u32)>,
    journal: String,
}

impl Leases {
    /// An address for the MAC: the one it holds, the one it wants, a fresh one, or the one that
    /// ended longest ago. `taken` says which addresses belong to somebody else.
    pub fn offer(
        &mut self,
        mac: Mac,
        ranges: &[(u32, u32)],
        wanted: Option<Ipv4Addr>,
        port: Option<&[u8]>,
        now: u64,
        taken: &dyn Fn(Ipv4Addr) -> bool,
    ) -> Result<Ipv4Addr, NoAddress> {
        if let Some(ip) = self.held(mac)
            && within(ranges, ip.into())
            && !taken(ip)
        {
            if self.by_ip.get(&ip.into()).is_some_and(|l| l.state != State::Held || l.expires <= now) {
                self.put(ip.into(), Lease { mac, expires: now + OFFER_SECONDS, state: State::Offered });
            }
            return Ok(ip);
        }
        if let Some(port) = port {
            self.admit(port, now)?;
        }
        self.forget(mac);
        let free = |table: &Self, ip: u32| {
            within(ranges, ip) && table.by_ip.get(&ip).is_none_or(|l| l.expires <= now) && !taken(ip.into())
        };
        let ip = match wanted.map(u32::from).filter(|ip| free(self, *ip)) {
            Some(ip) => ip,
            None => self
                .fresh(ranges, taken)
                .or_else(|| self.ended(ranges, now, taken))
                .ok_or(NoAddress::Empty)?,
        };
        if self.by_ip.len() >= MAX_LEASES && !self.by_ip.contains_key(&ip) {
            return Err(NoAddress::Empty);
        }
        self.put(ip, Lease { mac, expires: now + OFFER_SECONDS, state: State::Offered });
        Ok(ip.into())
    }

    /// The client takes the address. False when it is somebody else's.
    pub fn grant(&mut self, mac: Mac, ip: Ipv4Addr, seconds: u32, now: u64) -> bool {
        let key = u32::from(ip);
        if self.by_ip.get(&key).is_some_and(|l| l.mac != mac && l.expires > now) {
            return false;
        }
        if self.by_ip.len() >= MAX_LEASES && !self.by_ip.contains_key(&key) {
            return false;
        }
        if self.held(mac).is_some_and(|old| old != ip) {
            self.forget(mac);
        }
        let expires = now + u64::from(seconds);
        self.put(key, Lease { mac, expires, state: State::Held });
        let _ = writeln!(self.journal, "+ {ip} {mac} {expires}");
        true
    }

    /// The address that the MAC holds, was offered or held last.
    pub fn held(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.by_mac.get(&mac).map(|ip| Ipv4Addr::from(*ip))
    }

    /// The MAC that holds the address now, by a lease and not by an offer.
    pub fn holder(&self, ip: Ipv4Addr, now: u64) -> Option<Mac> {
        let lease = self.by_ip.get(&ip.into())?;
        (lease.state == State::Held && lease.expires > now).then_some(lease.mac)
    }

    /// Whether somebody else has the address.
    pub fn others(&self, mac: Mac, ip: Ipv4Addr, now: u64) -> bool {
        self.by_ip.get(&ip.into()).is_some_and(|l| l.mac != mac && l.expires > now)
    }

    /// The client gives the address back.
    pub fn release(&mut self, mac: Mac, ip: Ipv4Addr) -> bool {
        if self.held(mac) != Some(ip) {
            return false;
        }
        self.forget(mac);
        let _ = writeln!(self.journal, "- {ip}");
        true
    }

    /// The client found the address in use: nobody gets it for a while.
    pub fn decline(&mut self, mac: Mac, ip: Ipv4Addr, now: u64) -> bool {
        if self.held(mac) != Some(ip) {
            return false;
        }
        self.by_mac.remove(&mac);
        self.put(
            ip.into(),
            Lease { mac: Mac([0; 6]), expires: now + DECLINED_SECONDS, state: State::Declined },
        );
        let _ = writeln!(self.journal, "- {ip}");
        true
    }

    /// Leases and offers in the table, ended ones included.
    pub fn len(&self) -> usize {
        self.by_ip.len()
    }

    /// Whether nothing was ever lent.
    pub fn is_empty(&self) -> bool {
        self.by_ip.is_empty()
    }

    /// Lines that are not in the journal yet.
    pub fn drain_journal(&mut self) -> String {
        std::mem::take(&mut self.journal)
    }

    /// The whole table as a fresh journal.
    pub fn dump(&self, now: u64) -> String {
        let mut out = String::new();
        let live = self.by_ip.iter().filter(|(_, l)| l.state == State::Held && l.expires > now);
        for (ip, lease) in live {
            let _ = writeln!(out, "+ {} {} {}", Ipv4Addr::from(*ip), lease.mac, lease.expires);
        }
        out
    }

    /// Reads a journal. Lines that cannot be read (the last one after a crash) are counted and
    /// left out.
    pub fn load(journal: &str) -> (Leases, usize) {
        let (mut leases, mut bad) = (Leases::default(), 0);
        for line in journal.split_inclusive('\n') {
            // A line without its end was cut, even where it looks whole.
            let whole = line.strip_suffix('\n');
            if whole.and_then(|line| leases.replay(line)).is_none() {
                bad += 1;
            }
        }
        leases.journal.clear();
        (leases, bad)
    }

    fn replay(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        match (words.next()?, words.next()?.parse::<Ipv4Addr>().ok()?) {
            ("+", ip) => {
                let mac = Mac::parse(words.next()?).ok()?;
                let expires = words.next()?.parse().ok()?;
                if self.by_ip.len() >= MAX_LEASES {
                    return None;
                }
                self.forget(mac);
                if let Some(old) = self.by_ip.get(&ip.into()).map(|l| l.mac) {
                    self.by_mac.remove(&old);
                }
                self.put(ip.into(), Lease { mac, expires, state: State::Held });
            }
            ("-", ip) => {
                if let Some(lease) = self.by_ip.get(&ip.into()).copied() {
                    self.forget(lease.mac);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn put(&mut self, ip: u32, lease: Lease) {
        let old = self.by_ip.insert(ip, lease);
        if let Some(old) = old
            && old.mac != lease.mac
            && self.by_mac.get(&old.mac) == Some(&ip)
        {
            self.by_mac.remove(&old.mac);
        }
        if lease.state != State::Declined {
            self.by_mac.insert(lease.mac, ip);
        }
        for (ranges, pool) in &mut self.pools {
            if within(ranges, ip) {
                if let Some(old) = old {
                    pool.ends.remove(&(old.expires, ip));
                }
                pool.ends.insert((lease.expires, ip));
            }
        }
    }

    /// The MAC's address may be lent at once.
    fn forget(&mut self, mac: Mac) {
        let Some(ip) = self.by_mac.remove(&mac) else { return };
        let Some(lease) = self.by_ip.get_mut(&ip) else { return };
        let old = lease.expires;
        lease.expires = 0;
        lease.state = State::Offered;
        for (ranges, pool) in &mut self.pools {
            if within(ranges, ip) {
                pool.ends.remove(&(old, ip));
                pool.ends.insert((0, ip));
            }
        }
    }

    /// The next address that nobody ever had.
    fn fresh(&mut self, ranges: &[(u32, u32)], taken: &dyn Fn(Ipv4Addr) -> bool) -> Option<u32> {
        if !self.pools.contains_key(ranges) {
            let known = self.by_ip.iter().filter(|(ip, _)| within(ranges, **ip));
            let ends = known.map(|(ip, l)| (l.expires, *ip)).collect();
            let cursor = ranges.first().map(|r| r.0);
            self.pools.insert(ranges.to_vec(), Pool { cursor, ends });
        }
        let pool = self.pools.get_mut(ranges)?;
        while let Some(ip) = pool.cursor {
            pool.cursor = after(ranges, ip);
            if !self.by_ip.contains_key(&ip) && !taken(ip.into()) {
                return Some(ip);
            }
        }
        None
    }

    /// The address that ended longest ago.
    fn ended(&mut self, ranges: &[(u32, u32)], now: u64, taken: &dyn Fn(Ipv4Addr) -> bool) -> Option<u32> {
        let pool = self.pools.get(ranges)?;
        let mut past = pool.ends.iter().take_while(|(end, _)| *end <= now);
        past.find(|(_, ip)| !taken((*ip).into())).map(|(_, ip)| *ip)
    }

    fn admit(&mut self, port: &[u8], now: u64) -> Result<(), NoAddress> {
        if self.ports.len() >= MAX_PORTS && !self.ports.contains_key(port) {
            self.ports.retain(|_, (since, _)| *since + 60 > now);
            if self.ports.len() >= MAX_PORTS {
                return Err(NoAddress::TooMany);
            }
        }
        let (since, count) = self.ports.entry(port.to_vec()).or_insert((now, 0));
        if *since + 60 <= now {
            (*since, *count) = (now, 0);
        }
        if *count >= NEW_PER_PORT {
            return Err(NoAddress::TooMany);
        }
        *count += 1;
        Ok(())
    }
}

fn within(ranges: &[(u32, u32)], ip: u32) -> bool {
    ranges.iter().any(|(a, b)| (*a..=*b).contains(&ip))
}

fn after(ranges: &[(u32, u32)], ip: u32) -> Option<u32> {
    let next = ip.checked_add(1)?;
    if within(ranges, next) {
        return Some(next);
    }
    ranges.iter().map(|r| r.0).find(|start| *start > ip)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RANGES: [(u32, u32); 2] = [(0x0a00_0001, 0x0a00_0003), (0x0a00_0010, 0x0a00_0011)];

    fn mac(n: u16) -> Mac {
        let [a, b] = n.to_be_bytes();
        Mac([2, 0, 0, 0, a, b])
    }

    fn none(_: Ipv4Addr) -> bool {
        false
    }

    fn offer(l: &mut Leases, n: u16, now: u64) -> Result<Ipv4Addr, NoAddress> {
        l.offer(mac(n), &RANGES, None, None, now, &none)
    }

    #[test]
    fn every_address_is_lent_once_and_then_the_pool_is_empty() {
        let mut l = Leases::default();
        let mut seen = BTreeSet::new();
        for n in 0..5 {
            assert!(seen.insert(offer(&mut l, n, 0).unwrap()));
        }
        assert_eq!(offer(&mut l, 9, 0), Err(NoAddress::Empty));
        assert_eq!(offer(&mut l, 9, OFFER_SECONDS).unwrap(), Ipv4Addr::new(10, 0, 0, 1), "offers end");
    }

    #[test]
    fn a_machine_keeps_its_address() {
        let mut l = Leases::default();
        let ip = offer(&mut l, 1, 0).unwrap();
        assert!(l.grant(mac(1), ip, 600, 1));
        assert_eq!(offer(&mut l, 1, 5).unwrap(), ip);
        assert_eq!(l.holder(ip, 600), Some(mac(1)));
        assert_eq!(l.holder(ip, 601), None);
        assert_eq!(offer(&mut l, 1, 9000).unwrap(), ip, "also after its end while nobody needs it");
        assert!(!l.grant(mac(2), ip, 600, 9001));
    }

    #[test]
    fn address_of_a_known_node_is_never_lent() {
        let mut l = Leases::default();
        let taken = |ip: Ipv4Addr| ip == Ipv4Addr::new(10, 0, 0, 1);
        let ip = l.offer(mac(1), &RANGES, Some(Ipv4Addr::new(10, 0, 0, 1)), None, 0, &taken).unwrap();
        assert_eq!(ip, Ipv4Addr::new(10, 0, 0, 2));
        assert!(l.grant(mac(1), ip, 600, 0));
        let all = |_: Ipv4Addr| true;
        assert_eq!(l.offer(mac(1), &RANGES, None, None, 1, &all), Err(NoAddress::Empty), "it became known");
    }

    #[test]
    fn wanted_address_is_given_when_free() {
        let mut l = Leases::default();
        let want = Ipv4Addr::new(10, 0, 0, 0x11);
        assert_eq!(l.offer(mac(1), &RANGES, Some(want), None, 0, &none), Ok(want));
        assert_ne!(l.offer(mac(2), &RANGES, Some(want), None, 0, &none), Ok(want));
        let outside = Ipv4Addr::new(10, 9, 9, 9);
        assert_ne!(l.offer(mac(3), &RANGES, Some(outside), None, 0, &none), Ok(outside));
    }

    #[test]
    fn declined_address_rests_and_released_one_returns() {
        let mut l = Leases::default();
        let ip = offer(&mut l, 1, 0).unwrap();
        l.grant(mac(1), ip, 600, 0);
        assert!(!l.decline(mac(2), ip, 0), "only its holder may decline");
        assert!(l.decline(mac(1), ip, 0));
        for n in 1..5 {
            assert_ne!(offer(&mut l, n, 1).unwrap(), ip);
        }
        assert_eq!(offer(&mut l, 9, 5), Err(NoAddress::Empty));
        let other = l.held(mac(2)).unwrap();
        assert!(l.grant(mac(2), other, 600, 5));
        assert!(l.release(mac(2), other));
        assert_eq!(offer(&mut l, 9, 6).unwrap(), other);
        assert!(!l.release(mac(2), other));
    }

    #[test]
    fn journal_gives_the_table_again() {
        let mut l = Leases::default();
        for n in 0..4 {
            let ip = offer(&mut l, n, 0).unwrap();
            l.grant(mac(n), ip, 600, 0);
        }
        let gone = l.held(mac(1)).unwrap();
        l.release(mac(1), gone);
        let journal = l.drain_journal() + "+ 10.0.0.2 02:0";
        let (mut again, bad) = Leases::load(&journal);
        assert_eq!(bad, 1, "the cut last line");
        for n in [0, 2, 3] {
            assert_eq!(again.held(mac(n)), l.held(mac(n)));
        }
        assert_eq!(again.held(mac(1)), None);
        let (copy, bad) = Leases::load(&l.dump(1));
        assert_eq!((bad, copy.held(mac(3))), (0, l.held(mac(3))));
        let mut seen: BTreeSet<_> = [0, 2, 3].iter().map(|n| again.held(mac(*n)).unwrap()).collect();
        for n in 20..22 {
            assert!(seen.insert(offer(&mut again, n, 1).unwrap()), "never an address that is lent");
        }
    }

    #[test]
    fn ports_of_a_relay_bring_twenty_new_machines_a_minute() {
        let ranges = [(0x0a00_0000, 0x0a00_ffff)];
        let mut l = Leases::default();
        for n in 0..20 {
            assert!(l.offer(mac(n), &ranges, None, Some(b"port7"), 0, &none).is_ok());
        }
        assert_eq!(l.offer(mac(99), &ranges, None, Some(b"port7"), 0, &none), Err(NoAddress::TooMany));
        assert!(l.offer(mac(3), &ranges, None, Some(b"port7"), 0, &none).is_ok(), "it is not new");
        assert!(l.offer(mac(99), &ranges, None, Some(b"port8"), 0, &none).is_ok());
        assert!(l.offer(mac(98), &ranges, None, Some(b"port7"), 60, &none).is_ok());
    }
}
