//! The calls that a registration wants, read from the history as far ahead as memory allows.

use std::collections::VecDeque;

use commands::notice::{Call, Registration, calls};
use state::State;
use state::notify::Place;

use crate::core::Core;
use crate::past;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This call.
    Call(Box<Call>),
    /// Nothing up to here is wanted, and there is nothing more.
    Nothing(Place),
    /// What was changed before here is not kept any more.
    Gap(Place),
}

/// Where the reading is.
#[derive(Debug, Default)]
pub struct Reader {
    ahead: VecDeque<Call>,
    position: Place,
    /// The revision of the registration's row that the calls were chosen by.
    row: u64,
}

impl Reader {
    /// The first wanted call from a place on.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn next(
        &mut self,
        core: &Core,
        registration: &Registration,
        from: Place,
    ) -> Result<Next, String> {
        if self.row != registration.revision {
            *self = Self { row: registration.revision, ..Self::default() };
        }
        self.position = self.position.max(from);
        loop {
            while self.ahead.front().is_some_and(|call| call.place < from) {
                self.ahead.pop_front();
            }
            if let Some(call) = self.ahead.front() {
                return Ok(Next::Call(Box::new(call.clone())));
            }
            let at = self.position;
            let (newest, last, oldest) =
                core.read(|state: &State| (registration.newest(state), state.revision(), state.oldest()));
            if newest < at.revision {
                self.position = Place::first(last + 1).max(at);
                return Ok(Next::Nothing(self.position));
            }
            if at.revision <= oldest {
                self.position = Place::first(oldest + 1);
                return Ok(Next::Gap(self.position));
            }
            let read = past::forward(core, at.revision, newest).await?;
            if read.reached == at.revision {
                // The store has let it go meanwhile, or has not got it yet.
                core.barrier().await.map_err(|error| error.to_string())?;
                continue;
            }
            for revision in &read.revisions {
                let wanted =
                    calls(revision).into_iter().filter(|call| call.place >= at && registration.wants(call));
                self.ahead.extend(wanted);
            }
            self.position = Place::first(read.reached);
        }
    }
}
