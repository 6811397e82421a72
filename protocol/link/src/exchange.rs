//! A typed conversation on one stream: frames out, frames in.
//!
//! How it ends is told in the crate's comment: finish in order, drop to cancel.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use wire::Message;
use wire::frame::{self, FrameError, HEADER, MAX_FRAME};

use crate::connection::closed;
use crate::guard::Peer;
use crate::{LinkError, within};

/// The code of a stream that was dropped.
const CANCEL: VarInt = VarInt::from_u32(1);
/// Most bytes taken from the stream at once.
const CHUNK: usize = 64 * 1024;

/// Both halves of a conversation.
#[derive(Debug)]
pub struct Exchange {
    /// What we say.
    pub sender: Sender,
    /// What we hear.
    pub receiver: Receiver,
}

impl Exchange {
    pub(crate) fn new(send: SendStream, receive: RecvStream, peer: &Arc<Peer>) -> Self {
        let sender = Sender { stream: send, finished: false, broken: false, _peer: peer.clone() };
        let receiver = Receiver {
            stream: receive,
            buffer: BytesMut::new(),
            limit: MAX_FRAME,
            ended: false,
            _peer: peer.clone(),
        };
        Self { sender, receiver }
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send<T: Message>(&mut self, message: &T) -> Result<(), LinkError> {
        self.sender.send(message).await
    }

    /// See [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub async fn recv<T: Message>(&mut self) -> Result<Option<T>, LinkError> {
        self.receiver.recv().await
    }

    /// See [`Receiver::expect`].
    ///
    /// # Errors
    /// As [`Receiver::expect`].
    pub async fn expect<T: Message>(&mut self, limit: Duration) -> Result<T, LinkError> {
        self.receiver.expect(limit).await
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Sends the only message of this side and waits for the only answer.
    ///
    /// # Errors
    /// As the parts, or [`LinkError::Deadline`].
    pub async fn ask<Q: Message, A: Message>(
        &mut self,
        question: &Q,
        limit: Duration,
    ) -> Result<A, LinkError> {
        within(limit, async {
            self.sender.send(question).await?;
            self.sender.finish();
            self.receiver.recv().await?.ok_or(LinkError::Ended)
        })
        .await
    }

    /// The two halves, to be used by two tasks.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

/// The sending half. Dropped without [`Sender::finish`], it cancels.
#[derive(Debug)]
pub struct Sender {
    stream: SendStream,
    finished: bool,
    broken: bool,
    _peer: Arc<Peer>,
}

impl Sender {
    /// Sends one message. Waits while the other side does not read (back-pressure): put a deadline
    /// around it where that may not last.
    ///
    /// # Cancellation
    /// A dropped `send` may have sent half a message; the stream is broken then and refuses more.
    ///
    /// # Errors
    /// When the message is too large, the other side no longer listens, or the connection is over.
    pub async fn send<T: Message>(&mut self, message: &T) -> Result<(), LinkError> {
        self.write(&frame::frame(message)?).await
    }

    /// Sends a payload that is already bytes, as one frame.
    ///
    /// # Cancellation
    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send_bytes(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_FRAME);
        let length = length.ok_or(FrameError::TooLarge(payload.len()))?;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(payload);
        self.write(&bytes).await
    }

    /// Sends a part of what `wire::frame::frame` made; the other side sees a message when it has it all.
    ///
    /// # Cancellation
    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send_part(&mut self, part: &[u8]) -> Result<(), LinkError> {
        self.write(part).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        if self.broken || self.finished {
            return Err(LinkError::Broken);
        }
        self.broken = true;
        self.stream.write_all(bytes).await.map_err(|error| match error {
            WriteError::Stopped(_) => LinkError::Cancelled,
            WriteError::ConnectionLost(error) => closed(error),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkError::Broken,
        })?;
        self.broken = false;
        Ok(())
    }

    /// Says that nothing more will be sent; what was sent still arrives while the connection lives.
    pub fn finish(&mut self) {
        if !self.broken && !self.finished {
            self.finished = self.stream.finish().is_ok();
        }
    }

    /// Finishes and waits until the other side has everything; before a connection is closed.
    ///
    /// # Errors
    /// When the other side did not take it all within `limit`.
    pub async fn flush(&mut self, limit: Duration) -> Result<(), LinkError> {
        self.finish();
        let stopped = self.stream.stopped();
        within(limit, async { lost(stopped.await).map(|_| ()) }).await
    }

    /// Waits until the other side no longer listens: it dropped its receiver, or the connection is over.
    /// Does not borrow the sender, so it can run beside sends.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// Cancels with a code that the other side can read in [`LinkError::Reset`].
    pub fn reset(mut self, code: u32) {
        let _ = self.stream.reset(VarInt::from_u32(code));
        self.finished = true;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(CANCEL);
        }
    }
}

/// The receiving half. Dropped before its end, it tells the other side that nobody listens.
#[derive(Debug)]
pub struct Receiver {
    stream: RecvStream,
    buffer: BytesMut,
    limit: usize,
    ended: bool,
    _peer: Arc<Peer>,
}

impl Receiver {
    /// Messages longer than this are refused before they are read; never more than 4 MiB.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_FRAME);
    }

    /// The next message; `None` at the orderly end. May be dropped anywhere: nothing is lost.
    ///
    /// # Errors
    /// When the other side cancelled or sent what is no such message, or the connection is over.
    pub async fn recv<T: Message>(&mut self) -> Result<Option<T>, LinkError> {
        match self.recv_bytes().await? {
            Some(payload) => Ok(Some(frame::decode(&payload)?)),
            None => Ok(None),
        }
    }

    /// The next message, which must come within `limit`.
    ///
    /// # Errors
    /// [`LinkError::Deadline`], [`LinkError::Ended`] at the orderly end, or as [`Receiver::recv`].
    pub async fn expect<T: Message>(&mut self, limit: Duration) -> Result<T, LinkError> {
        within(limit, async { self.recv().await?.ok_or(LinkError::Ended) }).await
    }

    /// The payload of the next frame. May be dropped anywhere: nothing is lost.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub async fn recv_bytes(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<HEADER>() {
                let length = frame::payload_length(*header, self.limit)?;
                if self.buffer.len() >= HEADER + length {
                    self.buffer.advance(HEADER);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            if self.ended {
                return if self.buffer.is_empty() { Ok(None) } else { Err(LinkError::Cut) };
            }
            match self.stream.read_chunk(CHUNK, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) => self.ended = true,
                Err(ReadError::Reset(code)) => return Err(LinkError::Reset(code.into_inner())),
                Err(ReadError::ConnectionLost(error)) => return Err(closed(error)),
                Err(_) => return Err(LinkError::Broken),
            }
        }
    }
}

fn lost(result: Result<Option<VarInt>, StoppedError>) -> Result<Option<VarInt>, LinkError> {
    match result {
        Ok(code) => Ok(code),
        Err(StoppedError::ConnectionLost(error)) => Err(closed(error)),
        Err(StoppedError::ZeroRttRejected) => Err(LinkError::Broken),
    }
}
