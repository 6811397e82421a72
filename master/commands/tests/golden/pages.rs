//! The manual pages, read by the program that shows them where there is one.

use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn groff_has_no_complaint_about_any_manual_page() {
    let started = Command::new("groff")
        .args(["-man", "-ww", "-z", "-Tutf8", "-Kutf8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // A machine without groff has the check of the pages' structure alone.
    let Ok(mut groff) = started else { return };
    let pages = commands::roff::pages("0.1.0");
    let mut input = groff.stdin.take().unwrap();
    for (name, text) in pages.iter().filter(|(_, text)| !text.starts_with(".so ")) {
        // Complaints name the page in place of the one file that they all are in.
        input.write_all(format!(".lf 1 {name}\n{text}").as_bytes()).unwrap();
    }
    drop(input);
    let output = groff.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}
