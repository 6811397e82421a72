//! What the status of a node becomes when a round of xcatmon has looked at it.

use state::{Precondition, RowChange, State};

/// The node answers.
const ALIVE: &str = "alive";
/// It does not.
const UNREACHABLE: &str = "unreachable";
/// Words that a node has on its way from one state to the next.
const ON_ITS_WAY: [&str; 6] =
    ["powering-on", "powering-off", "booting", "netbooting", "installing", "discovering"];
/// A node that answers may have such a word for so many seconds: what answers can be what was there before.
const ANSWERS: u64 = 300;
/// A node that does not answer is on its way for so many seconds at most.
const SILENT: u64 = 1800;
/// Minutes between two rounds when nothing is said.
const INTERVAL: u64 = 3;

/// Seconds between two rounds, by the setting `ping-interval`: minutes, or seconds as in `30s`.
#[must_use]
pub fn interval(setting: Option<&str>) -> u64 {
    let text = setting.unwrap_or_default().trim();
    let seconds = match text.strip_suffix('s') {
        Some(seconds) => seconds.parse().ok(),
        None => text.parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60)),
    };
    seconds.filter(|seconds| *seconds > 0).unwrap_or(INTERVAL * 60)
}

/// What a round writes for a node whose service node gave this answer (see `nodestat`); nothing when that is known.
#[must_use]
pub fn change(state: &State, node: &str, answer: &str, now: u64) -> Option<(Precondition, RowChange)> {
    let table = state.named("nodelist")?;
    let (_, row) = table.find(&[node])?;
    let cell = |column: &str| table.def().column(column).map_or("", |at| row.text(at));
    let (old, since) = (cell("status"), cell("statustime"));
    let reached = !answer.starts_with("noping");
    let known = crate::fanout::life_cells(answer);
    let applications = known.iter().find(|(column, _)| *column == "appstatus").map_or("", |(_, apps)| apps);
    let mut cells = Vec::new();
    let time = crate::action::status_time(now);
    if let Some(word) = status(old, since, reached, now) {
        cells.extend([("status", word), ("statustime", &time)]);
    }
    if applications != cell("appstatus") {
        cells.extend([("appstatus", applications), ("appstatustime", &time)]);
    }
    if cells.is_empty() {
        return None;
    }
    // Whoever wrote another status meanwhile knows more.
    let same = Precondition::Value {
        table: "nodelist".to_owned(),
        key: vec![node.to_owned()],
        column: "status".to_owned(),
        value: old.to_owned(),
    };
    Some((same, RowChange::set("nodelist", &[node], &cells)))
}

/// The new status, if it is another one.
fn status(old: &str, since: &str, reached: bool, now: u64) -> Option<&'static str> {
    let on_its_way = |limit: u64| {
        let begin = crate::action::status_time(now.saturating_sub(limit));
        ON_ITS_WAY.contains(&old) && sortable(since) > sortable(&begin)
    };
    match reached {
        true if on_its_way(ANSWERS) => None,
        // Every other word says more than that it answers.
        true => (matches!(old, "" | UNREACHABLE) || ON_ITS_WAY.contains(&old)).then_some(ALIVE),
        false if old == UNREACHABLE || on_its_way(SILENT) => None,
        false => Some(UNREACHABLE),
    }
}

/// `11-20-2026 09:30:11` in an order that can be compared.
fn sortable(time: &str) -> Option<[&str; 3]> {
    Some([time.get(6..10)?, time.get(..5)?, time.get(11..)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_when_it_says_something_new() {
        let now = 1_795_166_411;
        let ago = |seconds: u64| crate::action::status_time(now - seconds);
        let cases = [
            ("", 0, true, Some(ALIVE)),
            ("", 0, false, Some(UNREACHABLE)),
            ("alive", 9, true, None),
            ("booted", 9000, true, None),
            ("booted", 9000, false, Some(UNREACHABLE)),
            ("alive", 9, false, Some(UNREACHABLE)),
            ("unreachable", 9, false, None),
            ("unreachable", 9, true, Some(ALIVE)),
            ("powering-on", 60, true, None),
            ("powering-on", 60, false, None),
            ("powering-on", 600, true, Some(ALIVE)),
            ("installing", 600, false, None),
            ("installing", 40_000_000, false, Some(UNREACHABLE)),
        ];
        for (old, seconds, reached, expected) in cases {
            assert_eq!(status(old, &ago(seconds), reached, now), expected, "{old} {seconds} {reached}");
        }
    }

    #[test]
    fn intervals_are_minutes_or_seconds() {
        for (text, expected) in
            [(None, 180), (Some("2"), 120), (Some("30s"), 30), (Some("0"), 180), (Some("x"), 180)]
        {
            assert_eq!(interval(text), expected, "{text:?}");
        }
    }
}
