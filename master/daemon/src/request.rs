//! One request of a client: policy, plan, and what becomes of the plan.
//!
//! Invariant: a request that changes something is carried out at most once, whatever happens between; its
//! id is in the log with the change.

use std::sync::Arc;
use std::time::Duration;

use commands::global::Global;
use commands::judge::{Asked, Judgment, decide, named_then};
use commands::touch::Touched;
use commands::{Change, Command, Edited, Need, Output, Plan, Record, Sheet};
use link::Exchange;
use state::policy::{self, Rules};
use state::{RowChange, State};
use tokio::sync::broadcast::error::RecvError;
use tracing::{info, warn};
use wire::client::{Answer, Format, Input, Request, Rows, Run, Wanted};
use wire::ids::RequestId;
use wire::op::Stream;

use crate::actions::Kind;
use crate::audit;
use crate::core::{Caller, Core, Trouble, done};
use crate::planning::{Gathered, Pieces, Planning};
use crate::talk::{Heard, Talk};
use crate::{effects, executor, past, status, watch};

/// How long a request waits for a new cluster to be founded.
const FOUNDING: Duration = Duration::from_secs(5);
/// How long a user may edit.
const EDITING: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a text to edit in one answer.
const PIECE: usize = 1024 * 1024;
/// Bytes of the names in a folder.
const FOLDER: u64 = 1024 * 1024;
/// A plan that still needs something after this many rounds is broken.
const ROUNDS: usize = 64;
/// A change that meets a faster one is planned again this often.
const CONFLICTS: u64 = 8;

/// Serves one request on the leader.
pub async fn serve(core: Core, caller: Caller, request: Request, exchange: Exchange) {
    let mut talk = Talk::new(exchange, &core.drain);
    let end = match request {
        Request::Run(run) => {
            let task = Task {
                core: core.clone(),
                caller,
                run,
                gathered: Gathered::default(),
                global: Global::default(),
                then: None,
                judgment: None,
            };
            task.run(&mut talk).await
        }
        // Only masters send these, and not this way.
        Request::Entry(_) => End::Done(1),
        Request::Attach { action, skip } => attach(&core, &caller, action, skip, &mut talk).await,
    };
    match end {
        End::Done(status) => {
            let revision = core.read(State::revision);
            talk.done(status, revision).await;
        }
        End::Elsewhere(address) => talk.elsewhere(address).await,
        End::Gone => {}
    }
}

/// How a request ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a status.
    Done(u8),
    /// Another master must be asked.
    Elsewhere(String),
    /// The client is not there any more.
    Gone,
}

impl From<link::LinkError> for End {
    fn from(_: link::LinkError) -> Self {
        Self::Gone
    }
}

impl From<Heard> for End {
    fn from(heard: Heard) -> Self {
        match heard {
            Heard::Cancel => Self::Done(130),
            Heard::Gone | Heard::Input(_) => Self::Gone,
        }
    }
}

/// A command on its way.
#[derive(Debug)]
pub struct Task {
    /// This master.
    pub core: Core,
    /// Who asks.
    pub caller: Caller,
    /// What.
    pub run: Run,
    gathered: Gathered,
    global: Global,
    /// The state of the past that is asked about.
    then: Option<Arc<State>>,
    /// What policy said last.
    judgment: Option<Judgment>,
}

impl Task {
    /// Carries the request out and gives its end.
    async fn run(mut self, talk: &mut Talk) -> End {
        match self.steps(talk).await {
            Ok(status) => End::Done(status),
            Err(end) => end,
        }
    }

    async fn steps(&mut self, talk: &mut Talk) -> Result<u8, End> {
        if let Err(reason) = wire::version::check(self.run.version) {
            return self.fail(talk, &reason).await;
        }
        self.founded().await?;
        let detach = take_detach(&mut self.run);
        let wrong = match Global::take(&self.run.command, &mut self.run.argv) {
            Ok(global) => {
                talk.layout.clone_from(&global.layout);
                self.gathered.inputs.rows = global.layout.is_some();
                self.global = global;
                None
            }
            Err(wrong) => Some(wrong),
        };
        if let Some(live) = self.core.actions.of_request(self.run.request)
            && live.about.user == self.caller.user
        {
            return executor::follow(&live, 0, talk).await;
        }
        if let Some(wrong) = wrong {
            return self.fail(talk, &wrong).await;
        }
        let (command, args) = match commands::resolve(&self.run.command, &self.run.argv) {
            Some((command, args)) => (command, args.to_vec()),
            None => return self.unknown(talk).await,
        };
        let _seat = match self.core.actions.seat(Kind::Request, &self.caller.user) {
            Ok(seat) => seat,
            Err(error) => return self.fail(talk, &error.to_string()).await,
        };
        if let Some(status) = self.earlier(command, talk).await? {
            return Ok(status);
        }
        if let Some(at) = self.global.at.clone() {
            self.barrier().await?;
            match past::state_at(&self.core, &at).await {
                Ok(then) => self.then = Some(Arc::new(then)),
                Err(wrong) => return self.fail(talk, &wrong).await,
            }
        }
        self.plan_and_do(command, &args, detach, talk).await
    }

