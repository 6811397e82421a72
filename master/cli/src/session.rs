//! One request from its first byte to its exit status, over as many connections as it takes.
//!
//! Invariant: the request id never changes, so however often the request is sent it is executed once;
//! what was printed before a connection broke is not printed again.

use std::future::ready;
use std::io::Write;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use wire::client::{Answer, Input, Request, Run};

use crate::config::Config;
use crate::connect::{Masters, Talk};
use crate::editor::Editing;
use crate::render::Render;
use crate::side::{self, Receiving, Stdin};

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;
/// Exit status when nobody reads the output any more, as shells show SIGPIPE.
const NO_READER: i32 = 141;
/// How long a cancel may take to be sent.
const CANCEL: Duration = Duration::from_secs(2);
/// First and longest wait between two rounds over the masters.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Runs `run` at the cluster and gives the exit status.
pub async fn run(config: &Config, run: Run) -> i32 {
    let mut screen = Render::standard();
    run_on(config, run, &mut screen).await
}

/// [`run`] with output of its own.
pub async fn run_on<O: Write, E: Write>(config: &Config, run: Run, screen: &mut Render<O, E>) -> i32 {
    let mut masters = match Masters::new(config) {
        Ok(masters) => masters,
        Err(message) => {
            let _ = screen.complain(&format!("Error: {message}"));
            return 1;
        }
    };
    let Ok(interrupt) = signal(SignalKind::interrupt()) else { return 1 };
    let stdin = Stdin::default();
    let editing = Editing::default();
    let files = Receiving::default();
    let mut session =
        Session { run, screen, stdin, editing, files, interrupt, interrupted: false, sent: false };
    let status = session.keep_trying(&mut masters, Duration::from_secs(config.patience)).await;
    masters.farewell().await;
    match screen.flush() {
        Ok(()) => status,
        Err(_) => NO_READER,
    }
}

struct Session<'a, O, E> {
    run: Run,
    screen: &'a mut Render<O, E>,
    stdin: Stdin,
    editing: Editing,
    files: Receiving,
    interrupt: Signal,
    interrupted: bool,
    sent: bool,
}

/// How a conversation ended.
enum Ended {
    /// With an exit status.
    Status(i32),
    /// The master said to ask there, or with an empty address again soon.
    Elsewhere(String),
    /// The connection broke; whether anything had come before, and why.
    Lost { heard: bool, why: String },
}

