//! `margay status`: the cluster as this master sees it.

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
