//! Waiting rooms: who waits for what from which node.
//!
//! Pure: it hands out tickets and says which tickets an answer or a deadline concerns; what a ticket is connected
//! to is the caller's business. Invariant: every ticket handed out is given back exactly once, by `leave`,
//! `deliver` or `expire`.

use std::collections::{BTreeMap, HashMap};

/// One who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What entering a room gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// Nobody waited for this before: the caller must start what is waited for.
    First(Ticket),
    /// Somebody waits already: nothing must be started.
    Joined(Ticket),
}

impl Entered {
    /// The ticket.
    pub fn ticket(self) -> Ticket {
        match self {
            Entered::First(ticket) | Entered::Joined(ticket) => ticket,
        }
    }
}

/// No seat is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} requests are waiting already")]
pub struct Full {
    /// Number of seats.
    pub limit: usize,
}

/// A ticket whose deadline passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The ticket.
    pub ticket: Ticket,
    /// The node.
    pub node: String,
    /// What was waited for.
    pub what: String,
}

/// Seats keyed by node and by what is waited for.
#[derive(Debug)]
pub struct Rooms {
    limit: usize,
    next: u64,
    rooms: BTreeMap<(String, String), Vec<Ticket>>,
    seats: HashMap<Ticket, Seat>,
    deadlines: BTreeMap<(u64, Ticket), ()>,
}

#[derive(Debug)]
struct Seat {
    node: String,
    what: String,
    deadline: u64,
}

impl Rooms {
    /// Rooms with this many seats in all.
    pub fn new(limit: usize) -> Rooms {
        Rooms { limit, next: 1, rooms: BTreeMap::new(), seats: HashMap::new(), deadlines: BTreeMap::new() }
    }

    /// Takes a seat until `deadline` (in the caller's unit of time).
    ///
    /// # Errors
    /// [`Full`] when all seats are taken.
    pub fn enter(&mut self, node: &str, what: &str, deadline: u64) -> Result<Entered, Full> {
        if self.seats.len() >= self.limit {
            return Err(Full { limit: self.limit });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let room = self.rooms.entry((node.to_owned(), what.to_owned())).or_default();
        let first = room.is_empty();
        room.push(ticket);
        self.deadlines.insert((deadline, ticket), ());
        self.seats.insert(ticket, Seat { node: node.to_owned(), what: what.to_owned(), deadline });
        Ok(if first { Entered::First(ticket) } else { Entered::Joined(ticket) })
    }

    /// Gives a seat back. True: nobody waits for this any more.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(seat) = self.seats.remove(&ticket) else { return false };
        self.deadlines.remove(&(seat.deadline, ticket));
        let key = (seat.node, seat.what);
        let Some(room) = self.rooms.get_mut(&key) else { return true };
        room.retain(|known| *known != ticket);
        if room.is_empty() {
            self.rooms.remove(&key);
            return true;
        }
        false
    }

    /// The answer is there: everybody who waits for it, in the order they came. Their seats are free.
    pub fn deliver(&mut self, node: &str, what: &str) -> Vec<Ticket> {
        let tickets = self.rooms.remove(&(node.to_owned(), what.to_owned())).unwrap_or_default();
        for ticket in &tickets {
            if let Some(seat) = self.seats.remove(ticket) {
                self.deadlines.remove(&(seat.deadline, *ticket));
            }
        }
        tickets
    }

    /// Everybody whose deadline is not after `now`. Their seats are free.
    pub fn expire(&mut self, now: u64) -> Vec<Expired> {
        let mut out = Vec::new();
        while let Some((&(deadline, ticket), ())) = self.deadlines.first_key_value() {
            if deadline > now {
                break;
            }
            let seat = self.seats.get(&ticket).map(|seat| (seat.node.clone(), seat.what.clone()));
            self.leave(ticket);
            self.deadlines.remove(&(deadline, ticket));
            if let Some((node, what)) = seat {
                out.push(Expired { ticket, node, what });
            }
        }
        out
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|((deadline, _), ())| *deadline)
    }

    /// How many wait for this.
    pub fn waiting(&self, node: &str, what: &str) -> usize {
        self.rooms.get(&(node.to_owned(), what.to_owned())).map_or(0, Vec::len)
    }

    /// Seats taken.
    pub fn taken(&self) -> usize {
        self.seats.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn second_waiter_for_same_node_joins_the_first_and_both_get_the_answer() {
        let mut rooms = Rooms::new(10);
        let first = rooms.enter("n1", "getadapter", 100).unwrap();
        let second = rooms.enter("n1", "getadapter", 200).unwrap();
        assert!(matches!(first, Entered::First(_)));
        assert!(matches!(second, Entered::Joined(_)));
        assert_eq!(rooms.deliver("n1", "getadapter"), [first.ticket(), second.ticket()]);
        assert_eq!(rooms.deliver("n1", "getadapter"), []);
        assert_eq!((rooms.taken(), rooms.next_deadline()), (0, None));
    }

    #[test]
    fn each_ticket_expires_at_its_own_deadline() {
        let mut rooms = Rooms::new(10);
        let late = rooms.enter("n1", "getadapter", 200).unwrap().ticket();
        let early = rooms.enter("n1", "getadapter", 100).unwrap().ticket();
        assert_eq!(rooms.next_deadline(), Some(100));
        assert_eq!(rooms.expire(100).iter().map(|e| e.ticket).collect::<Vec<_>>(), [early]);
        assert_eq!(rooms.deliver("n1", "getadapter"), [late]);
        assert!(rooms.expire(1000).is_empty());
    }

    #[test]
    fn a_full_room_refuses_and_a_freed_seat_can_be_taken() {
        let mut rooms = Rooms::new(1);
        let ticket = rooms.enter("n1", "getadapter", 1).unwrap().ticket();
        assert_eq!(rooms.enter("n2", "getadapter", 1), Err(Full { limit: 1 }));
        assert!(rooms.leave(ticket));
        assert!(!rooms.leave(ticket));
        assert!(matches!(rooms.enter("n2", "getadapter", 1), Ok(Entered::First(_))));
    }

    #[test]
    fn a_thousand_answers_find_their_thousand_waiters() {
        let mut rooms = Rooms::new(2000);
        let tickets: Vec<Ticket> =
            (0..1000).map(|i| rooms.enter(&format!("n{i}"), "getadapter", 9).unwrap().ticket()).collect();
        for (i, ticket) in tickets.iter().enumerate() {
            assert_eq!(rooms.deliver(&format!("n{i}"), "getadapter"), [*ticket]);
        }
        assert_eq!(rooms.taken(), 0);
    }
}
