//! `hone tune`: teach from labelled examples; commit what the acceptance gate lets pass.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use hone_export::Error;
use hone_export::apply::teach::{Mode, Tuned, tune};
use hone_export::apply::{Applied, BundleFile};
use hone_export::report::Table;
use hone_runtime::tune::Options;

use crate::args::Tune;
use crate::ui::{Outcome, Ui, share};

/// Classes that a message names at most.
const NAMED: usize = 8;

pub fn run(args: &Tune, ui: &Ui) -> Outcome {
    check("--l2", args.l2, 1e-12, 1e12)?;
    check("--canary-limit", args.canary_limit, 0.0, 1.0)?;
    let file = BundleFile::read(&args.bundle)?;
    let applied = Applied::open_on(&file, &args.on.provider, args.on.library.settings()?)?;
    let mut session = applied.session(&args.store, args.keep)?;
    session.store().warnings().iter().for_each(|warning| ui.warn(warning.to_string()));
    session.set_time(now());
    let mut source = args.options.open(&args.shots)?;
    source.labels()?;
    let shots = ui.track("embedding", |p| applied.embed(&mut source, p))?;
    ui.notices(&applied);
    let mut options = Options { l2: args.l2, ..Options::default() };
    if let Some(limit) = args.canary_limit {
        options.forget_limit = limit;
    }
    if args.only_taught {
        // Without replay, classes that have only canaries leave the head.
        options.replay_weight = 0.0;
    }
    options.drop_classes = args.only_taught || args.fresh;
    let mode = Mode { fresh: args.fresh, dry_run: args.dry_run };
    let tuned = tune(&applied, &mut session, &shots, &options, mode)?;
    tuned.notices.iter().for_each(|notice| ui.warn(notice));
    print(ui, &tuned, Asked { limit: args.canary_limit.is_some(), only_taught: args.only_taught });
    ui.document(&tuned);
    Ok(if tuned.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(name: &str, value: Option<f32>, least: f32, most: f32) -> Result<(), Error> {
    match value {
        Some(v) if !(least..=most).contains(&v) => {
            Err(Error::Setting { name: name.into(), why: format!("{v} is outside {least:?}..={most:?}") })
        }
        _ => Ok(()),
    }
}

/// Seconds since 1970, where the clock is right enough to say.
pub fn now() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs())
}

/// What was asked for, and need not be recommended.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// A limit of its own for canaries.
    pub limit: bool,
    /// A head of the taught classes alone.
    pub only_taught: bool,
}

/// What helps against a refusal, by its reason and by what was asked for already.
fn advice(tuned: &Tuned, asked: Asked) -> Option<String> {
    let limit = match asked.limit {
        true => "a higher --canary-limit".to_owned(),
        false => format!("--canary-limit with more than {}", Options::default().forget_limit),
    };
    let fewer = if asked.only_taught { "" } else { ", --only-taught leaves out the classes that you do not teach" };
    Some(match tuned.reason_code {
        "forgets" => format!("what helps: fewer new classes at a time; {limit} allows it{fewer}"),
        "loses-known" => format!("what helps: more examples of the classes known before; {limit} allows it{fewer}"),
        "drops-classes" => "what helps: examples of these classes too; --only-taught lets them leave".to_owned(),
        "worse" | "guessing" => "what helps: labels that are right, and more examples".to_owned(),
        "no-difference" if tuned.generation.is_some() => {
            "the shots are kept for next time; what helps: more examples, and other ones".to_owned()
        }
        "no-difference" => "what helps: more examples, and other ones".to_owned(),
        "nothing-new" => "what helps: examples that the store does not hold yet".to_owned(),
        _ => return None,
    })
}

pub fn print(ui: &Ui, tuned: &Tuned, asked: Asked) {
    let figure = |value: Option<f32>| value.map_or_else(|| "–".to_owned(), |v| share(f64::from(v)));
    let mut table = Table::new(if tuned.accepted { "Accepted" } else { "Refused" }, &["what", "value"]);
    table.row(["shots (new / known already / in all)".to_owned(), {
        format!("{} / {} / {}", tuned.shots_added, tuned.shots_known, tuned.shots)
    }]);
    table.row(["classes of the shots", &tuned.classes.to_string()]);
    table.row(["L2 strength", &format!("{:.3e}", tuned.l2)]);
    table.row(["leave-one-out accuracy", &figure(tuned.loo_accuracy)]);
    table.row(["canaries before → after".to_owned(), {
        format!("{} → {}", figure(tuned.canary_before), figure(tuned.canary_after))
    }]);
    table.row(["embedding, ms", &format!("{:.1}", tuned.embed_ms)]);
    table.row(["solving, ms", &format!("{:.2}", tuned.solve_ms)]);
    table.row(["head in force, CRC", tuned.head_crc.as_deref().unwrap_or("–")]);
    table.note = tuned.reason.clone();
    if !tuned.classes_dropped.is_empty() {
        let names: Vec<String> = tuned.classes_dropped.iter().take(NAMED).map(|label| format!("'{label}'")).collect();
        let more = if tuned.classes_dropped.len() > NAMED { ", …" } else { "" };
        table.note += &format!("\nwithout shots or canaries: {}{more}", names.join(", "));
    }
    if let Some(advice) = advice(tuned, asked) {
        table.note += &format!("\n{advice}");
    }
    if tuned.shots_repeated > 0 {
        table.note += &format!("\n{} shots were given twice and count once", tuned.shots_repeated);
    }
    ui.table(&table);
    ui.say(match (tuned.generation, tuned.dry_run) {
        (Some(n), _) if tuned.accepted => format!("generation {n} is in force"),
        (Some(n), _) => format!("the head is as it was; generation {n} keeps the shots"),
        (None, true) => "dry run: nothing was committed".to_owned(),
        (None, false) => "nothing was committed, the head is as it was".to_owned(),
    });
}
