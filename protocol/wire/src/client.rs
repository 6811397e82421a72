//! The conversation between the `margay` client and a master.
//!
//! The client opens a stream and sends one [`Request`]. The master answers with [`Answer`]s until `Done`.
//! Meanwhile the client sends [`Input`]s: what the master asked for, standard input, a cancel. A stream
//! that breaks detaches the action; only [`Input::Cancel`] ends it.

use crate::ids::{ActionId, RequestId, Revision};
use crate::op::Stream;
use crate::{Decode, Encode};

/// First frame of the client.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Run a command.
    Run(Run),
    /// See an action that runs or ran: its kept output from `skip` items on, then what follows.
    Attach {
        /// Which.
        action: Wanted,
        /// Output items ([`Answer::Text`]) already seen.
        skip: u64,
    },
    /// An entry that another master wants in the log; only masters may send it.
    Entry(Vec<u8>),
}

/// How an action is named by one that attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Wanted {
    /// By its number.
    Action(ActionId),
    /// By the request that made it (a client that lost its master).
    Request(RequestId),
}

/// A command as it was typed. The client understands none of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// Protocol version of the client.
    pub version: u32,
    /// Sent again with the same id it is not executed again.
    pub request: RequestId,
    /// The name the client was called by (`nodels`), or `margay` with its verbs in `argv`.
    pub command: String,
    /// Arguments after the name.
    pub argv: Vec<String>,
    /// Environment variables that commands know (`XCAT_*`, `DSH_*`, `XCATPSHFANOUT`, `LANG`, `TZ`).
    pub environment: Vec<(String, String)>,
    /// The client's working folder, for messages only.
    pub folder: String,
    /// Whether standard output is a terminal, and its width (0 when not).
    pub terminal_width: u16,
    /// Whether standard input is something else than a terminal or nothing.
    pub stdin_piped: bool,
}

/// What the client sends after its request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Input {
    /// End the action (Ctrl-C).
    Cancel,
    /// A piece of standard input (at most 64 KiB).
    Stdin(Vec<u8>),
    /// Standard input ended.
    StdinEnd,
    /// A piece of the file that was asked for by [`Answer::WantFile`].
    File {
        /// Its path as it was asked for.
        path: String,
        /// The bytes.
        bytes: Vec<u8>,
        /// This was the last piece.
        last: bool,
    },
    /// The file could not be read; why.
    FileError {
        /// Its path as it was asked for.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The answer to [`Answer::Ask`].
    Reply(String),
}

/// What the master sends.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// The request has become this action.
    Accepted(ActionId),
    /// A piece of output.
    Text(Text),
    /// Send this file of the client's machine.
    WantFile {
        /// As the user named it.
        path: String,
        /// Most bytes wanted.
        limit: u64,
    },
    /// Send standard input.
    WantStdin,
    /// Ask the user this question on the terminal.
    Ask(String),
    /// Progress for a terminal; not part of the output.
    Progress {
        /// Done so far.
        done: u64,
        /// Of how many.
        of: u64,
        /// What.
        what: String,
    },
    /// Write this file on the client's machine (`margay init`, `sn add`, exports).
    WriteFile {
        /// Path.
        path: String,
        /// Content.
        bytes: Vec<u8>,
        /// Unix mode bits.
        mode: u32,
    },
    /// This master does not lead; ask there (an address) or, when empty, try again soon.
    NotLeader(String),
    /// The end.
    Done {
        /// Exit status for the shell.
        status: u8,
        /// The answer holds at this revision.
        revision: Revision,
    },
    /// A piece of a text that the user is to edit; with the last piece the client starts the user's editor and
    /// answers with [`Input::File`]s or an [`Input::FileError`] under this name.
    Edit {
        /// Name of the file that the editor shows.
        name: String,
        /// The bytes.
        bytes: Vec<u8>,
        /// This was the last piece.
        last: bool,
        /// What was wrong with the text the user saved before; empty the first time.
        complaint: String,
        /// Most bytes wanted back.
        limit: u64,
    },
    /// The output was asked for in a form of its own: what follows on standard output is shown in it, all together
    /// at the end.
    Layout(Layout),
    /// Rows of output; only after [`Answer::Layout`].
    Rows(Rows),
    /// Everything up to here was sent; should the conversation break, it goes on with these arguments in place of
    /// the first ones.
    GoOn(Vec<String>),
    /// Send the names of the files in this folder of the client's machine: one a line, in order, as an
    /// [`Input::File`] of this path, or an [`Input::FileError`].
    WantFolder {
        /// As the user named it.
        path: String,
        /// Most bytes wanted.
        limit: u64,
    },
    /// A piece of a file that one message does not hold; the last piece is an [`Answer::WriteFile`] of this path.
    FilePiece {
        /// Path.
        path: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// The form that the user wants output in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Layout {
    /// Which.
    pub format: Format,
    /// Sorted by this field; with `-` in front the other way round.
    pub sort: Option<String>,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Format {
    /// Aligned columns, cut to the terminal.
    Table,
    /// Aligned columns, nothing left out.
    Wide,
    /// A JSON array of objects.
    Json,
    /// A YAML list of maps.
    Yaml,
    /// Comma-separated values under a line of names.
    Csv,
    /// The values alone, separated by tabs.
    Value,
}

/// Rows with their fields; further pieces may have other fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Rows {
    /// Names, the same in every release.
    pub fields: Vec<String>,
    /// One value for each field, or none.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A piece of output. `node` is set for node output, which the client prints as `node: text`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Text {
    /// Where to.
    pub stream: Stream,
    /// The node that it is from; the client writes `node: ` in front of each line.
    pub node: Option<String>,
    /// Whole lines with their line feeds (a last one may lack it on purpose).
    pub text: Vec<u8>,
}
