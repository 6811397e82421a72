//! The program itself against a master that is made here.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use link::pki::Authority;
use link::{Credentials, Endpoint, Exchange, Role};
use wire::client::{Answer, Format, Input, Layout, Request, Rows, Run, Text};
use wire::ids::{ActionId, Revision};
use wire::op::Stream;

const LONG: Duration = Duration::from_secs(30);

struct Master {
    dir: tempfile::TempDir,
    endpoints: Vec<Endpoint>,
}

impl Master {
    fn start(count: usize) -> Self {
        let now = service::Clock::Real.unix();
        let life = Duration::from_secs(3600);
        let authority = Authority::create("c1", now).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let own = authority.credentials(Role::Master, "m1", now, life).unwrap();
        let bind = "127.0.0.1:0".parse().unwrap();
        let server = || Endpoint::server(bind, &own, &[wire::ALPN_MAIN]).unwrap();
        let endpoints: Vec<Endpoint> = (0..count).map(|_| server()).collect();
        let Credentials { ca_pem, cert_pem, key_pem } =
            authority.credentials(Role::Admin, "ann", now, life).unwrap();
        for (name, text) in [("ca.pem", ca_pem), ("cert.pem", cert_pem), ("key.pem", key_pem)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let addresses: Vec<String> =
            endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.local_addr().unwrap())).collect();
        let config = format!("cluster = \"c1\"\nmasters = [{}]\n", addresses.join(","));
        std::fs::write(dir.path().join("client.toml"), config).unwrap();
        Self { dir, endpoints }
    }

    /// The program, with its output and input as pipes.
    fn run(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_margay"))
            .args(arguments)
            .env("MARGAY_CONFIG", self.dir.path().join("client.toml"))
            .env("XCATTEST", "1")
            .env_remove("TABEDITOR")
            .env("EDITOR", format!("sh {}", self.dir.path().join("editor").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The next request that comes to a member.
    async fn request(&self, member: usize) -> (Run, Exchange) {
        let serve = async {
            let arrival = self.endpoints[member].accept().await.unwrap();
            let connection = arrival.complete("c1").await.unwrap();
            let mut exchange = connection.accept().await.unwrap();
            let Some(Request::Run(run)) = exchange.recv().await.unwrap() else { panic!("no request") };
            // The connection lives as long as its exchange.
            (run, exchange)
        };
        tokio::time::timeout(LONG, serve).await.unwrap()
    }
}

fn text(node: Option<&str>, text: &str) -> Answer {
    Answer::Text(Text { stream: Stream::Out, node: node.map(str::to_owned), text: text.as_bytes().to_vec() })
}

fn done(status: u8) -> Answer {
    Answer::Done { status, revision: Revision(1) }
}

async fn end(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

async fn heard(exchange: &mut Exchange) -> Input {
    exchange.expect(LONG).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_is_sent_as_a_cancel_and_the_status_is_130() {
    let master = Master::start(1);
    let child = master.run(&["xdsh", "n1", "sleep", "100"]);
    let (run, mut exchange) = master.request(0).await;
    assert_eq!((run.command.as_str(), run.argv.len()), ("margay", 4));
    assert!(run.environment.contains(&("XCATTEST".to_owned(), "1".to_owned())));
    exchange.send(&Answer::Accepted(ActionId(1))).await.unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(heard(&mut exchange).await, Input::Cancel);
    exchange.send(&text(Some("n1"), "ended\n")).await.unwrap();
    exchange.send(&done(1)).await.unwrap();
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stdout, b"n1: ended\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_request_is_sent_again_under_its_id_and_no_line_is_printed_twice() {
    let master = Master::start(1);
    let child = master.run(&["nodels"]);
    let (first, mut exchange) = master.request(0).await;
    exchange.send(&text(Some("n1"), "on\n")).await.unwrap();
    exchange.sender.flush(LONG).await.unwrap();
    drop(exchange);
    let (second, mut exchange) = master.request(0).await;
    assert_eq!(first.request, second.request);
    exchange.send(&text(Some("n1"), "on\n")).await.unwrap();
    exchange.send(&text(Some("n2"), "off\n")).await.unwrap();
    exchange.send(&done(3)).await.unwrap();
    let output = end(child).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "n1: on\nn2: off\n");
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_goes_where_the_leader_is_said_to_be() {
    let master = Master::start(2);
    let child = master.run(&["nodels"]);
    let (first, mut exchange) = master.request(0).await;
    let leader = master.endpoints[1].local_addr().unwrap().to_string();
    exchange.send(&Answer::NotLeader(leader)).await.unwrap();
    let (second, mut exchange) = master.request(1).await;
    assert_eq!(first.request, second.request);
    exchange.send(&done(0)).await.unwrap();
    assert_eq!(end(child).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_and_files_go_only_when_they_are_asked_for() {
    let master = Master::start(1);
    let file = master.dir.path().join("list");
    std::fs::write(&file, "n1\n").unwrap();
    let made = master.dir.path().join("made");
    let mut child = master.run(&["nodels"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    let (run, mut exchange) = master.request(0).await;
    assert!(run.stdin_piped);
    let path = |path: &Path| path.display().to_string();
    exchange.send(&Answer::WantFile { path: path(&file), limit: 100 }).await.unwrap();
    let wanted = Input::File { path: path(&file), bytes: b"n1\n".to_vec(), last: true };
    assert_eq!(heard(&mut exchange).await, wanted);
    exchange.send(&Answer::WantFile { path: "/nonexistent/x".into(), limit: 100 }).await.unwrap();
    assert!(matches!(heard(&mut exchange).await, Input::FileError { .. }));
    exchange.send(&Answer::WantStdin).await.unwrap();
    assert_eq!(heard(&mut exchange).await, Input::Stdin(b"hello".to_vec()));
    assert_eq!(heard(&mut exchange).await, Input::StdinEnd);
    let content = Answer::WriteFile { path: path(&made), bytes: b"x\n".to_vec(), mode: 0o600 };
    exchange.send(&content).await.unwrap();
    exchange.send(&done(0)).await.unwrap();
    assert_eq!(end(child).await.status.code(), Some(0));
    assert_eq!(std::fs::read(&made).unwrap(), b"x\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_in_pieces_is_there_when_it_is_whole_and_else_leaves_nothing() {
    let master = Master::start(1);
    let folder = master.dir.path().join("export");
    let path = |name: &str| folder.join(name).display().to_string();
    let piece = |name: &str| Answer::FilePiece { path: path(name), bytes: b"abc".to_vec() };
    let child = master.run(&["export", &folder.display().to_string()]);
    let (_, mut exchange) = master.request(0).await;
    exchange.send(&piece("whole")).await.unwrap();
    exchange.send(&piece("whole")).await.unwrap();
    let last = Answer::WriteFile { path: path("whole"), bytes: b"d".to_vec(), mode: 0o640 };
    exchange.send(&last).await.unwrap();
    exchange.send(&piece("half")).await.unwrap();
    exchange.send(&done(0)).await.unwrap();
    assert_eq!(end(child).await.status.code(), Some(0));
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["whole"]);
    assert_eq!(std::fs::read(folder.join("whole")).unwrap(), b"abcabcd");
    let mode = std::fs::metadata(folder.join("whole")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_shown_in_the_form_that_the_master_names() {
    let master = Master::start(1);
    let child = master.run(&["nodels", "-o", "json"]);
    let (run, mut exchange) = master.request(0).await;
    assert_eq!(run.argv.last().map(String::as_str), Some("json"));
    let rows = |node: &str| {
        let row = vec![Some(node.to_owned()), None];
        Answer::Rows(Rows { fields: vec!["node".into(), "none".into()], rows: vec![row] })
    };
    exchange.send(&Answer::Layout(Layout { format: Format::Json, sort: Some("node".into()) })).await.unwrap();
    exchange.send(&rows("n10")).await.unwrap();
    exchange.send(&rows("n9")).await.unwrap();
    exchange.send(&done(0)).await.unwrap();
    let output = end(child).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        (shown.as_str(), output.status.code()),
        ("[\n  {\"node\": \"n9\"},\n  {\"node\": \"n10\"}\n]\n", Some(0))
    );
}

/// Asks bash what it would complete behind this line.
fn bash(master: &Master, line: &str) -> Child {
    let program = Path::new(env!("CARGO_BIN_EXE_margay"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let script = r#"
        eval "$(margay completion bash)" || exit 9
        complete -p nodels >/dev/null || exit 8
        COMP_LINE=$LINE COMP_POINT=${#LINE}
        _margay || exit 7
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    Command::new("bash")
        .args(["--norc", "-c", script])
        .env("PATH", path)
        .env("LINE", line)
        .env("MARGAY_CONFIG", master.dir.path().join("client.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bash_completes_with_what_the_master_suggests() {
    let master = Master::start(1);
    for (line, suggested, completed) in [
        ("nodels n", "n1\nn2\n", "n1\nn2\n"),
        ("margay nodels rack1@g", "rack1@gpu\n", "gpu\n"),
        ("nodeset n1 osimage=ro", "osimage=rocky9\n", "rocky9\n"),
        ("nodels nosuch", "", "\n"),
    ] {
        let child = bash(&master, line);
        let (run, mut exchange) = master.request(0).await;
        assert_eq!(
            (run.command.as_str(), run.argv.as_slice()),
            ("margay", &["complete".to_owned(), line.to_owned()][..])
        );
        exchange.send(&text(None, suggested)).await.unwrap();
        exchange.send(&done(0)).await.unwrap();
        let output = end(child).await;
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), completed, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completion_is_silent_and_soon_over_when_no_master_answers() {
    let master = Master::start(1);
    let begun = std::time::Instant::now();
    let child = bash(&master, "nodels n");
    // The request is taken and never answered.
    let (_, exchange) = master.request(0).await;
    let output = end(child).await;
    drop(exchange);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
        (Some(0), &b"\n"[..], &b""[..])
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn the_scripts_of_the_shells_are_accepted_by_those_that_are_there() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let printed =
            Command::new(env!("CARGO_BIN_EXE_margay")).args(["completion", shell]).output().unwrap();
        assert!(printed.status.success() && printed.stdout.len() > 100, "{shell}");
        let started = Command::new(shell).arg(check).arg("/dev/stdin").stdin(Stdio::piped()).spawn();
        // A shell that is not installed is not asked.
        let Ok(mut started) = started else { continue };
        started.stdin.take().unwrap().write_all(&printed.stdout).unwrap();
        assert!(started.wait().unwrap().success(), "{shell}");
    }
    let unknown = Command::new(env!("CARGO_BIN_EXE_margay")).args(["completion", "csh"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}

fn edit(bytes: &[u8], last: bool, complaint: &str) -> Answer {
    let complaint = complaint.to_owned();
    Answer::Edit { name: "mac.csv".to_owned(), bytes: bytes.to_vec(), last, complaint, limit: 100 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_edited_once_even_when_the_master_is_lost_meanwhile() {
    let master = Master::start(1);
    let calls = master.dir.path().join("calls");
    let script = format!("basename $1 >>{}\nsed -i s/R1/R7/ $1\n", calls.display());
    std::fs::write(master.dir.path().join("editor"), script).unwrap();
    let child = master.run(&["tabedit", "mac"]);
    let wanted = Input::File { path: "mac.csv".to_owned(), bytes: b"#node\nR7\n".to_vec(), last: true };
    let (_, mut exchange) = master.request(0).await;
    for lost in [true, false] {
        exchange.send(&edit(b"#node\n", false, "")).await.unwrap();
        exchange.send(&edit(b"R1\n", true, "")).await.unwrap();
        assert_eq!(heard(&mut exchange).await, wanted);
        if lost {
            drop(exchange);
            exchange = master.request(0).await.1;
        }
    }
    exchange.send(&done(0)).await.unwrap();
    assert_eq!(end(child).await.status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(calls).unwrap(), "mac.csv\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_that_fails_or_writes_too_much_saves_nothing() {
    let master = Master::start(1);
    for (script, reason) in [("exit 3\n", "nothing was saved"), ("seq 100 >$1\n", "larger than 100 bytes")] {
        std::fs::write(master.dir.path().join("editor"), script).unwrap();
        let child = master.run(&["tabedit", "mac"]);
        let (_, mut exchange) = master.request(0).await;
        exchange.send(&edit(b"#node\n", true, "")).await.unwrap();
        let Input::FileError { reason: told, .. } = heard(&mut exchange).await else { panic!("a file") };
        assert!(told.contains(reason), "{told}");
        exchange.send(&done(1)).await.unwrap();
        assert_eq!(end(child).await.status.code(), Some(1));
    }
}
