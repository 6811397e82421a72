//! Client and master.

use super::{Sample, s, sample};
use wire::client::{Answer, Format, Input, Layout, Request, Rows, Run, Text, Wanted};
use wire::ids::{ActionId, RequestId, Revision};
use wire::op::Stream;
use wire::peer::Forward;

pub fn samples() -> Vec<Sample> {
    let id = RequestId { client: 0x0102_0304_0506_0708, sequence: 9 };
    let run = Run {
        version: 1,
        request: id,
        command: s("nodels"),
        argv: vec![s("all"), s("mac.mac")],
        environment: vec![(s("XCAT_NODE_PREFIX"), s("n"))],
        folder: s("/root"),
        terminal_width: 120,
        stdin_piped: true,
    };
    vec![
        sample("client.request.run", Request::Run(run)),
        sample(
            "client.request.attach.action",
            Request::Attach { action: Wanted::Action(ActionId(7)), skip: 300 },
        ),
        sample("client.request.attach.request", Request::Attach { action: Wanted::Request(id), skip: 0 }),
        sample("client.input.cancel", Input::Cancel),
        sample("client.input.stdin", Input::Stdin(vec![1, 2, 255])),
        sample("client.input.stdin_end", Input::StdinEnd),
        sample("client.input.file", Input::File { path: s("a.csv"), bytes: vec![35], last: true }),
        sample("client.input.file_error", Input::FileError { path: s("a.csv"), reason: s("No such file") }),
        sample("client.input.reply", Input::Reply(s("y"))),
        sample("client.answer.accepted", Answer::Accepted(ActionId(70_000))),
        sample(
            "client.answer.text.node",
            Answer::Text(Text { stream: Stream::Out, node: Some(s("n1")), text: b"on\n".to_vec() }),
        ),
        sample(
            "client.answer.text.plain",
            Answer::Text(Text { stream: Stream::Err, node: None, text: b"Error: x\n".to_vec() }),
        ),
        sample("client.answer.want_file", Answer::WantFile { path: s("a.csv"), limit: 1 << 20 }),
        sample("client.answer.want_stdin", Answer::WantStdin),
        sample("client.answer.ask", Answer::Ask(s("Sure?"))),
        sample("client.answer.progress", Answer::Progress { done: 3, of: 16, what: s("discovered") }),
        sample(
            "client.answer.write_file",
            Answer::WriteFile { path: s("token"), bytes: vec![7], mode: 0o600 },
        ),
        sample("client.answer.not_leader", Answer::NotLeader(s("127.0.0.1:3001"))),
        sample("client.answer.done", Answer::Done { status: 1, revision: Revision(65_536) }),
        sample(
            "client.answer.edit",
            Answer::Edit {
                name: s("a.csv"),
                bytes: vec![35],
                last: true,
                complaint: s("line 2"),
                limit: 1 << 20,
            },
        ),
        sample("client.request.entry", Request::Entry(vec![2, 0])),
        sample("client.answer.go_on", Answer::GoOn(vec![s("watch"), s("--from=7")])),
        sample("client.answer.want_folder", Answer::WantFolder { path: s("d"), limit: 1 << 20 }),
        sample("client.answer.file_piece", Answer::FilePiece { path: s("a.csv"), bytes: vec![35] }),
        sample(
            "client.answer.layout",
            Answer::Layout(Layout { format: Format::Value, sort: Some(s("-node")) }),
        ),
        sample(
            "client.answer.rows",
            Answer::Rows(Rows { fields: vec![s("node"), s("text")], rows: vec![vec![Some(s("n1")), None]] }),
        ),
        sample(
            "peer.forward",
            Forward {
                user: s("ann"),
                address: s("10.0.0.9:4000"),
                request: Request::Attach { action: Wanted::Action(ActionId(7)), skip: 2 },
            },
        ),
    ]
}
