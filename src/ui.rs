//! What the user sees: tables, progress, JSON, errors with their next step.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, presets};
use hone_export::apply::Applied;
use hone_export::report::Table;
use serde::Serialize;

use answers::Answers;
use progress::Progress;

mod answers;
mod help;
#[cfg_attr(not(feature = "export"), path = "ui/no_progress.rs")]
mod progress;

/// Result of a command: the exit code, or an error that [`Ui::error`] prints.
pub type Outcome = Result<ExitCode, hone_export::Error>;

/// How this run talks.
pub struct Ui {
    json: bool,
    bars: bool,
    /// `None` after [`Ui::lost`] is known from the start.
    answers: RefCell<Option<Answers>>,
    /// Why standard output took no more: the command's work is done all the same, and its exit code says that the answer is lost.
    lost: RefCell<Option<io::Error>>,
}

impl Ui {
    pub fn new(json: bool, quiet: bool) -> Self {
        let bars = !json && !quiet && io::stderr().is_terminal();
        let (answers, lost) = match Answers::take() {
            Ok(answers) => (Some(answers), None),
            Err(error) => (None, Some(error)),
        };
        Self { json, bars, answers: RefCell::new(answers), lost: RefCell::new(lost) }
    }

    /// One line of text; nothing with `--json`.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.json {
            self.print(text.as_ref());
        }
    }

    /// A line as it is, whatever the output format: for processes that talk to each other.
    #[cfg(feature = "bench")]
    pub fn line(&self, text: &str) {
        self.print(text);
    }

    /// A remark that must be seen whatever the output format is.
    pub fn warn(&self, text: impl AsRef<str>) {
        complain(&format!("warning: {}", text.as_ref()));
    }

    /// Which providers did not run the backbone, and why.
    pub fn notices(&self, applied: &Applied<'_>) {
        applied.backbone.take_notices().iter().for_each(|notice| self.warn(notice));
    }

    /// A table; nothing with `--json`.
    pub fn table(&self, table: &Table) {
        if !self.json {
            let columns = self.answers.borrow().as_ref().and_then(Answers::columns);
            self.print(&format!("\n{}", render(table, columns)));
        }
    }

    /// The command's one JSON document; nothing without `--json`.
    pub fn document(&self, document: &impl Serialize) {
        if self.json {
            match serde_json::to_string_pretty(document) {
                Ok(text) => self.print(&text),
                Err(e) => complain(&format!("error: {e}")),
            }
        }
    }

    /// Shows on a terminal how far some work is; nothing elsewhere.
    pub fn progress(&self) -> Progress {
        Progress::new(self.bars)
    }

    /// Runs `work` with something to tell how many of how many steps are done, shown as a bar on a terminal.
    pub fn track<T>(&self, what: &str, work: impl FnOnce(&mut dyn FnMut(usize, usize)) -> T) -> T {
        let mut progress = self.progress();
        work(&mut |done, of| progress.at(what, done, of))
    }

    /// Prints an error with its next step; exit code 1.
    pub fn error(&self, error: &hone_export::Error) -> ExitCode {
        let help = help::next_step(error);
        if self.json {
            let document = serde_json::json!({
                "error": { "code": error.code(), "message": error.to_string(), "help": help }
            });
            self.print(&format!("{document:#}"));
        } else {
            complain(&format!("error: {error} [{}]\n  help: {help}", error.code()));
        }
        ExitCode::FAILURE
    }

    /// Prints bad usage that the parser let pass; exit code 2.
    #[cfg(not(feature = "export"))]
    pub fn usage_error(&self, usage: &clap::Error) -> ExitCode {
        if wants_json() {
            self.print(&usage_document(usage));
        } else {
            complain(usage.render().to_string().trim());
        }
        ExitCode::from(2)
    }

    /// The exit code of a command that ended with `code`: 1 where its answer could not be written whole. A reader that has seen
    /// enough (`hone … | head`) is no failure.
    pub fn close(&self, code: ExitCode) -> ExitCode {
        match self.lost.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("error: the answer could not be written to standard output: {error} [io]"));
                complain("  help: the work itself is done; see that the output has room, and ask again");
                ExitCode::FAILURE
            }
            _ => code,
        }
    }

    fn print(&self, text: &str) {
        if let Some(answers) = self.answers.borrow_mut().as_mut()
            && let Err(error) = answers.print(text)
        {
            self.lost.borrow_mut().get_or_insert(error);
        }
    }
}

/// To standard error, where nothing more can be done about a failure.
fn complain(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints what clap has to say where there is no [`Ui`] yet: help and version on standard output with code 0, bad usage with code 2.
pub fn usage_error(usage: &clap::Error) -> ExitCode {
    if usage.use_stderr() && wants_json() {
        let _ = writeln!(anstream::stdout(), "{}", usage_document(usage));
    } else if usage.print().is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::from(if usage.use_stderr() { 2 } else { 0 })
}

/// Bad usage may have hidden `--json` from the parser.
fn wants_json() -> bool {
    std::env::args().any(|a| a == "--json")
}

fn usage_document(usage: &clap::Error) -> String {
    let document = serde_json::json!({
        "error": { "code": "usage", "message": usage.render().to_string().trim(), "help": "see hone --help" }
    });
    format!("{document:#}")
}

/// A table as text, at most `width` columns wide where there is one; columns of numbers are right-aligned.
fn render(table: &Table, width: Option<u16>) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        out.set_width(width);
    }
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
