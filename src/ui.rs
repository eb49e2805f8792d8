//! What the user sees: tables, progress, JSON, errors with their next step.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, presets};
use hone_export::report::Table;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

mod help;

/// Result of a command: the exit code, or an error that [`Ui::error`] prints.
pub type Outcome = Result<ExitCode, hone_export::Error>;

/// How this run talks.
pub struct Ui {
    json: bool,
    bars: bool,
}

impl Ui {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, bars: !json && !quiet && std::io::stderr().is_terminal() }
    }

    /// One line of text; nothing with `--json`.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.json {
            anstream::println!("{}", text.as_ref());
        }
    }

    /// A remark that must be seen whatever the output format is.
    pub fn warn(&self, text: impl AsRef<str>) {
        anstream::eprintln!("warning: {}", text.as_ref());
    }

    /// A table; nothing with `--json`.
    pub fn table(&self, table: &Table) {
        if !self.json {
            anstream::println!("\n{}", render(table));
        }
    }

    /// The command's one JSON document; nothing without `--json`.
    pub fn document(&self, document: &impl Serialize) {
        if self.json {
            match serde_json::to_string_pretty(document) {
                Ok(text) => anstream::println!("{text}"),
                Err(e) => anstream::eprintln!("error: {e}"),
            }
        }
    }

    /// A progress bar on a terminal, nothing elsewhere.
    pub fn progress(&self, what: &str, steps: u64) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(steps);
        let style = ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// Runs `work` with something to tell how many of how many steps are done, shown as a bar on a terminal.
    pub fn track<T>(&self, what: &str, work: impl FnOnce(&mut dyn FnMut(usize, usize)) -> T) -> T {
        let bar = self.progress(what, 0);
        let result = work(&mut |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        result
    }

    /// Prints an error with its next step; exit code 1.
    pub fn error(&self, error: &hone_export::Error) -> ExitCode {
        let help = help::next_step(error);
        if self.json {
            let document = serde_json::json!({
                "error": { "code": error.code(), "message": error.to_string(), "help": help }
            });
            anstream::println!("{document:#}");
        } else {
            anstream::eprintln!("error: {error} [{}]", error.code());
            anstream::eprintln!("  help: {help}");
        }
        ExitCode::FAILURE
    }
}

/// Prints what clap has to say: help and version on standard output with code 0, bad usage with code 2.
pub fn usage_error(usage: &clap::Error) -> ExitCode {
    let wants_json = std::env::args().any(|a| a == "--json");
    if usage.use_stderr() && wants_json {
        let document = serde_json::json!({
            "error": { "code": "usage", "message": usage.render().to_string().trim(), "help": "see hone --help" }
        });
        anstream::println!("{document:#}");
    } else if usage.print().is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(if usage.use_stderr() { 2 } else { 0 })
}

/// A table as text; columns of numbers are right-aligned.
pub fn render(table: &Table) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic);
    out.set_header(&table.columns);
    for row in &table.rows {
        out.add_row(row);
    }
    for (c, column) in out.column_iter_mut().enumerate() {
        if table.is_numeric(c) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let note = if table.note.is_empty() { String::new() } else { format!("\n{}", table.note) };
    format!("{}\n{out}{note}", table.title)
}

/// A share as the field writes it.
pub fn share(v: f64) -> String {
    format!("{v:.4}")
}

/// Bytes with a thousands separator.
pub fn bytes(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}
