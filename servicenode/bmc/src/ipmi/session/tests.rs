//! Tests of the session against a BMC written here from the specification's tables.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn login() -> Login {
    Login { user: "admin".into(), password: b"secret".to_vec() }
}

fn sent(session: &mut Session) -> Option<Vec<u8>> {
    match session.event() {
        Some(Event::Send(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Just enough of a BMC to get a session into each of its stages.
struct Bmc {
    suite: Suite,
    console: [u8; 4],
    console_random: [u8; 16],
    keys: Option<Keys>,
    sik: Vec<u8>,
    sequence: u32,
    refuse_17: bool,
}

const ID: [u8; 4] = [9, 8, 7, 6];
const RANDOM: [u8; 16] = [0x55; 16];
const GUID: [u8; 16] = [0x77; 16];

impl Bmc {
    fn new() -> Self {
        Self {
            suite: Suite::Seventeen,
            console: [0; 4],
            console_random: [0; 16],
            keys: None,
            sik: Vec::new(),
            sequence: 0,
            refuse_17: false,
        }
    }

    fn key(&self) -> Vec<u8> {
        let mut key = login().password;
        key.resize(20, 0);
        key
    }

    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        match packet::parse(bytes).unwrap() {
            Packet::Plain(message) => {
                assert_eq!(message[5], 0x38);
                packet::plain(&response(message, &[0, 1, 0x80, 4, 2, 0, 0, 0, 0]))
            }
            Packet::Plus(plus) if plus.session == 0 => self.opening(&plus),
            Packet::Plus(plus) => {
                let keys = self.keys.clone().unwrap();
                let message = plus.open(&keys).unwrap();
                self.sequence += 1;
                let data: &[u8] = if message[5] == 0x3b { &[0, 4] } else { &[0, 0x21, 0, 0x40] };
                self.seal(&response(&message, data))
            }
        }
    }

    fn seal(&self, message: &[u8]) -> Vec<u8> {
        let console = u32::from_le_bytes(self.console);
        packet::secured(packet::IPMI, console, self.sequence, message, self.keys.as_ref().unwrap(), [3; 16])
    }

    fn opening(&mut self, plus: &Plus<'_>) -> Vec<u8> {
        let data = plus.payload;
        let identity = [&[0x14, 5][..], b"admin"].concat();
        match plus.kind {
            packet::OPEN_REQUEST => {
                self.console.copy_from_slice(&data[4..8]);
                self.suite = if data[12] == 3 { Suite::Seventeen } else { Suite::Three };
                let refused = self.refuse_17 && self.suite == Suite::Seventeen;
                let mut out = vec![data[0], if refused { 0x11 } else { 0 }, 4, 0];
                out.extend(self.console);
                if !refused {
                    out.extend(ID);
                    out.extend(&data[8..32]);
                }
                packet::unsecured(packet::OPEN_RESPONSE, &out)
            }
            packet::RAKP1 => {
                self.console_random.copy_from_slice(&data[8..24]);
                let mut out = vec![data[0], 0, 0, 0];
                out.extend(self.console);
                out.extend(RANDOM);
                out.extend(GUID);
                let parts: [&[u8]; 6] = [&self.console, &ID, &self.console_random, &RANDOM, &GUID, &identity];
                out.extend(self.suite.hash(&self.key(), &parts));
                packet::unsecured(packet::RAKP2, &out)
            }
            _ => {
                assert_eq!(plus.kind, packet::RAKP3);
                assert!(self.suite.verify(&self.key(), &[&RANDOM, &self.console, &identity], &data[8..]));
                self.sik = self.suite.hash(&self.key(), &[&self.console_random, &RANDOM, &identity]);
                self.keys = Some(Keys::new(self.suite, &self.sik));
                let mut out = vec![data[0], 0, 0, 0];
                out.extend(self.console);
                let mut code = self.suite.hash(&self.sik, &[&self.console_random, &ID, &GUID]);
                code.truncate(self.suite.code_length());
                out.extend(code);
                packet::unsecured(packet::RAKP4, &out)
            }
        }
    }
}

/// The response to `message` with completion code and data.
fn response(message: &[u8], data: &[u8]) -> Vec<u8> {
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
    let mut out = vec![0x81, message[1] | 4];
    out.push(sum(&out));
    out.extend([0x20, message[4], message[5]]);
    out.extend(data);
    out.push(sum(&out[3..]));
    out
}

/// A session that has had `answers` right answers, its BMC, and its last packet.
fn advanced(answers: usize, now: Instant) -> (Session, Bmc, Vec<u8>) {
    let mut session = Session::new(login(), &Suite::PREFERRED, [1; 32], now);
    let mut bmc = Bmc::new();
    let mut last = sent(&mut session).unwrap();
    for _ in 0..answers {
        let answer = bmc.answer(&last);
        session.receive(&answer, now);
        if session.step() == Step::Idle {
            assert_eq!(session.event(), Some(Event::Ready));
            session.request(Request::new(0, 1, []), false, now);
        }
        last = sent(&mut session).unwrap();
    }
    (session, bmc, last)
}

/// Answers until a request is waiting for its own.
const IN_REQUEST: usize = 5;

#[test]
fn five_answers_open_a_session_and_the_sixth_answers_the_request() {
    let now = Instant::now();
    let (mut session, mut bmc, last) = advanced(IN_REQUEST, now);
    assert_eq!(session.suite(), Some(Suite::Seventeen));
    session.receive(&bmc.answer(&last), now);
    let Some(Event::Answer(answer)) = session.event() else { panic!("an answer") };
    assert_eq!((answer.code, answer.data), (0, vec![0x21, 0, 0x40]));
    assert!(session.close().is_some());
}

#[test]
fn a_bmc_without_suite_17_is_asked_for_suite_3() {
    let now = Instant::now();
    let (mut session, mut bmc, mut last) = advanced(1, now);
    bmc.refuse_17 = true;
    while session.step() != Step::Idle {
        session.receive(&bmc.answer(&last), now);
        if session.step() != Step::Idle {
            last = sent(&mut session).unwrap();
        }
    }
    assert_eq!(session.suite(), Some(Suite::Three));
}

#[test]
fn a_bmc_that_is_silent_to_suite_17_is_asked_for_suite_3() {
    let mut now = Instant::now();
    let (mut session, _, first) = advanced(1, now);
    let suite = |bytes: &[u8]| bytes[16 + 12];
    assert_eq!(suite(&first), 3, "the algorithm of suite 17");
    let mut asked = Vec::new();
    for _ in 0..OPENING_TRIES {
        now = session.deadline().unwrap();
        session.tick(now);
        asked.push(suite(&sent(&mut session).unwrap()));
    }
    assert_eq!(asked, [3, 3, 1]);
}

#[test]
fn a_bmc_that_picks_suite_0_is_refused() {
    let now = Instant::now();
    let (mut session, mut bmc, last) = advanced(1, now);
    let mut answer = bmc.answer(&last);
    for at in [16, 24, 32] {
        answer[16 + at] = 0;
    }
    session.receive(&answer, now);
    assert!(matches!(session.event(), Some(Event::Failed(Failure::Refused(_)))));
}

#[test]
fn a_wrong_password_is_noticed_before_anything_is_proved_to_the_bmc() {
    let now = Instant::now();
    let mut session =
        Session::new(Login { password: b"other".to_vec(), ..login() }, &Suite::PREFERRED, [1; 32], now);
    let mut bmc = Bmc::new();
    loop {
        match session.event() {
            Some(Event::Send(bytes)) => session.receive(&bmc.answer(&bytes), now),
            Some(event) => {
                assert_eq!(event, Event::Failed(Failure::Password));
                break;
            }
            None => panic!("it must end"),
        }
    }
    assert!(bmc.keys.is_none());
}

#[test]
fn the_same_answer_does_not_count_twice() {
    let now = Instant::now();
    let (mut session, mut bmc, last) = advanced(IN_REQUEST, now);
    let answer = bmc.answer(&last);
    session.receive(&answer, now);
    assert!(matches!(session.event(), Some(Event::Answer(_))));
    session.request(Request::new(0, 1, []), false, now);
    sent(&mut session).unwrap();
    session.receive(&answer, now);
    assert_eq!(session.event(), None);
    assert_eq!(session.step(), Step::Request);
}

#[test]
fn an_unanswered_request_is_sent_again_with_growing_pauses_and_new_numbers() {
    let mut now = Instant::now();
    let (mut session, mut bmc, first) = advanced(IN_REQUEST, now);
    let mut pauses = Vec::new();
    let mut last = first.clone();
    for _ in 0..4 {
        let due = session.deadline().unwrap();
        pauses.push(due - now);
        now = due;
        session.tick(now);
        let again = sent(&mut session).unwrap();
        assert_ne!(again, last);
        last = again;
    }
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    session.receive(&bmc.answer(&first), now);
    assert!(matches!(session.event(), Some(Event::Answer(_))), "the answer to any copy counts");
    assert_eq!(session.deadline(), None);
}

#[test]
fn a_lost_last_proof_opens_a_new_session() {
    let mut now = Instant::now();
    let (mut session, mut bmc, _) = advanced(3, now);
    assert_eq!(session.step(), Step::Proof);
    let mut last = None;
    while session.step() == Step::Proof {
        now = session.deadline().unwrap();
        session.tick(now);
        last = sent(&mut session);
    }
    assert_eq!(session.step(), Step::Open);
    let mut last = last.unwrap();
    while session.step() != Step::Idle {
        session.receive(&bmc.answer(&last), now);
        if session.step() != Step::Idle {
            last = sent(&mut session).unwrap();
        }
    }
}

#[test]
fn window_takes_each_number_once_and_none_that_is_too_old() {
    let mut window = Window::default();
    for (sequence, admitted) in [
        (0, false),
        (1, true),
        (1, false),
        (3, true),
        (2, true),
        (2, false),
        (40, true),
        (8, false),
        (9, true),
        (9, false),
        (u32::MAX, true),
        (40, false),
    ] {
        assert_eq!(window.admit(sequence), admitted, "{sequence}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random bytes, in every stage: no panic, and never an event but a repeated send.
    #[test]
    fn noise_changes_nothing_in_any_stage(
        answers in 0..=IN_REQUEST,
        noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..8),
        headed in any::<bool>(),
    ) {
        let now = Instant::now();
        let (mut session, mut bmc, last) = advanced(answers, now);
        for bytes in noise {
            let datagram = if headed { [&[6, 0, 0xff, 7, 6][..], &bytes].concat() } else { bytes };
            session.receive(&datagram, now);
        }
        prop_assert_eq!(session.event(), None);
        session.receive(&bmc.answer(&last), now);
        prop_assert!(session.event().is_some());
    }

    /// A right answer with changed bits or a missing end never opens a session that is not ours:
    /// it is ignored or the attempt ends, and nothing panics.
    #[test]
    fn damaged_answers_never_pass_for_right_ones(
        answers in 0..=IN_REQUEST,
        bits in proptest::collection::vec(any::<u16>(), 0..4),
        cut in any::<Option<u8>>(),
    ) {
        let now = Instant::now();
        let (mut session, mut bmc, last) = advanced(answers, now);
        let right = bmc.answer(&last);
        let mut damaged = right.clone();
        for bit in bits {
            let bit = usize::from(bit) % (damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        if let Some(cut) = cut {
            damaged.truncate(usize::from(cut).min(damaged.len()));
        }
        session.receive(&damaged, now);
        let events: Vec<Event> = std::iter::from_fn(|| session.event()).collect();
        if answers >= 3 && damaged != right {
            let passed = events.iter().any(|event| matches!(event, Event::Answer(_) | Event::Ready));
            prop_assert!(!passed);
        }
    }
}

/// What a BMC says to a proof that it does not accept.
fn bad_check(session: &Session) -> Vec<u8> {
    let mut out = vec![session.tag, 0x0f, 0, 0];
    out.extend(session.console.to_le_bytes());
    packet::unsecured(packet::RAKP4, &out)
}

#[test]
fn a_proof_refused_after_a_repeated_question_is_no_wrong_password() {
    let mut now = Instant::now();
    // capabilities, open session; message 1 of RAKP is out and its answer is late
    let (mut session, mut bmc, first) = advanced(2, now);
    now = session.deadline().unwrap();
    session.tick(now);
    sent(&mut session).unwrap();
    session.receive(&bmc.answer(&first), now);
    sent(&mut session).unwrap();
    let refusal = bad_check(&session);
    session.receive(&refusal, now);
    let again = sent(&mut session).expect("it opens again instead of blaming the password");
    let Packet::Plus(plus) = packet::parse(&again).unwrap() else { panic!("an opening") };
    assert_eq!(plus.kind, packet::OPEN_REQUEST);
}

#[test]
fn a_proof_refused_without_any_repetition_is_a_wrong_password() {
    let now = Instant::now();
    let (mut session, _, _) = advanced(3, now);
    let refusal = bad_check(&session);
    session.receive(&refusal, now);
    assert_eq!(session.event(), Some(Event::Failed(Failure::Password)));
}
