//! What the service node asks while the node lives: commands, and what the machine is made of.

use std::sync::Arc;
use std::time::Duration;

use link::{Exchange, LinkError, Receiver, Sender};
use tokio::sync::mpsc;
use tracing::debug;
use wire::agent::{Call, CallEvent, CallInput};
use wire::op::{Exec, NodeReply};

use crate::run::{self, Ended};
use crate::{Life, machine};

/// A stream that brings no question by then is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces of output and input on their way inside the agent.
const QUEUE: usize = 16;

/// Answers one call to its end.
pub async fn answer(life: Arc<Life>, exchange: Exchange) {
    if let Err(error) = serve(&life, exchange).await {
        debug!(%error, "a call ended early");
    }
}

async fn serve(life: &Life, mut exchange: Exchange) -> Result<(), LinkError> {
    let reply = match exchange.expect(PATIENCE).await? {
        Call::Exec(exec) => return command(life, exec, exchange).await,
        Call::Adapters => NodeReply::Adapters(machine(life).await.adapters),
        Call::Hardware => NodeReply::Hardware(machine(life).await),
    };
    exchange.send(&CallEvent::Reply(reply)).await?;
    exchange.finish();
    Ok(())
}

/// Runs a command. When the service node drops the stream in either direction, the command is killed.
async fn command(life: &Life, exec: Exec, exchange: Exchange) -> Result<(), LinkError> {
    let (mut sender, mut receiver) = exchange.split();
    let stopped = sender.stopped();
    let (give, input) = mpsc::channel(QUEUE);
    let (output, lines) = mpsc::channel(QUEUE);
    let work = async {
        let (ended, sent) =
            tokio::join!(run::run(&exec, &life.config.root, input, output), send(&mut sender, lines));
        sent.map(|()| ended)
    };
    let ended = tokio::select! {
        biased;
        error = hear(&mut receiver, give) => return Err(error),
        () = stopped => return Err(LinkError::Cancelled),
        () = life.drain.stopping() => return Err(LinkError::Cancelled),
        ended = work => ended?,
    };
    let last = match ended {
        Ended::Exit(status) => CallEvent::Exit(status),
        Ended::Cancelled => CallEvent::Failed("cancelled".to_owned()),
        Ended::TimedOut => CallEvent::Failed(format!("the command did not end within {} s", exec.timeout)),
        Ended::Failed(reason) => CallEvent::Failed(reason),
    };
    sender.send(&last).await?;
    sender.finish();
    Ok(())
}

/// Passes input on; returns only when the call is cancelled.
async fn hear(receiver: &mut Receiver, give: mpsc::Sender<CallInput>) -> LinkError {
    loop {
        match receiver.recv::<CallInput>().await {
            Ok(Some(input)) => {
                // The command has ended when nobody takes its input; its answer is on the way.
                if give.send(input).await.is_err() {
                    return std::future::pending().await;
                }
            }
            Ok(None) => return std::future::pending().await,
            Err(error) => return error,
        }
    }
}

async fn send(
    sender: &mut Sender,
    mut lines: mpsc::Receiver<(wire::op::Stream, Vec<u8>)>,
) -> Result<(), LinkError> {
    while let Some((stream, bytes)) = lines.recv().await {
        sender.send(&CallEvent::Output { stream, bytes }).await?;
    }
    Ok(())
}
