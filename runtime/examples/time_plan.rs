//! Times plans on one tier: `time_plan [--rounds N] [--profile] PLAN…` prints one JSON object a line.
//!
//! Plans are interleaved, round by round; a round of a short plan is many runs. `--profile` adds the operators.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool for benches may stop")]

#[path = "../benches/engine/plans.rs"]
#[allow(dead_code, reason = "shared with the bench")]
mod plans;

use std::time::Instant;

use hone_runtime::engine::Prepared;
use hone_runtime::kernels;
use hone_runtime::plan::Plan;

/// A round lasts about this long.
const ROUND_NS: u128 = 1_000_000;

fn main() {
    let (mut rounds, mut profile, mut names) = (50, false, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds = args.next().and_then(|n| n.parse().ok()).unwrap(),
            "--profile" => profile = true,
            _ => names.push(arg),
        }
    }
    let tier = kernels::best().unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1);
    });
    let files: Vec<Vec<u8>> = names
        .iter()
        .map(|name| plans::model(name).unwrap_or_else(|| std::fs::read(name).unwrap_or_else(|e| panic!("{name}: {e}"))))
        .collect();
    let mut runs: Vec<Timed<'_>> =
        files.iter().map(|file| Timed::new(Prepared::new(Plan::parse(file).unwrap(), tier).unwrap())).collect();
    for _ in 0..rounds {
        for run in &mut runs {
            run.round(profile);
        }
    }
    for (name, run) in names.iter().zip(runs) {
        run.print(name, tier.name, profile);
    }
}

struct Timed<'p> {
    prepared: Prepared<'p>,
    repeats: u32,
    whole: Vec<f64>,
    ops: Vec<Vec<f64>>,
}

impl<'p> Timed<'p> {
    fn new(mut prepared: Prepared<'p>) -> Self {
        let start = Instant::now();
        prepared.run();
        prepared.run();
        let once = (start.elapsed().as_nanos() / 2).max(100);
        let ops = vec![Vec::new(); prepared.engine().plan().len()];
        Self { prepared, repeats: u32::try_from((ROUND_NS / once).clamp(1, 1000)).unwrap(), whole: Vec::new(), ops }
    }

    fn round(&mut self, profile: bool) {
        let start = Instant::now();
        for _ in 0..self.repeats {
            self.prepared.run();
        }
        self.whole.push(start.elapsed().as_nanos() as f64 / f64::from(self.repeats));
        if profile {
            for index in 0..self.ops.len() {
                let repeats = self.repeats.min(100);
                let start = Instant::now();
                for _ in 0..repeats {
                    self.prepared.run_op(index);
                }
                self.ops[index].push(start.elapsed().as_nanos() as f64 / f64::from(repeats));
            }
        }
    }

    fn print(self, name: &str, tier: &str, profile: bool) {
        let macs: u64 = self.prepared.engine().plan().ops().map(|op| op.macs()).sum();
        let [arena, packed, workspace] = self.prepared.memory_bytes();
        print!(
            "{{\"plan\": \"{name}\", \"tier\": \"{tier}\", \"macs\": {macs}, \"arena_bytes\": {arena}, \"packed_bytes\": {packed}, \"workspace_bytes\": {workspace}, {}",
            quantiles(self.whole)
        );
        if profile {
            print!(", \"ops\": [");
            for (index, (op, times)) in self.prepared.engine().plan().ops().zip(self.ops).enumerate() {
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
