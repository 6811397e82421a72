//! Work shown stage by stage: name, elapsed time, budget, what came out of it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// How long a stage may take on two idle cores. Passing it is said, not punished: machines differ.
#[derive(Debug, Clone, Copy)]
pub struct Budget(pub Duration);

impl Budget {
    /// A budget in seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// A row of stages, one after the other.
pub struct Stages {
    started: Instant,
    count: usize,
    over: Vec<String>,
}

impl Stages {
    /// None yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), count: 0, over: Vec::new() }
    }

    /// Runs one stage; `work` returns what to say about its result.
    pub fn run(
        &mut self,
        name: &str,
        budget: Budget,
        work: impl FnOnce(&Note) -> Result<String>,
    ) -> Result<()> {
        self.count += 1;
        let note = Note::new(self.count, name);
        let (begun, cpu) = (Instant::now(), children_cpu());
        let result = work(&note);
        let took = begun.elapsed();
        let burned = children_cpu().saturating_sub(cpu);
        note.clear();
        let times = format!(
            "{:>7.1} s  (cpu {:.1} s, budget {} s)",
            took.as_secs_f64(),
            burned.as_secs_f64(),
            budget.0.as_secs()
        );
        match &result {
            Ok(said) => println!("{:>3}. {name:<28} ok   {times}  {said}", self.count),
            Err(_) => println!("{:>3}. {name:<28} FAIL {times}", self.count),
        }
        if took > budget.0 {
            self.over.push(name.to_owned());
        }
        result.map(drop)
    }

    /// The closing words: all the time, and which stages passed their budget.
    pub fn close(&self) {
        let total = self.started.elapsed().as_secs_f64();
        print!("{} stages in {:.1} min", self.count, total / 60.0);
        match self.over.as_slice() {
            [] => println!(", each within its budget"),
            over => println!(", over budget: {}", over.join(", ")),
        }
    }
}

/// What a running stage shows: a line that moves on a terminal, plain lines elsewhere.
pub struct Note {
    bar: Option<ProgressBar>,
}

impl Note {
    fn new(number: usize, name: &str) -> Self {
        if !std::io::stdout().is_terminal() {
            println!("{number:>3}. {name} ...");
            return Self { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{prefix} {spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{number:>3}. {name:<28}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar: Some(bar) }
    }

    /// Notes outside any stage: plain lines.
    pub fn plain() -> Self {
        Self { bar: None }
    }

    /// Says what goes on inside the stage.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => println!("     {text}"),
        }
    }

    /// Prints a line that stays.
    pub fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => println!("{text}"),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Processor time of all ended children so far.
pub fn children_cpu() -> Duration {
    // Fields 16 and 17 of /proc/self/stat, in clock ticks; the name in field 2 may hold blanks.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [13, 14].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