    /// The answer when this very request was carried out before.
    async fn earlier(&self, command: &Command, talk: &mut Talk) -> Result<Option<u8>, End> {
        let request = self.run.request;
        self.barrier().await?;
        let (outcome, action) = self
            .core
            .read(|state| (state.outcome(&request).cloned(), state::actions::of_request(state, request)));
        let Some(outcome) = outcome else { return Ok(None) };
        if let Some(action) = action {
            // A wait for adapters goes on from its rows; it was made to be asked again.
            if command.name == "getadapter" {
                return Ok(None);
            }
            let text = format!(
                "Error: [{}]: action {} was begun by this request; its output is gone with the master that ran it \
                 (state {})\n",
                self.core.server(),
                action.id,
                action.phase.word()
            );
            talk.text(&commands::fanout::plain(Stream::Err, &text)).await?;
            return Ok(Some(action.status.max(1)));
        }
        if outcome.refused.is_some() {
            return Ok(None);
        }
        self.repeat(talk).await.map(Some)
    }

    async fn repeat(&self, talk: &mut Talk) -> Result<u8, End> {
        match self.core.actions.answer(self.run.request) {
            Some(output) => self.answer(&output, talk).await,
            None => Ok(0),
        }
    }

    async fn plan_and_do(
        &mut self,
        command: &'static Command,
        args: &[String],
        detach: bool,
        talk: &mut Talk,
    ) -> Result<u8, End> {
        let mut attempt = 0;
        for _ in 0..ROUNDS {
            self.barrier().await?;
            let (judgment, plan) = self.judged_plan(command, args, talk).await?;
            let denial = (!judgment.verdict.allowed).then(|| judgment.denial());
            let nodes = judgment.reach;
            self.judgment = Some(judgment);
            if let Some(denial) = denial {
                return self.denied(command, args, &denial, talk).await;
            }
            if !self.confirmed(&plan, nodes, talk).await? {
                return self.fail(talk, "nothing was changed; -y changes so many nodes").await;
            }
            match plan {
                Plan::Need(need) => {
                    if let Err(wrong) = self.gather(need, talk).await? {
                        return self.fail(talk, &wrong).await;
                    }
                }
                plan if self.then.is_some() && !answers(&plan) => {
                    return self.fail(talk, "this can only be done now, not at a point of the past").await;
                }
                Plan::Change(change) => match self.change(command, args, change, attempt, talk).await? {
                    Some(status) => return Ok(status),
                    None => attempt += 1,
                },
                Plan::Answer(output) => {
                    self.remember(command, args);
                    return self.answer(&output, talk).await;
                }
                Plan::FanOut(plan) => {
                    let work = executor::Work::FanOut(plan);
                    return executor::start(self, command, args, work, detach, talk).await;
                }
                Plan::Adapters(plan) => {
                    let work = executor::Work::Adapters(plan);
                    return executor::start(self, command, args, work, detach, talk).await;
                }
                Plan::Attach(id) => {
                    return match attach(&self.core, &self.caller, Wanted::Action(id), 0, talk).await {
                        End::Done(status) => Ok(status),
                        other => Err(other),
                    };
                }
                Plan::Cancel(id) => return executor::cancel(self, id, talk).await,
                Plan::Admit(name) => {
                    let audit = self.audit_row(command, args, "Allowed");
                    return effects::admit(self, &name, audit, talk).await;
                }
                Plan::Compact(upto) => {
                    self.audit(command, args, "Allowed").await?;
                    return self.compact(upto, talk).await;
                }
                Plan::Watch(mut wanted) => {
                    match talk.layout.take() {
                        None => {}
                        Some(layout) if layout.format == Format::Json && layout.sort.is_none() => {
                            wanted.json = true;
                        }
                        Some(_) => {
                            let text =
                                "a watch has no end that a form could wait for; there is -o lines|json";
                            return self.fail(talk, text).await;
                        }
                    }
                    self.remember(command, args);
                    return watch::watch(self, *wanted, talk).await;
                }
                Plan::Helper(helper) => {
                    self.audit(command, args, "Allowed").await?;
                    return effects::helper(self, &helper, talk).await;
                }
            }
        }
        self.fail(talk, "the command asks for more and more; it was given up").await
    }

