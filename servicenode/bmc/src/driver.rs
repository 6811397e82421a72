//! Carries out the operations of `wire::op` on a BMC.

use std::io;

use tokio::time::Instant;
use wire::op::{NodeOp, NodeReply};

use crate::{BmcError, BmcTarget};

/// All BMCs of a service node. Cheap to clone; the socket closes with the last clone.
#[derive(Clone)]
pub struct Bmcs {}

impl Bmcs {
    /// Opens the shared socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no UDP socket can be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Does `op` at the BMC `target` and gives its answer, or the reason at `deadline`.
    ///
    /// Operations on the same BMC queue behind each other; different BMCs do not touch each other.
    ///
    /// # Errors
    /// [`BmcError`] with the text for the admin and its [`BmcError::fault`].
    ///
    /// # Cancellation
    /// May be dropped anywhere; the session is closed. A power change already sent may happen.
    pub async fn run(
        &self,
        target: &BmcTarget,
        op: &NodeOp,
        deadline: Instant,
    ) -> Result<NodeReply, BmcError> {
        let (_, _, _) = (target, op, deadline);
        Err(BmcError::NotForBmc("this"))
    }
}
