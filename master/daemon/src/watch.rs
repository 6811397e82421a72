//! `margay watch`: changes to a client as they come, read from the store at the pace of the client.
//!
//! Invariant: a watcher gets every wanted revision once, in order. It holds nothing but the number of the next one: a
//! slow watcher costs nothing, and one that has not read for as long as the history is kept is told so.

use commands::watch::{COMPACTED, Watch};
use state::State;
use tokio::sync::broadcast::error::RecvError;
use wire::client::Answer;

use crate::past;
use crate::request::{End, Task};
use crate::talk::{Heard, Talk};

/// Shows changes until the client is gone or cancels.
///
/// # Errors
/// How the request ends otherwise.
pub async fn watch(task: &Task, wanted: Watch, talk: &mut Talk) -> Result<u8, End> {
    let core = &task.core;
    let mut committed = core.committed();
    let mut next = wanted.from.unwrap_or_else(|| core.read(State::revision) + 1);
    goes_on(task, &wanted, next, talk).await?;
    loop {
        let (newest, oldest) = core.read(|state| (state.revision(), state.oldest()));
        if next > newest {
            tokio::select! {
                biased;
                heard = talk.heard() => match heard {
                    // There was nothing to be asked: what a client types is not for us.
                    Heard::Input(_) => {}
                    other => return Err(other.into()),
                },
                change = committed.recv() => if matches!(change, Err(RecvError::Closed)) {
                    return Err(End::Gone);
                },
            }
            continue;
        }
        if next <= oldest {
            let text = format!(
                "compacted: revision {next} is not kept any more; the oldest change that is kept is {}, go on with \
                 --from {}",
                oldest + 1,
                oldest + 1
            );
            task.fail(talk, &text).await?;
            return Ok(COMPACTED);
        }
        let read = match past::forward(core, next, newest).await {
            Ok(read) => read,
            Err(error) => return task.fail(talk, &error).await,
        };
        if read.reached == next && core.barrier().await.is_err() {
            return Err(End::Elsewhere(core.leader()));
        }
        for revision in &read.revisions {
            for piece in wanted.pieces(revision) {
                talk.text(&piece).await?;
            }
        }
        if read.reached > next {
            next = read.reached;
            goes_on(task, &wanted, next, talk).await?;
        }
    }
}

/// Tells the client where to go on should it lose this master.
async fn goes_on(task: &Task, wanted: &Watch, next: u64, talk: &mut Talk) -> Result<(), End> {
    let mut argv = Vec::with_capacity(task.run.argv.len() + 2);
    let mut words = task.run.argv.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            // They are said anew below.
            "--from" | "-o" => drop(words.next()),
            word if word.starts_with("--from=") => {}
            word => argv.push(word.to_owned()),
        }
    }
    if wanted.json {
        argv.extend(["-o".to_owned(), "json".to_owned()]);
    }
    argv.push(format!("--from={next}"));
    Ok(talk.send(&Answer::GoOn(argv)).await?)
}