    /// Policy on what was typed, the plan, and policy on what the plan touches; long answers go to the client as
    /// they are made.
    async fn judged_plan(
        &mut self,
        command: &'static Command,
        args: &[String],
        talk: &mut Talk,
    ) -> Result<(Judgment, Plan), End> {
        let (sink, mut pieces) = Pieces::channel();
        let planning = Planning {
            core: self.core.clone(),
            caller: self.caller.clone(),
            environment: self.run.environment.iter().cloned().collect(),
            gathered: std::mem::take(&mut self.gathered),
            global: self.global.clone(),
            // A copy costs nothing, and holds nobody up.
            now: self.core.read(State::derived),
            then: self.then.clone(),
            sink,
        };
        let args = args.to_vec();
        let work = tokio::task::spawn_blocking(move || planning.judged(command, &args));
        while let Some(items) = pieces.recv().await {
            for item in items {
                talk.text(&item).await?;
            }
        }
        match work.await {
            Ok((judgment, plan, gathered)) => {
                self.gathered = gathered;
                Ok((judgment, plan))
            }
            Err(_) => {
                self.fail(talk, "internal error while planning; nothing was done").await?;
                Err(End::Done(1))
            }
        }
    }

    /// Asks, once, before a change that touches very many nodes.
    async fn confirmed(&mut self, plan: &Plan, nodes: usize, talk: &mut Talk) -> Result<bool, End> {
        let terminal = self.run.terminal_width > 0;
        if !matches!(plan, Plan::Change(_)) || !self.global.guards(terminal) {
            return Ok(true);
        }
        let Some(question) = self.global.asks(nodes, terminal) else { return Ok(true) };
        if !terminal {
            return Ok(false);
        }
        talk.send(&Answer::Ask(question)).await?;
        let yes = loop {
            if let Input::Reply(reply) = talk.input().await? {
                break matches!(reply.trim(), "y" | "Y" | "yes");
            }
        };
        self.global.yes |= yes;
        Ok(yes)
    }

    /// Gets what a plan needs; the inner error is told to the client.
    async fn gather(&mut self, need: Need, talk: &mut Talk) -> Result<Result<(), String>, End> {
        match need {
            Need::Files { paths, limit } => {
                let limit = limit.min(self.core.config.limits.file);
                for path in paths {
                    let content = want_file(talk, &path, limit).await?;
                    self.gathered.files.insert(path, content);
                }
            }
            Need::Folder(path) => {
                let names = want_folder(talk, &path).await?;
                self.gathered.inputs.folders.insert(path, names);
            }
            Need::Past(query) => match past::read(&self.core, query).await {
                Ok(found) => self.gathered.inputs.past = Some(found),
                Err(wrong) => return Ok(Err(wrong)),
            },
            Need::Reads => self.gathered.inputs.reads = Some(self.core.questions.all()),
            Need::Instant(time) => match past::revision_at(&self.core, time).await {
                Ok(revision) => {
                    self.gathered.inputs.instants.insert(time, revision);
                }
                Err(wrong) => return Ok(Err(wrong)),
            },
            Need::File { path, limit } => {
                let limit = limit.min(self.core.config.limits.file);
                let content = want_file(talk, &path, limit).await?;
                self.gathered.files.insert(path, content);
            }
            Need::Stdin { limit } => {
                let limit = limit.min(self.core.config.limits.file);
                self.gathered.stdin = Some(want_stdin(talk, limit).await?);
            }
            Need::Edit(sheet) => {
                let text = want_edited(talk, &sheet, self.core.config.limits.file).await?;
                self.gathered.inputs.edited = Some(Edited { sheet, text });
            }
            Need::Hosts => self.gathered.inputs.hosts = Some(effects::read_hosts(&self.core).await),
            Need::Interfaces => {
                let found = tokio::task::spawn_blocking(crate::interfaces::of_this_machine).await;
                self.gathered.inputs.interfaces = Some(found.unwrap_or_default());
            }
            Need::Plugins => {
                let config = self.core.config.monitor.clone();
                let found = tokio::task::spawn_blocking(move || crate::monitor::plugin::names(&config)).await;
                self.gathered.inputs.plugins = Some(found.unwrap_or_default());
            }
            Need::Status => self.gathered.inputs.status = Some(status::lines(&self.core)),
        }
        Ok(Ok(()))
    }

