//! Times plans on one tier: `time_plan [--rounds N] [--profile | --table] PLAN…` prints one JSON object a line.
//!
//! A plan is a file, the name of a synthetic model (`glyphs`, `kws`, `ic`, `vww`, `ad`, `mobilenet_v2`) or `product:M,K,N`. Plans are interleaved, round by
//! round; a round of a short plan is many runs. `--profile` adds the operators, and the processor's peak rate in multiply-accumulates a
//! nanosecond; `--table` prints them as a table instead: fastest round and share of that peak of every layer. `--serve` times a round of plan I whenever it reads the number I, and answers with the nanoseconds of a run: so another program
//! can interleave its own rounds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a tool for benches may stop")]

#[path = "../benches/engine/plans.rs"]
#[allow(dead_code, reason = "shared with the bench")]
mod plans;

use std::io::Write;
use std::time::Instant;

use hone_runtime::engine::Prepared;
use hone_runtime::kernels::{self, Tier};
use hone_runtime::plan::Plan;

/// A round lasts about this long.
const ROUND_NS: u128 = 1_000_000;

fn main() {
    let (mut rounds, mut profile, mut table, mut serve, mut names) = (50, false, false, false, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds = args.next().and_then(|n| n.parse().ok()).unwrap(),
            "--profile" => profile = true,
            "--table" => (profile, table) = (true, true),
            "--serve" => serve = true,
            _ => names.push(arg),
        }
    }
    let tier = kernels::best().unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1);
    });
    let read = |name: &String| std::fs::read(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let files: Vec<Vec<u8>> = names.iter().map(|name| plans::model(name).unwrap_or_else(|| read(name))).collect();
    let mut runs: Vec<Timed<'_>> = files.iter().map(|file| Timed::new(file, tier)).collect();
    if serve {
        for line in std::io::stdin().lines() {
            let run = &mut runs[line.unwrap().trim().parse::<usize>().unwrap()];
            println!("{:.0}", run.round());
            std::io::stdout().flush().unwrap();
        }
        return;
    }
    let mut peak = 0.0f64;
    for _ in 0..rounds {
        for run in &mut runs {
            let whole = run.round();
            run.whole.push(whole);
            if profile {
                run.profile();
                peak = peak.max(self::peak());
            }
        }
    }
    for (name, run) in names.iter().zip(runs) {
        if table {
            run.table(name, tier.name, peak);
        } else {
            run.print(name, tier.name, profile.then_some(peak));
        }
    }
}

struct Timed<'p> {
    prepared: Prepared<'p>,
    repeats: u32,
    whole: Vec<f64>,
    ops: Vec<Vec<f64>>,
}

impl<'p> Timed<'p> {
    fn new(file: &'p [u8], tier: &'static Tier) -> Self {
        let mut prepared = Prepared::new(Plan::parse(file).unwrap(), tier).unwrap();
        prepared.run();
        let start = Instant::now();
        prepared.run();
        let once = start.elapsed().as_nanos().max(100);
        let ops = vec![Vec::new(); prepared.engine().plan().len()];
        Self { prepared, repeats: u32::try_from((ROUND_NS / once).clamp(1, 1000)).unwrap(), whole: Vec::new(), ops }
    }

    /// Nanoseconds of a run.
    fn round(&mut self) -> f64 {
        let start = Instant::now();
        for _ in 0..self.repeats {
            self.prepared.run();
        }
        start.elapsed().as_nanos() as f64 / f64::from(self.repeats)
    }

    fn profile(&mut self) {
        let repeats = self.repeats.min(100);
        for index in 0..self.ops.len() {
            let start = Instant::now();
            for _ in 0..repeats {
                self.prepared.run_op(index);
            }
            self.ops[index].push(start.elapsed().as_nanos() as f64 / f64::from(repeats));
        }
    }

    fn table(self, name: &str, tier: &str, peak: f64) {
        println!("\n{name}, {tier}, peak {peak:.1} G multiply-accumulates a second\n");
        println!("| operator | input | output | window, step | multiply-accumulates | µs | share of peak |");
        println!("|---|---|---|---|--:|--:|--:|");
        for (op, times) in self.prepared.engine().plan().ops().zip(self.ops) {
            let fastest = times.into_iter().fold(f64::INFINITY, f64::min);
            let share = if op.macs() > 0 {
                format!("{:.0} %", 100.0 * op.macs() as f64 / fastest / peak)
            } else {
                String::new()
            };
            let [[rows, columns], [down, right]] = [op.window.kernel, op.window.stride];
            let window = if rows > 0 { format!("{rows} × {columns}, {down} × {right}") } else { String::new() };
            println!(
                "| {} | {:?} | {:?} | {window} | {} | {:.1} | {share} |",
                op.code.name(),
                op.input().shape,
                op.output.shape,
                op.macs(),
                fastest / 1e3
            );
        }
    }

    fn print(self, name: &str, tier: &str, peak: Option<f64>) {
        let plan = self.prepared.engine().plan();
        let macs: u64 = plan.ops().map(|op| op.macs()).sum();
        let [arena, packed, workspace] = self.prepared.memory_bytes();
        print!(
            "{{\"plan\": \"{name}\", \"tier\": \"{tier}\", \"macs\": {macs}, \"arena_bytes\": {arena}, \"packed_bytes\": {packed}, \
             \"workspace_bytes\": {workspace}, {}",
            quantiles(self.whole)
        );
        if let Some(peak) = peak {
            print!(", \"peak_macs_per_ns\": {peak:.1}, \"ops\": [");
            for (index, (op, times)) in plan.ops().zip(self.ops).enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                print!(
                    "{comma}{{\"op\": \"{}\", \"input\": {:?}, \"output\": {:?}, \"kernel\": {:?}, \"stride\": {:?}, \"macs\": {}, {}}}",
                    op.code.name(),
                    op.input().shape,
                    op.output.shape,
                    op.window.kernel,
                    op.window.stride,
                    op.macs(),
                    quantiles(times)
                );
            }
            print!("]");
        }
        println!("}}");
    }
}

fn quantiles(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize).copied().unwrap_or(0.0);
    format!(
        "\"min_ns\": {:.0}, \"p10_ns\": {:.0}, \"median_ns\": {:.0}, \"p90_ns\": {:.0}",
        at(0.0),
        at(0.1),
        at(0.5),
        at(0.9)
    )
}

/// int8 multiply-accumulates a nanosecond of the instruction that the tiers are built on, nothing else done; 0 where none is known.
fn peak() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(peak) = kernels::x86_64::peak::Peak::new() {
        let start = Instant::now();
        let macs = peak.run();
        return macs as f64 / start.elapsed().as_nanos() as f64;
    }
    0.0
}
