//! A conversation with a client: answers out, its inputs in, and whether it is still there.
//!
//! Invariant: a client that cancels is noticed while its other inputs wait, up to [`INPUTS`] of them.

use std::time::Duration;

use link::{Exchange, LinkError, Receiver, Sender};
use service::Drain;
use tokio::sync::{mpsc, watch};
use wire::client::{Answer, Input, Layout, Rows, Text};
use wire::ids::Revision;

/// Inputs that wait to be used; the client's stream is not read further meanwhile.
const INPUTS: usize = 64;
/// How long a client may take to read one piece of output, or to send one piece of input it was asked for.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of output in one answer.
const PIECE: usize = 1024 * 1024;

/// One client's request being answered.
#[derive(Debug)]
pub struct Talk {
    sender: Sender,
    inputs: mpsc::Receiver<Input>,
    open: bool,
    cancelled: watch::Receiver<bool>,
    told: bool,
    gone: watch::Receiver<bool>,
    /// The form of output that the user wants instead of lines.
    pub layout: Option<Layout>,
}

/// What the client does while it waits.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A piece of input.
    Input(Input),
    /// Ctrl-C.
    Cancel,
    /// Its connection broke, or it left.
    Gone,
}

impl Talk {
    /// Goes on with a conversation whose first message was read.
    #[must_use]
    pub fn new(exchange: Exchange, drain: &Drain) -> Self {
        let (sender, receiver) = exchange.split();
        let (push, inputs) = mpsc::channel(INPUTS);
        let (cancel, cancelled) = watch::channel(false);
        let (leave, gone) = watch::channel(false);
        let stopped = sender.stopped();
        let stop = drain.clone();
        drain.spawn("client inputs", async move {
            tokio::select! {
                () = stop.stopping() => {}
                () = listen(receiver, push, &cancel) => {}
                () = stopped => {}
            }
            leave.send_replace(true);
        });
        Self { sender, inputs, open: true, cancelled, told: false, gone, layout: None }
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// When the client is gone or does not read.
    pub async fn send(&mut self, answer: &Answer) -> Result<(), LinkError> {
        link::within(PATIENCE, self.sender.send(answer)).await
    }

    /// Sends a piece of output, in parts when it is long.
    ///
    /// # Errors
    /// As [`Talk::send`].
    pub async fn text(&mut self, text: &Text) -> Result<(), LinkError> {
        if text.text.len() <= PIECE {
            return self.send(&Answer::Text(text.clone())).await;
        }
        let mut rest = text.text.as_slice();
        while !rest.is_empty() {
            // Cut behind a line where there is one, so that each part has whole lines.
            let most = rest.len().min(PIECE);
            let cut = rest[..most].iter().rposition(|byte| *byte == b'\n').map_or(most, |at| at + 1);
            let (part, after) = rest.split_at(cut);
            let part = Text { stream: text.stream, node: text.node.clone(), text: part.to_vec() };
            self.send(&Answer::Text(part)).await?;
            rest = after;
        }
        Ok(())
    }

    /// Tells the client the form of output, if one was asked for.
    ///
    /// # Errors
    /// As [`Talk::send`].
    pub async fn lay_out(&mut self) -> Result<(), LinkError> {
        match self.layout.take() {
            Some(layout) => self.send(&Answer::Layout(layout)).await,
            None => Ok(()),
        }
    }

    /// Sends rows of output, in parts.
    ///
    /// # Errors
    /// As [`Talk::send`].
    pub async fn rows(&mut self, rows: Rows) -> Result<(), LinkError> {
        self.lay_out().await?;
        let Rows { fields, rows } = rows;
        let mut part = Rows { fields: fields.clone(), rows: Vec::new() };
        let mut size = 0;
        for row in rows {
            // A length in front of each cell.
            size += row.iter().map(|cell| cell.as_ref().map_or(0, String::len) + 10).sum::<usize>();
            part.rows.push(row);
            if size > PIECE {
                let full = std::mem::replace(&mut part, Rows { fields: fields.clone(), rows: Vec::new() });
                self.send(&Answer::Rows(full)).await?;
                size = 0;
            }
        }
        self.send(&Answer::Rows(part)).await
    }

    /// Ends the conversation in order.
    pub async fn done(mut self, status: u8, revision: u64) {
        let done = Answer::Done { status, revision: Revision(revision) };
        if self.send(&done).await.is_ok() {
            let _ = self.sender.flush(Duration::from_secs(5)).await;
        }
    }

    /// Sends the client to another master and ends the conversation.
    pub async fn elsewhere(mut self, address: String) {
        if self.send(&Answer::NotLeader(address)).await.is_ok() {
            let _ = self.sender.flush(Duration::from_secs(5)).await;
        }
    }

    /// What the client does next; a cancel is told once. May be dropped anywhere.
    pub async fn heard(&mut self) -> Heard {
        self.listen(true).await
    }

    /// As [`Talk::heard`]; inputs stay where they are unless they are `wanted`.
    pub async fn listen(&mut self, wanted: bool) -> Heard {
        loop {
            tokio::select! {
                biased;
                // A watch whose sender is gone says nothing: a client that is lost has not cancelled.
                Ok(_) = self.cancelled.wait_for(|cancelled| *cancelled), if !self.told => {
                    self.told = true;
                    return Heard::Cancel;
                }
                input = self.inputs.recv(), if self.open && wanted => match input {
                    Some(input) => return Heard::Input(input),
                    None => self.open = false,
                },
                _ = self.gone.wait_for(|gone| *gone) => return Heard::Gone,
            }
        }
    }

    /// The next input the client was asked for.
    ///
    /// # Errors
    /// When it cancels, goes away or takes too long.
    pub async fn input(&mut self) -> Result<Input, Heard> {
        match tokio::time::timeout(PATIENCE, self.heard()).await {
            Ok(Heard::Input(input)) => Ok(input),
            Ok(other) => Err(other),
            Err(_) => Err(Heard::Gone),
        }
    }
}

async fn listen(mut receiver: Receiver, push: mpsc::Sender<Input>, cancel: &watch::Sender<bool>) {
    loop {
        let input = tokio::select! {
            biased;
            () = push.closed() => return,
            input = receiver.recv::<Input>() => input,
        };
        match input {
            Ok(Some(Input::Cancel)) => {
                cancel.send_replace(true);
            }
            Ok(Some(input)) => {
                if push.send(input).await.is_err() {
                    return;
                }
            }
            // The client has nothing more to say; it still listens until it stops that as well.
            Ok(None) => return push.closed().await,
            Err(_) => return,
        }
    }
}