impl<O: Write, E: Write> Session<'_, O, E> {
    async fn keep_trying(&mut self, masters: &mut Masters, patience: Duration) -> i32 {
        let mut give_up = Instant::now() + patience;
        let mut backoff = service::Backoff::new(WAITS.0, WAITS.1);
        let mut why;
        loop {
            let interrupted = self.interrupt.recv();
            let talk = tokio::select! {
                biased;
                _ = interrupted => return INTERRUPTED,
                talk = masters.talk(give_up) => talk,
            };
            match talk {
                Err(reason) => why = reason,
                Ok(talk) => match self.converse(talk).await {
                    Ended::Status(status) => return status,
                    Ended::Elsewhere(address) if !address.is_empty() => {
                        masters.prefer(&address);
                        if Instant::now() < give_up {
                            continue;
                        }
                        why = format!("no master leads (last told: {address})");
                    }
                    Ended::Elsewhere(_) => why = "the masters have no leader".to_owned(),
                    Ended::Lost { heard, why: reason } => {
                        masters.lost();
                        self.editing.begin();
                        self.screen.expect_replay();
                        why = reason;
                        if heard {
                            give_up = Instant::now() + patience;
                            backoff.reset();
                        }
                    }
                },
            }
            if Instant::now() >= give_up {
                let outcome = if self.sent {
                    format!(" (whether request {} was carried out is unknown)", self.run.request)
                } else {
                    String::new()
                };
                let message =
                    format!("Error: cannot reach any master ({}): {why}{outcome}", masters.addresses());
                let _ = self.screen.complain(&message);
                return 1;
            }
            let interrupted = self.interrupt.recv();
            tokio::select! {
                biased;
                _ = interrupted => return INTERRUPTED,
                () = tokio::time::sleep(backoff.wait(service::random::number())) => {}
            }
        }
    }

    async fn converse(&mut self, mut talk: Talk) -> Ended {
        let lost = |why: String| Ended::Lost { heard: false, why };
        if let Err(error) = talk.send.send(&Request::Run(self.run.clone())).await {
            return lost(error.to_string());
        }
        self.sent = true;
        self.files = Receiving::default();
        let mut heard = false;
        let mut dirty = false;
        let mut listens = true;
        loop {
            let answer = tokio::select! {
                biased;
                _ = self.interrupt.recv() => {
                    if self.interrupted {
                        return Ended::Status(INTERRUPTED);
                    }
                    self.interrupted = true;
                    // Whether the connection still lives is told by what is received.
                    let _ = link::within(CANCEL, talk.send.send(&Input::Cancel)).await;
                    continue;
                }
                answer = talk.receive.recv::<Answer>() => answer,
                () = ready(()), if dirty => {
                    dirty = false;
                    if self.screen.flush().is_err() {
                        return Ended::Status(NO_READER);
                    }
                    continue;
                }
                input = self.stdin.next(), if listens => {
                    // A master that no longer takes input may still have its last words to say.
                    listens = talk.send.send(&input).await.is_ok();
                    continue;
                }
            };
            dirty = true;
            match answer {
                Ok(Some(answer)) => match self.answer(answer, &mut talk).await {
                    Ok(None) => heard = true,
                    Ok(Some(ended)) => return ended,
                    Err(why) => return Ended::Lost { heard: true, why },
                },
                Ok(None) => {
                    return Ended::Lost { heard, why: "the master ended the conversation early".to_owned() };
                }
                Err(error) => return Ended::Lost { heard, why: error.to_string() },
            }
        }
    }

    fn failed(&mut self, message: &str) -> Ended {
        let _ = self.screen.complain(&format!("Error: {message}"));
        Ended::Status(1)
    }

    /// Deals with one answer; the error is a connection that broke meanwhile.
    async fn answer(&mut self, answer: Answer, talk: &mut Talk) -> Result<Option<Ended>, String> {
        let mut reply = Vec::new();
        let shown = match answer {
            Answer::Accepted(_) => Ok(()),
            Answer::Text(text) => self.screen.text(&text),
            Answer::Layout(layout) => {
                self.screen.layout(layout);
                Ok(())
            }
            Answer::Rows(rows) => {
                self.screen.rows(rows);
                Ok(())
            }
            Answer::GoOn(argv) => {
                self.run.argv = argv;
                self.screen.forget();
                Ok(())
            }
            Answer::Progress { done, of, what } => self.screen.progress(done, of, &what),
            Answer::WantFile { path, limit } => {
                reply = side::read_file(&path, limit);
                Ok(())
            }
            Answer::WantFolder { path, limit } => {
                reply = side::read_folder(&path, limit);
                Ok(())
            }
            Answer::WantStdin => {
                match self.stdin.replay() {
                    Some(pieces) => reply = pieces.to_vec(),
                    None => {
                        let _ = self.screen.complain("Error: standard input cannot be read a second time");
                        return Ok(Some(Ended::Status(1)));
                    }
                }
                self.stdin.start();
                Ok(())
            }
            Answer::Ask(question) => {
                let shown = self.screen.flush();
                reply = vec![Input::Reply(side::ask(&question))];
                shown
            }
            Answer::FilePiece { path, bytes } => match self.files.piece(&path, &bytes) {
                Ok(()) => Ok(()),
                Err(message) => return Ok(Some(self.failed(&message))),
            },
            Answer::WriteFile { path, bytes, mode } => match self.files.end(&path, &bytes, mode) {
                Ok(()) => Ok(()),
                Err(message) => return Ok(Some(self.failed(&message))),
            },
            Answer::Edit { name, bytes, last, complaint, limit } => {
                let shown = self.screen.flush();
                self.editing.piece(&bytes);
                if last {
                    reply = self.editing.edit(&name, &complaint, limit).await;
                    // Ctrl-C in the editor was meant for the editor.
                    tokio::select! {
                        biased;
                        _ = self.interrupt.recv() => {}
                        () = ready(()) => {}
                    }
                }
                shown
            }
            Answer::NotLeader(address) => return Ok(Some(Ended::Elsewhere(address))),
            Answer::Done { status, .. } => {
                let status = if self.interrupted { INTERRUPTED } else { i32::from(status) };
                let status = match self.screen.finish() {
                    Ok(true) => status,
                    Ok(false) => status.max(1),
                    Err(_) => NO_READER,
                };
                return Ok(Some(Ended::Status(status)));
            }
        };
        if shown.is_err() {
            return Ok(Some(Ended::Status(NO_READER)));
        }
        for input in reply {
            talk.send.send(&input).await.map_err(|error| error.to_string())?;
        }
        Ok(None)
    }
}
