//! One registration on one master: what it does next follows from the cursor in the log alone.
//!
//! Invariant: an attempt is handed to the runner only after the log says that this master begins it, and once.
//! Whatever is dropped or killed between is found again in the cursor and the journal.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use commands::action::stamp;
use commands::notice::{Call, Kind, Registration};
use state::RowChange;
use state::notify::{Cursor, End, Place, Step, What};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::journal::{Attempt, Journal, Known};
use super::reader::{Next, Reader};
use super::remote;
use super::runner::{Answer, Job, READY, Way};
use crate::config::Notify;
use crate::core::Core;
use crate::effects::hex;

/// A runner without work ends after this.
const IDLE: Duration = Duration::from_secs(30);
/// Longer than a runner takes for anything but the call itself.
const SLACK: Duration = Duration::from_secs(30);
/// Longest pause before another attempt.
const LONGEST: Duration = Duration::from_secs(60);
/// Pause after a proposal that was not taken.
const AGAIN: Duration = Duration::from_millis(200);
/// Nothing new for so long is quiet.
const QUIET: Duration = Duration::from_millis(500);
/// A cursor that is so many revisions behind without anything wanted is moved.
const BEHIND: u64 = 1000;

/// See the module.
pub struct Worker {
    core: Core,
    me: u64,
    file: String,
    since: u64,
    journal: PathBuf,
    pulse: watch::Receiver<()>,
    reader: Reader,
    runner: Option<Runner>,
    /// How an attempt ended, not yet in the log.
    told: Option<Step>,
    /// Since when another master's attempt is waited for.
    waiting: Option<(Place, u32, Instant)>,
}

impl Worker {
    /// A worker for a registration that was made at a revision.
    pub fn new(core: Core, file: String, since: u64, pulse: watch::Receiver<()>) -> Self {
        let name = hex(&link::pki::digest(file.as_bytes())[..16]);
        let journal = core.config.data.join("notify").join(name);
        let me = core.config.id;
        Self {
            core,
            me,
            file,
            since,
            journal,
            pulse,
            reader: Reader::default(),
            runner: None,
            told: None,
            waiting: None,
        }
    }

