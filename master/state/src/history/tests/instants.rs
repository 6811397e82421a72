//! The past against a replay of the log, over histories that are drawn.

use super::*;

const HISTORIES: u64 = 10;
const REVISIONS: u64 = 100;
const INSTANTS: u64 = 100;

/// Numbers that look drawn; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.throw(words.len() as u64)).unwrap()]
    }

    fn node(&mut self) -> String {
        format!("n{}", self.throw(30))
    }
}

/// A seed that differs from run to run; `MARGAY_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("MARGAY_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    given.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs())
}

/// A change as admins, discovery and restored files make them.
fn change(world: &World, dice: &mut Dice) -> Vec<RowChange> {
    let node = dice.node();
    let key: &[&str] = &[&node];
    let groups = format!("all,g{}", dice.throw(5));
    let group = format!("g{}", dice.throw(5));
    match dice.throw(12) {
        0 => vec![RowChange::ForgetNode { node }],
        1 => vec![RowChange::delete("nodehm", key), RowChange::delete("nodelist", key)],
        2 => vec![RowChange::Clear { table: dice.of(&["mac", "hosts"]).to_owned() }],
        // Group rows and patterns.
        3 => vec![RowChange::set("hosts", &[&group], &[("ip", r"|n(\d+)|10.0.0.($1)|")])],
        4 => vec![
            RowChange::set("nodegroup", &[&group], &[("grouptype", "dynamic"), ("wherevals", "mgt==ipmi")]),
            RowChange::delete("hosts", &[&group]),
        ],
        // A row takes a new key, or another row's, which gives way; others follow in the same transaction.
        5 => vec![
            RowChange::set("nodelist", key, &[("node", &dice.node())]),
            RowChange::set("mac", key, &[("mac", "x")]),
        ],
        6 => ["nodelist", "nodehm", "mac"]
            .iter()
            .map(|table| RowChange::set(table, key, &[("node", &format!("r{}", dice.throw(9)))]))
            .collect(),
        // A table as a restored file makes it: numbers are given anew.
        7 => {
            let rows = (0..dice.throw(20)).map(|_| dice.node()).collect::<BTreeSet<_>>();
            let rows = rows.into_iter().rev();
            let set = |node: String| RowChange::set("nodehm", &[&node], &[("mgt", "ipmi")]);
            std::iter::once(RowChange::Clear { table: "nodehm".into() }).chain(rows.map(set)).collect()
        }
        // An earlier revision is taken back, if nothing stands against it.
        8 if world.state.revision() > 0 => {
            let reading = world.read(&Query::all(1 + dice.throw(world.state.revision()), u64::MAX - 1));
            let Some(revision) = reading.revisions.last() else { return Vec::new() };
            let undo = world.state.undo(&revision.rows);
            if undo.clashes.is_empty() { undo.changes } else { Vec::new() }
        }
        9 => {
            vec![RowChange::set("notification", &[&group], &[("tables", "nodelist"), ("comments", &groups)])]
        }
        10 => vec![RowChange::set("auditlog", &[""], &[("userid", "root")])],
        _ => vec![
            RowChange::set("nodelist", key, &[("groups", &groups)]),
            RowChange::set("nodehm", key, &[("mgt", dice.of(&["ipmi", "hmc", ""]))]),
        ],
    }
}

#[test]
fn a_thousand_random_instants_equal_a_replay_of_the_log() {
    let seed = seed();
    println!("MARGAY_SEED={seed}");
    for history in 0..HISTORIES {
        let mut dice = Dice(seed.wrapping_add(history));
        let mut world = World::new();
        let mut log = Vec::new();
        while world.state.revision() < REVISIONS {
            let changes = change(&world, &mut dice);
            log.push(changes.clone());
            world.change(changes);
        }
        let mut instants: Vec<u64> = (0..INSTANTS).map(|_| dice.throw(REVISIONS + 1)).collect();
        instants.sort_unstable();
        let mut replay = World::new();
        let mut log = log.into_iter();
        for revision in instants {
            while replay.state.revision() < revision {
                replay.change(log.next().unwrap());
            }
            let (then, truth) = (world.at(revision), &replay.state);
            let what = format!("seed {seed}, history {history}, revision {revision}");
            assert_eq!(rows(&then), rows(truth), "{what}");
            assert_eq!((then.revision(), then.digest()), (truth.revision(), truth.digest()), "{what}");
            assert_eq!((&then.nodes, &then.members), (&truth.nodes, &truth.members), "{what}");
            assert_eq!(then.text("n7", "hosts.ip"), truth.text("n7", "hosts.ip"), "{what}");
        }
    }
}
