//! `margay status`: the cluster as this master sees it.

use commands::notice::Registration;
use commands::notif;
use service::Health;
use storage::Role;

use crate::core::Core;

/// Lines for the client.
#[must_use]
pub fn lines(core: &Core) -> Vec<String> {
    let status = core.group.status().borrow().clone();
    let revision = core.read(state::State::revision);
    let mut lines = vec![format!("cluster {}: revision {revision}", core.server())];
    for member in &status.members {
        let leads = status.leader.as_ref().is_some_and(|leader| leader.id == member.id);
        let word = match (leads, member.id == status.id) {
            (true, _) => "leader",
            (false, true) if status.role == Role::Candidate => "candidate",
            (false, _) => "follower",
        };
        lines.push(format!("master {}: {word} at {}", member.name, member.address));
    }
    lines.push(format!("term {}, log {} of {} applied", status.term, status.applied, status.commit));
    if status.disk_full {
        lines.push("ALARM: no space left for the database; changes are refused".to_owned());
    }
    for rack in core.racks.status() {
        lines.push(format!(
            "service node {}: at {}, {} agents, mirror at revision {}, version {}",
            rack.name, rack.address, rack.agents, rack.mirror, rack.program
        ));
    }
    lines.extend(notifications(core));
    lines.extend(core.monitors.lines());
    let running = core.actions.running();
    lines.push(format!("actions: {} running", running.len()));
    let (asked, lost) = core.questions.counts();
    lines.push(format!("questions: {asked} asked, {lost} no longer remembered"));
    if let Some(bytes) = Health::resident() {
        lines.push(format!("memory: {} MiB", bytes / (1024 * 1024)));
    }
    for (name, value) in core.health.all() {
        if value > 0 {
            lines.push(format!("{name}: {value}"));
        }
    }
    lines
}

/// How many handlers of changes there are, and what is wrong with them.
fn notifications(core: &Core) -> Vec<String> {
    core.read(|state| {
        let cursors = state.cursors();
        let newest = |file: &str| Registration::find(state, file).map_or(0, |found| found.newest(state));
        let behind = cursors.iter().filter(|(file, cursor)| newest(file) >= cursor.at.revision).count();
        let mut lines = Vec::new();
        if !cursors.is_empty() {
            lines.push(format!(
                "notification: {} handlers, {behind} not told of everything yet",
                cursors.len()
            ));
        }
        for (file, cursor) in cursors.iter().filter(|(_, cursor)| cursor.failing || cursor.failures > 0) {
            let trouble = cursor.trouble.as_ref().map_or("", |trouble| trouble.text.as_str());
            lines.push(format!("ALARM: notification {file} fails at change {}: {trouble}", cursor.at));
        }
        lines.extend(
            cursors
                .iter()
                .filter_map(|(file, cursor)| Some(format!("notification {file}: {}", notif::gap(cursor)?))),
        );
        lines
    })
}
