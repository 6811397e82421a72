//! How a follower tells the leader how a call ended that it had begun: it passes on the entry.

use std::time::Duration;

use link::{Exchange, LinkError};
use state::Entry;
use state::notify::{Step, What};
use wire::client::{Answer, Request};
use wire::ids::Revision;

use crate::core::{Caller, Core, Trouble};
use crate::forward;

/// How long the leader may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Has the leader put steps into the log.
///
/// # Errors
/// [`Trouble`]; they may or may not be there then.
pub async fn propose(core: &Core, steps: Vec<Step>) -> Result<(), Trouble> {
    let entry = Entry::Notify(steps);
    if core.leads() {
        return core.propose(&entry).await.map(drop);
    }
    let bytes = wire::frame::encode(&entry).map_err(|error| Trouble::Refused(error.to_string()))?;
    let nobody = Caller { user: String::new(), address: String::new() };
    let ask = async {
        let mut exchange = forward::reach(core, &nobody, &Request::Entry(bytes)).await?.1;
        exchange.expect::<Answer>(LIMIT).await
    };
    match link::within(LIMIT, ask).await {
        Ok(Answer::Done { status: 0, .. }) => Ok(()),
        Ok(_) => Err(Trouble::NotLeader(core.leader())),
        Err(_) => Err(Trouble::Unknown),
    }
}

/// Takes what another master passed on. Nothing but the ends of calls comes this way.
///
/// # Errors
/// When the other master is gone.
pub async fn take_entry(core: &Core, bytes: &[u8], mut exchange: Exchange) -> Result<(), LinkError> {
    let ends = |entry: &Entry| match entry {
        Entry::Notify(steps) => steps.iter().all(|step| matches!(step.what, What::End { .. })),
        _ => false,
    };
    let entry = wire::frame::decode::<Entry>(bytes).ok().filter(ends);
    let taken = match entry {
        Some(entry) => core.propose(&entry).await.is_ok(),
        None => false,
    };
    let revision = Revision(core.read(state::State::revision));
    exchange.send(&Answer::Done { status: u8::from(!taken), revision }).await?;
    exchange.sender.flush(Duration::from_secs(5)).await
}
