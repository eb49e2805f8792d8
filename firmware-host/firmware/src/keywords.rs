//! What a product that spots keywords links: a tier with the operators of its plan and no others. `cargo xtask firmware build` measures
//! how much code that is.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use hone_firmware::board;
use hone_firmware::crc::crc32_more;
use hone_firmware::job::{self, Entry};
use hone_firmware::serial::{hex, line, text};
use hone_runtime::Result;
use hone_runtime::engine::Engine;
use hone_runtime::kernels::{Tier, cortex_m, generic};
use hone_runtime::plan::Plan;

/// The operators of DS-CNN.
static KEYWORDS: Tier = Tier {
    name: "keywords",
    kernels: &[
        &cortex_m::CONV,
        &cortex_m::DEPTHWISE,
        &cortex_m::AVERAGE_POOL,
        &cortex_m::DENSE_FLOAT,
        &generic::SOFTMAX_FLOAT,
    ],
    quantize: generic::quantize,
    halve: generic::halve,
};

#[entry]
fn main() -> ! {
    board::start();
    let Some(memory) = board::take() else { board::exit(false) };
    let mut well = true;
    for entry in job::entries(memory.job) {
        match listen(&entry, memory.arena, memory.floats) {
            Ok(count) => {
                let scores = memory.floats.iter().take(count);
                text("scores");
                hex("crc", scores.fold(0, |crc, score| crc32_more(crc, &score.to_le_bytes())));
                text("\n");
            }
            Err(why) => {
                line(&["error", why]);
                well = false;
            }
        }
    }
    board::exit(well)
}

/// All of the engine that the program has: gives how many scores there are. Errors as their codes, so that texts which nothing prints are
/// not linked.
#[inline(never)]
fn listen(entry: &Entry<'_>, arena: &mut [u8], scores: &mut [f32]) -> core::result::Result<usize, &'static str> {
    run(entry, arena, scores).map_err(|why| why.code())
}

fn run(entry: &Entry<'_>, arena: &mut [u8], scores: &mut [f32]) -> Result<usize> {
    let engine = Engine::new(Plan::parse(entry.plan)?, &KEYWORDS)?;
    engine.input(arena)?.iter_mut().zip(entry.input).for_each(|(to, from)| *to = *from);
    engine.run(arena, &[], &mut [], scores)?;
    Ok(engine.float_outputs())
}
