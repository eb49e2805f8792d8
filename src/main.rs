//! The command line of hone: parse, call the libraries, print.

mod args;
mod commands;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return ui::usage_error(&usage),
    };
    let ui = ui::Ui::new(cli.json, cli.quiet);
    let outcome = match &cli.command {
        #[cfg(feature = "export")]
        Command::Quickstart(args) => commands::quickstart::run(args, &ui),
        #[cfg(feature = "export")]
        Command::Inspect(args) => commands::inspect::run(args, &ui),
        #[cfg(feature = "export")]
        Command::Export(args) => commands::export::run(args, &ui),
        Command::Eval(args) => commands::eval::run(args, &ui),
        Command::Tune(args) => commands::tune::run(args, &ui),
        Command::Predict(args) => commands::predict::run(args, &ui),
        Command::Head(args) => commands::head::run(args, &ui),
        Command::Bench(args) => commands::bench::run(args, &ui),
        #[cfg(feature = "bench")]
        Command::Doctor(args) => commands::doctor::run(args, &ui),
        #[cfg(feature = "bench")]
        Command::BenchWorker(args) => commands::bench::worker::run(args, &ui),
        #[cfg(feature = "ort")]
        Command::Providers(args) => commands::providers::run(args, &ui),
        #[cfg(feature = "ort")]
        Command::Probe(args) => commands::providers::answer(args, &ui),
        #[cfg(not(feature = "export"))]
        Command::Absent(_) => return ui.usage_error(&args::absent()),
    };
    let code = outcome.unwrap_or_else(|error| ui.error(&error));
    ui.close(code)
}