    /// Works until the master stops or the registration is gone.
    pub async fn run(mut self) {
        let drain = self.core.drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.stopping() => return,
                more = self.turn() => if !more {
                    return;
                },
            }
        }
    }

    /// Does one thing; false when the registration is gone.
    async fn turn(&mut self) -> bool {
        self.pulse.mark_unchanged();
        let Some(cursor) = self.cursor() else { return false };
        if self.told.as_ref().is_some_and(|step| !speaks_of(step, &cursor)) {
            self.told = None;
        }
        let leads = self.core.leads();
        match (cursor.open, self.told.is_some()) {
            (Some(member), false) if member == self.me => self.recover(&cursor).await,
            (Some(_), false) if leads => self.wait_for_other(&cursor).await,
            (_, true) if !leads => {
                let steps = self.told.clone().into_iter().collect();
                self.propose(steps).await;
            }
            _ if leads => self.advance(&cursor).await,
            _ => self.wait().await,
        }
        true
    }

    fn settings(&self) -> &Notify {
        &self.core.config.notify
    }

    fn cursor(&self) -> Option<Cursor> {
        let of = |cursor: &Cursor| (cursor.since == self.since).then(|| cursor.clone());
        self.core.read(|state| state.cursors().get(&self.file).and_then(of))
    }

    fn step(&self, at: Place, what: What) -> Step {
        Step { file: self.file.clone(), since: self.since, at, what }
    }

    fn end(&mut self, at: Place, attempt: u32, end: End) {
        let what = What::End { attempt, time: self.core.clock.unix(), end };
        self.told = Some(self.step(at, what));
    }

    /// Waits for something new; a runner that has nothing to do is let go.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.pulse.changed() => {}
            () = self.core.clock.sleep(IDLE), if self.runner.is_some() => self.runner = None,
        }
    }

    /// Waits until nothing new has come for a moment; false when something has.
    async fn quiet(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.pulse.changed() => false,
            () = self.core.clock.sleep(QUIET) => true,
        }
    }

    async fn pause(&self, time: Duration) {
        self.core.clock.sleep(time).await;
    }

    /// Has steps put into the log; false when that is not certain.
    async fn propose(&mut self, steps: Vec<Step>) -> bool {
        let report = steps.iter().find_map(|step| self.report(step));
        match remote::propose(&self.core, steps).await {
            Ok(()) => {
                self.told = None;
                if let Some(text) = report {
                    self.event(&text).await;
                }
                true
            }
            Err(error) => {
                tracing::debug!(file = self.file, %error, "a step was not taken");
                self.pause(AGAIN).await;
                false
            }
        }
    }

    /// What an admin must be told of a step.
    fn report(&self, step: &Step) -> Option<String> {
        let cursor = self.cursor()?;
        match &step.what {
            What::End { end: End::GivenUp(text), .. } if !cursor.failing => Some(format!(
                "{} was not told of change {}: {text}; it is called once for each further change until it works",
                self.file, step.at
            )),
            What::End { end: End::Unknown(text), .. } => {
                Some(format!("{} is told of change {} once more: {text}", self.file, step.at))
            }
            What::Gap => Some(format!(
                "{} was not told of revisions {} to {}: they are not kept any more; it goes on from there, the state \
                 before is that of --at {}",
                self.file,
                cursor.at.revision,
                step.at.revision - 1,
                step.at.revision - 1
            )),
            _ => None,
        }
    }

    /// A row in the event log, unless that would be another change to be told.
    async fn event(&self, text: &str) {
        warn!(file = self.file, "{text}");
        let watches = |registration: &Registration| registration.watches("eventlog");
        if !self.core.leads() || self.registration().as_ref().is_none_or(watches) {
            return;
        }
        let row = RowChange::set(
            "eventlog",
            &[""],
            &[
                ("eventtime", &stamp(self.core.clock.unix())),
                ("eventtype", "notification"),
                ("application", "margay"),
                ("component", &self.file),
                ("severity", "Warning"),
                ("message", text),
            ],
        );
        if let Err(error) = self.core.change("notification", vec![row]).await {
            warn!(file = self.file, %error, "the event log has no row of this");
        }
    }

    fn registration(&self) -> Option<Registration> {
        self.core.read(|state| Registration::find(state, &self.file))
    }

    /// Finds out how an attempt ended that this master began and lost sight of.
    async fn recover(&mut self, cursor: &Cursor) {
        // A runner of this daemon that is still there has no work of ours any more.
        self.runner = None;
        let attempt = Attempt::new(self.since, cursor.at, cursor.attempt);
        let (tell, told) = oneshot::channel();
        let path = self.journal.clone();
        // A runner of an earlier daemon may have the lock for as long as its handler takes. A thread of its own,
        // as the daemon's end waits for those of the runtime.
        let look = move || {
            let known = Journal::lock(&path).and_then(|mut journal| journal.known(&attempt));
            let _ = tell.send(known);
        };
        let spawned = std::thread::Builder::new().name("journal".into()).spawn(look);
        let known = match spawned {
            Ok(_) => told.await.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into())),
            Err(error) => Err(error),
        };
        let end = match known {
            Ok(Known::Ended(fault)) => self.judged(cursor, fault),
            Ok(Known::NotBegun) => End::NotBegun,
            Ok(Known::Begun) => End::Unknown("the call before was broken off with its machine".to_owned()),
            Err(error) => End::Unknown(format!("{}: {error}", self.journal.display())),
        };
        info!(file = self.file, at = %cursor.at, attempt = cursor.attempt, ?end, "a call of before");
        self.end(cursor.at, cursor.attempt, end);
    }

    /// What the end of an attempt means.
    fn judged(&self, cursor: &Cursor, fault: Option<String>) -> End {
        match fault {
            None => End::Delivered,
            Some(text) if cursor.failing || cursor.failures + 1 >= self.settings().attempts => {
                End::GivenUp(text)
            }
            Some(text) => End::Failed(text),
        }
    }

    /// Another master began a call: it knows how it ended, if it comes back in time.
    async fn wait_for_other(&mut self, cursor: &Cursor) {
        let since = match self.waiting {
            Some((at, attempt, since)) if (at, attempt) == (cursor.at, cursor.attempt) => since,
            _ => self.core.clock.now(),
        };
        self.waiting = Some((cursor.at, cursor.attempt, since));
        let over = since + Duration::from_secs(self.settings().deadline) + SLACK;
        if self.core.clock.now() >= over {
            let text = "the master that called it is gone and does not say how that ended".to_owned();
            return self.end(cursor.at, cursor.attempt, End::Unknown(text));
        }
        tokio::select! {
            _ = self.pulse.changed() => {}
            () = self.core.clock.sleep_until(over) => {}
        }
    }

    /// Tells the log what ended, and begins what comes next.
    async fn advance(&mut self, cursor: &Cursor) {
        let mut steps: Vec<Step> = self.told.clone().into_iter().collect();
        let (from, attempt) = match self.told.as_ref().map(|step| &step.what) {
            None => (cursor.at, cursor.attempt + 1),
            Some(What::End { end: End::Delivered | End::GivenUp(_), .. }) => (cursor.at.next(), 1),
            // A pause comes first, or something to find out.
            Some(_) => return self.ended_badly(steps, cursor).await,
        };
        let Some(registration) = self.registration() else { return self.wait().await };
        match self.reader.next(&self.core, &registration, from).await {
            Err(error) => {
                warn!(file = self.file, %error, "the history cannot be read");
                self.pause(AGAIN).await;
            }
            Ok(Next::Nothing(to)) => {
                // Changes that are not wanted move the cursor when it is quiet, and not each by itself.
                let seen = self.core.read(|state| registration.newest(state)) < from.revision;
                let far = to.revision.saturating_sub(from.revision) > BEHIND;
                if steps.is_empty() && !far && (seen || !self.quiet().await) {
                    return if seen {
                        self.wait().await
                    };
                }
                steps.push(self.step(to, What::Pass));
                self.propose(steps).await;
            }
            Ok(Next::Gap(to)) => {
                steps.push(self.step(to, What::Gap));
                self.propose(steps).await;
            }
            Ok(Next::Call(call)) => {
                let attempt = if call.place == from { attempt } else { 1 };
                steps.push(self.step(call.place, What::Begin { member: self.me, attempt }));
                if !self.propose(steps).await {
                    return;
                }
                let begun =
                    |now: &Cursor| (now.at, now.attempt, now.open) == (call.place, attempt, Some(self.me));
                if let Some(now) = self.cursor().filter(begun) {
                    self.hand_over(&registration, &call, &now).await;
                }
            }
        }
    }

    async fn ended_badly(&mut self, steps: Vec<Step>, cursor: &Cursor) {
        let failed =
            matches!(self.told.as_ref().map(|s| &s.what), Some(What::End { end: End::Failed(_), .. }));
        if self.propose(steps).await && failed {
            let pause = Duration::from_millis(self.settings().pause);
            self.pause(pause.saturating_mul(1 << cursor.failures.min(16)).min(LONGEST)).await;
        }
    }

    /// Has the runner call the handler.
    async fn hand_over(&mut self, registration: &Registration, call: &Call, cursor: &Cursor) {
        let (job, body) = self.job(registration, call, cursor.attempt);
        let mut runner = match self.runner.take() {
            Some(runner) => runner,
            None => match Runner::start(self.settings(), &self.journal).await {
                Ok(runner) => runner,
                Err(error) => {
                    let end = self.judged(cursor, Some(error));
                    return self.end(cursor.at, cursor.attempt, end);
                }
            },
        };
        match runner.carry_out(&job, &body).await {
            Ok(answer) => {
                self.runner = Some(runner);
                let end = self.judged(cursor, answer.fault);
                self.end(cursor.at, cursor.attempt, end);
            }
            // What became of it is in the journal.
            Err(error) => {
                warn!(file = self.file, at = %cursor.at, %error, "the runner of a handler is gone");
                self.pause(AGAIN).await;
            }
        }
    }

    fn job(&self, registration: &Registration, call: &Call, attempt: u32) -> (Job, Vec<u8>) {
        let (way, body) = match registration.kind {
            Kind::Program => (Way::Program, call.stdin(registration.format)),
            Kind::Module => (Way::Module, call.perl()),
            Kind::Web => (Way::Web, call.json()),
        };
        let environment = [
            ("MARGAY_CLUSTER", self.core.server().to_owned()),
            ("MARGAY_REVISION", call.place.revision.to_string()),
            ("MARGAY_DELIVERY", call.place.to_string()),
            ("MARGAY_ATTEMPT", attempt.to_string()),
            ("MARGAY_AUTHOR", call.author.replace('\0', "?")),
        ];
        let job = Job {
            attempt: Attempt::new(self.since, call.place, attempt),
            way,
            file: registration.file.clone(),
            ca: registration.ca.clone(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            deadline: self.settings().deadline * 1000,
            bytes: body.len(),
        };
        (job, body)
    }
}