    /// Forgets the past up to a revision.
    async fn compact(&self, upto: u64, talk: &mut Talk) -> Result<u8, End> {
        match past::forget(&self.core, upto).await {
            Ok(oldest) if oldest >= upto => {
                let mut output = Output::new();
                output.line(&format!("the oldest revision that can be looked at is {oldest}"));
                self.answer(&output, talk).await
            }
            Ok(oldest) => self.fail(talk, &format!("revisions beyond {oldest} are still needed")).await,
            Err(trouble) => self.trouble(trouble, talk).await,
        }
    }

    /// Commits a change; none when it met a faster one and must be planned again.
    async fn change(
        &self,
        command: &Command,
        args: &[String],
        change: Change,
        attempt: u64,
        talk: &mut Talk,
    ) -> Result<Option<u8>, End> {
        // A refused attempt is remembered under its id, so the next one needs its own.
        let request = RequestId { sequence: self.run.request.sequence | attempt << 56, ..self.run.request };
        let mut changes = change.changes;
        changes.extend(self.audit_row(command, args, "Allowed"));
        let line = audit::masked(command.name, args);
        let author = self.caller.user.clone();
        let answer = self.core.transact(&author, &line, Some(request), change.preconditions, changes).await;
        let answer = answer.and_then(|answer| done(&answer).cloned());
        match answer {
            Ok(outcome) if outcome.repeated => return self.repeat(talk).await.map(Some),
            Ok(_) => {}
            Err(Trouble::Conflict(_)) if attempt < CONFLICTS => return Ok(None),
            Err(trouble) => return self.trouble(trouble, talk).await.map(Some),
        }
        info!(user = %self.caller.user, command = %line, "changed");
        let mut output = change.notes;
        output.append(change.output);
        effects::carry_out(self, &change.effects, &mut output, talk).await?;
        self.core.actions.answered(self.run.request, &output);
        self.answer(&output, talk).await.map(Some)
    }

    async fn denied(
        &self,
        command: &Command,
        args: &[String],
        denial: &str,
        talk: &mut Talk,
    ) -> Result<u8, End> {
        warn!(user = %self.caller.user, address = %self.caller.address, command = command.name, "denied");
        self.audit(command, args, "Denied").await?;
        self.fail(talk, denial).await
    }

    async fn unknown(&self, talk: &mut Talk) -> Result<u8, End> {
        let called = match (self.run.command.as_str(), self.run.argv.first()) {
            ("margay", Some(verb)) if !verb.starts_with('-') => format!("margay {verb}"),
            ("margay", _) => {
                let text = commands::help::list();
                talk.text(&commands::fanout::plain(Stream::Out, &text)).await?;
                let helped = self.run.argv.iter().any(|word| word == "-h" || word == "--help");
                return Ok(u8::from(!helped));
            }
            (command, _) => command.to_owned(),
        };
        self.fail(talk, &format!("Unknown command: {called}; 'margay --help' lists the commands")).await
    }

