//! Making a plan beside the runtime: on a copy of the state, on a thread that may take its time.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use commands::global::{self, Global};
use commands::judge::{Asked, Judgment, judge};
use commands::{Command, Ctx, Inputs, Plan, Sink};
use state::policy::Rules;
use state::{Files, State};
use tokio::sync::mpsc;
use wire::client::Text;

use crate::core::{Caller, Core};

/// Lots of pieces of output that wait for a slow client; the command waits then.
const PIECES: usize = 2;

/// What the client and this machine told so far.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Files of the client.
    pub files: Files,
    /// Standard input.
    pub stdin: Option<Vec<u8>>,
    /// Facts.
    pub inputs: Inputs,
}

/// Everything that a plan is made of.
#[derive(Debug)]
pub struct Planning {
    /// This master.
    pub core: Core,
    /// Who asks.
    pub caller: Caller,
    /// The client's environment.
    pub environment: BTreeMap<String, String>,
    /// See [`Gathered`].
    pub gathered: Gathered,
    /// Options that every command has.
    pub global: Global,
    /// A copy of the state.
    pub now: State,
    /// The state of the past that is asked about.
    pub then: Option<Arc<State>>,
    /// Where long answers go.
    pub sink: Pieces,
}

/// A bounded way for output to the task that talks with the client.
#[derive(Debug)]
pub struct Pieces(mpsc::Sender<Vec<Text>>);

impl Pieces {
    /// The two ends.
    #[must_use]
    pub fn channel() -> (Pieces, mpsc::Receiver<Vec<Text>>) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (Pieces(sender), receiver)
    }
}

impl Sink for Pieces {
    fn take(&self, items: Vec<Text>) -> bool {
        self.0.blocking_send(items).is_ok()
    }
}

impl Planning {
    /// Makes the plan; blocks while the client is slow. What was gathered comes back for the next round.
    #[must_use]
    pub fn judged(self, command: &'static Command, args: &[String]) -> (Judgment, Plan, Gathered) {
        let now = &self.now;
        let ctx = Ctx {
            state: self.then.as_deref().unwrap_or(now),
            command: command.name,
            args,
            caller: &self.caller.user,
            cluster: self.core.server(),
            now: self.core.clock.unix(),
            version: env!("CARGO_PKG_VERSION"),
            environment: &self.environment,
            files: &self.gathered.files,
            stdin: self.gathered.stdin.as_deref(),
            inputs: &self.gathered.inputs,
            named: None,
            sink: Some(&self.sink),
        };
        let asked = Asked { user: &self.caller.user, host: self.caller.host(), command, args, time: ctx.now };
        // A panic in one command ends this request, not the master.
        let make = |ctx: &Ctx<'_>| {
            let planned = || commands::help::extended(command, command.make(ctx));
            let plan = std::panic::catch_unwind(AssertUnwindSafe(planned));
            plan.unwrap_or_else(|_| {
                self.core.health.counter("commands_panicked").one();
                Plan::error(ctx, "internal error in this command; nothing was done")
            })
        };
        let (judgment, plan) = judge(&Rules::of(now), now, &ctx, &asked, &make, &mut |_, _, _, _| ());
        let plan = if self.global.plan { global::shown(&ctx, plan) } else { plan };
        (judgment, plan, self.gathered)
    }
}