/// Whether the end of an attempt is still news.
fn speaks_of(step: &Step, cursor: &Cursor) -> bool {
    let attempt = match &step.what {
        What::End { attempt, .. } => *attempt,
        _ => return false,
    };
    cursor.open.is_some() && (step.at, attempt) == (cursor.at, cursor.attempt)
}

/// The process that calls handlers; see [`super::runner`]. Dropping this lets it end after the call it is at.
struct Runner {
    child: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Runner {
    async fn start(settings: &Notify, journal: &std::path::Path) -> Result<Self, String> {
        let program = match settings.runner.as_os_str().is_empty() {
            true => std::env::current_exe().map_err(|error| format!("own program: {error}"))?,
            false => settings.runner.clone(),
        };
        let failed = |error: std::io::Error| format!("{}: {error}", program.display());
        let mut child = Command::new(&program)
            .arg("deliver")
            .arg(journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{}: no pipes", program.display()));
        };
        let mut answers = BufReader::new(output).lines();
        let limit = Duration::from_secs(settings.deadline) + SLACK;
        match tokio::time::timeout(limit, answers.next_line()).await {
            Ok(Ok(Some(line))) if line == READY => Ok(Self { child, input, answers }),
            Ok(Err(error)) => Err(failed(error)),
            Ok(_) => Err(format!("{} does not run handlers", program.display())),
            Err(_) => Err(format!("another process has {}", journal.display())),
        }
    }

    async fn carry_out(&mut self, job: &Job, body: &[u8]) -> Result<Answer, String> {
        let limit = Duration::from_millis(job.deadline) + SLACK;
        let talk = async {
            let mut text = serde_json::to_vec(job).map_err(|error| error.to_string())?;
            text.push(b'\n');
            text.extend_from_slice(body);
            self.input.write_all(&text).await.map_err(|error| error.to_string())?;
            self.input.flush().await.map_err(|error| error.to_string())?;
            let line = self.answers.next_line().await.map_err(|error| error.to_string())?;
            let line = line.ok_or("it ended")?;
            serde_json::from_str::<Answer>(&line).map_err(|error| error.to_string())
        };
        match tokio::time::timeout(limit, talk).await {
            Ok(Ok(answer)) if answer.attempt == job.attempt => Ok(answer),
            Ok(Ok(_)) => Err("it answers something else".to_owned()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let _ = self.child.start_kill();
                Err("it does not answer".to_owned())
            }
        }
    }
}