    /// Sends an answer to the client.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn answer(&self, output: &Output, talk: &mut Talk) -> Result<u8, End> {
        let rows = match (&talk.layout, &output.rows) {
            (None, _) => None,
            (Some(_), Some(rows)) => Some(Rows::clone(rows)),
            // What a failed command prints is for a person.
            (Some(_), None) if output.status > 0 => None,
            (Some(_), None) => Some(self.core.read(|state| output.lines_as_rows(|word| state.is_node(word)))),
        };
        for text in output.items.iter().filter(|text| rows.is_none() || text.stream == Stream::Err) {
            talk.text(text).await?;
        }
        if let Some(rows) = rows {
            talk.rows(rows).await?;
        }
        Ok(output.status)
    }

    /// One error, status 1.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn fail(&self, talk: &mut Talk, text: &str) -> Result<u8, End> {
        let text = format!("Error: [{}]: {text}\n", self.core.server());
        talk.text(&commands::fanout::plain(Stream::Err, &text)).await?;
        Ok(1)
    }

    /// What to tell when a proposal has no answer: another master is asked with the same request id, and
    /// what was refused is told.
    ///
    /// # Errors
    /// The client must go elsewhere, or is gone.
    pub async fn trouble(&self, trouble: Trouble, talk: &mut Talk) -> Result<u8, End> {
        match trouble {
            Trouble::NotLeader(address) => Err(End::Elsewhere(address)),
            Trouble::Unknown => Err(End::Elsewhere(self.core.leader())),
            other => self.fail(talk, &other.to_string()).await,
        }
    }

    /// Waits until the cluster has its first rows: before, nobody is allowed anything.
    async fn founded(&self) -> Result<(), End> {
        let mut committed = self.core.committed();
        let founded = || self.core.read(State::revision) > 0;
        let wait = async { while !founded() && !matches!(committed.recv().await, Err(RecvError::Closed)) {} };
        match tokio::time::timeout(FOUNDING, wait).await {
            Ok(()) => Ok(()),
            Err(_) => Err(End::Elsewhere(String::new())),
        }
    }

    async fn barrier(&self) -> Result<(), End> {
        match self.core.barrier().await {
            Ok(()) => Ok(()),
            Err(_) => Err(End::Elsewhere(self.core.leader())),
        }
    }

    /// The audit row of this request, unless `site.auditskipcmds` leaves it out.
    #[must_use]
    pub fn audit_row(&self, command: &Command, args: &[String], verdict: &str) -> Option<RowChange> {
        let skip = self.core.read(|state| state.site("auditskipcmds").unwrap_or_default().to_owned());
        let of_client =
            |word: &str| word.strip_prefix("clienttype:").is_some_and(|kind| kind == audit::CLIENT);
        let skipped = |word: &str| word == "ALL" || word == command.name || of_client(word);
        if verdict == "Allowed" && skip.split(',').any(|word| skipped(word.trim())) {
            return None;
        }
        Some(audit::row(&self.record(command, args), verdict))
    }

    fn record(&self, command: &Command, args: &[String]) -> Record {
        audit::record(&self.caller, (command, args), self.judgment.as_ref(), self.core.clock.unix())
    }

    /// Writes the audit row by itself.
    ///
    /// # Errors
    /// The client must go elsewhere.
    pub async fn audit(&self, command: &Command, args: &[String], verdict: &str) -> Result<(), End> {
        let Some(row) = self.audit_row(command, args, verdict) else { return Ok(()) };
        match self.core.transact(&self.caller.user, command.name, None, Vec::new(), vec![row]).await {
            Ok(_) => Ok(()),
            Err(Trouble::NotLeader(address)) => Err(End::Elsewhere(address)),
            Err(error) => {
                warn!(%error, "an audit row could not be written");
                Ok(())
            }
        }
    }

    /// Remembers a plain question.
    pub fn remember(&self, command: &Command, args: &[String]) {
        // Asked by shells while somebody types.
        if command.name != commands::complete::COMMAND.name {
            self.core.questions.remember(self.record(command, args));
        }
    }
}

async fn attach(core: &Core, caller: &Caller, wanted: Wanted, skip: u64, talk: &mut Talk) -> End {
    let live = match wanted {
        Wanted::Action(id) => core.actions.of_id(id),
        Wanted::Request(request) => core.actions.of_request(request),
    };
    let record = core.read(|state| match wanted {
        Wanted::Action(id) => state::actions::find(state, id),
        Wanted::Request(request) => state::actions::of_request(state, request),
    });
    let owner = live.as_ref().map(|live| (live.about.user.clone(), live.about.command.clone()));
    let owner =
        owner.or_else(|| record.as_ref().map(|record| (record.author.clone(), record.command.clone())));
    let refuse =
        |text: String| commands::fanout::plain(Stream::Err, &format!("Error: [{}]: {text}\n", core.server()));
    let problem = match (&owner, &live, &record) {
        (Some((user, command)), _, _) if !may_see(core, caller, user, command) => {
            refuse(format!("{}: the action is {user}'s", policy::DENIED))
        }
        (_, Some(live), _) => {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            return executor::follow(live, skip, talk).await.map_or_else(|end| end, End::Done);
        }
        (_, None, Some(record)) => refuse(format!(
            "the output of action {} is not kept any more (state {}, status {})",
            record.id,
            record.phase.word(),
            record.status
        )),
        (_, None, None) => refuse("there is no such action".to_owned()),
    };
    match talk.text(&problem).await {
        Ok(()) => End::Done(1),
        Err(_) => End::Gone,
    }
}

/// Whether a user may see or end an action: its own, or one it would be allowed to begin.
#[must_use]
pub fn may_see(core: &Core, caller: &Caller, owner: &str, command: &str) -> bool {
    if caller.user == owner {
        return true;
    }
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let Some((command, args)) =
        words.split_first().and_then(|(name, args)| Some((commands::find(name)?, args)))
    else {
        return false;
    };
    core.read(|state| {
        let named =
            command.range_text(args).map_or_else(Vec::new, |range| named_then(state, command, &range).0);
        let (user, host, time) = (caller.user.as_str(), caller.host(), core.clock.unix());
        let asked = Asked { user, host, command, args, time };
        let judgment = decide(&Rules::of(state), &asked, named, Touched::default(), &mut |_, _, _, _| ());
        judgment.verdict.allowed
    })
}

/// Asks for the names of the files in a folder.
async fn want_folder(talk: &mut Talk, path: &str) -> Result<Option<Vec<String>>, End> {
    talk.send(&Answer::WantFolder { path: path.to_owned(), limit: FOLDER }).await?;
    let names = told_file(talk, path, FOLDER).await?;
    Ok(names.map(|names| String::from_utf8_lossy(&names).lines().map(str::to_owned).collect()))
}

async fn want_file(talk: &mut Talk, path: &str, limit: u64) -> Result<Option<Vec<u8>>, End> {
    talk.send(&Answer::WantFile { path: path.to_owned(), limit }).await?;
    told_file(talk, path, limit).await
}

async fn told_file(talk: &mut Talk, path: &str, limit: u64) -> Result<Option<Vec<u8>>, End> {
    let mut content = Vec::new();
    loop {
        match talk.input().await? {
            Input::File { path: of, bytes, last } if of == path => {
                content.extend_from_slice(&bytes);
                if content.len() as u64 > limit {
                    return Err(End::Done(1));
                }
                if last {
                    return Ok(Some(content));
                }
            }
            Input::FileError { path: of, .. } if of == path => return Ok(None),
            _ => {}
        }
    }
}

/// Has a text edited by the user, who may take long.
async fn want_edited(talk: &mut Talk, sheet: &Sheet, limit: u64) -> Result<Result<Vec<u8>, String>, End> {
    let edit = |bytes: &[u8], last| Answer::Edit {
        name: sheet.name.clone(),
        bytes: bytes.to_vec(),
        last,
        complaint: sheet.complaint.clone().unwrap_or_default(),
        limit,
    };
    for piece in sheet.text.chunks(PIECE) {
        talk.send(&edit(piece, false)).await?;
    }
    talk.send(&edit(&[], true)).await?;
    let mut content = Vec::new();
    let deadline = tokio::time::Instant::now() + EDITING;
    loop {
        let Ok(heard) = tokio::time::timeout_at(deadline, talk.heard()).await else { return Err(End::Gone) };
        match heard {
            Heard::Input(Input::File { path, bytes, last }) if path == sheet.name => {
                content.extend_from_slice(&bytes);
                if content.len() as u64 > limit {
                    return Err(End::Done(1));
                }
                if last {
                    return Ok(Ok(content));
                }
            }
            Heard::Input(Input::FileError { path, reason }) if path == sheet.name => {
                return Ok(Err(reason));
            }
            Heard::Input(_) => {}
            other => return Err(other.into()),
        }
    }
}

async fn want_stdin(talk: &mut Talk, limit: u64) -> Result<Vec<u8>, End> {
    talk.send(&Answer::WantStdin).await?;
    let mut content = Vec::new();
    loop {
        match talk.input().await? {
            Input::Stdin(bytes) => {
                content.extend_from_slice(&bytes);
                if content.len() as u64 > limit {
                    return Err(End::Done(1));
                }
            }
            Input::StdinEnd => return Ok(content),
            _ => {}
        }
    }
}

/// Whether a plan can be carried out for a point of the past: it changes no row and asks no node.
fn answers(plan: &Plan) -> bool {
    match plan {
        Plan::Answer(_) => true,
        Plan::Change(change) => change.changes.is_empty(),
        _ => false,
    }
}

/// Takes `--detach` or `--async` out of the arguments. In a remote command's own words it stays.
fn take_detach(run: &mut Run) -> bool {
    let named = if run.command == "margay" { 1 } else { 0 };
    let command = if named == 1 { run.argv.first().map_or("", String::as_str) } else { run.command.as_str() };
    let remote =
        commands::find(command).is_some_and(|command| matches!(command.name, "xdsh" | "psh" | "policy"));
    // xdsh and psh read the option themselves, among those before the remote command; policy has it for another one.
    if remote {
        return false;
    }
    let before = run.argv.len();
    run.argv.retain(|word| word != "--detach" && word != "--async");
    run.argv.len() != before
}
