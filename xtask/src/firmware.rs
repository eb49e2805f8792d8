//! `cargo xtask firmware`: builds the firmware for its boards, runs it in QEMU, compares and measures.

mod bench;
mod board;
mod elf;
mod job;
mod peers;
mod qemu;
mod reference;
mod synthetic;
mod verify;

use std::path::Path;

pub use job::Case;
pub use verify::{run as verify, same_bits};

use crate::step::{Result, at};
use board::{BOARDS, Board};

const USAGE: &str = "\
usage: cargo xtask firmware build
       cargo xtask firmware run BOARD PLAN [INPUT [HEAD]]
       cargo xtask firmware bench [FOLDER]
       cargo xtask firmware test

  build   every board's program: its size, and whether a panic can be reached
  run     one plan on one board: prints what the device reports; INPUT holds the bytes of the input tensor
          (without it: seeded ones), HEAD is a head record for what the plan gives
  bench   instructions of the four MLPerf Tiny models, by board and by layer, beside CMSIS-NN's; FOLDER has
          kws.plan, ic.plan, vww.plan and ad.plan (without it: the same layers with seeded weights)
  test    the kernel suite on every board, against the specification";

/// Runs one of them.
pub fn run(words: &[&str]) -> Result {
    match words {
        ["build"] => build(),
        ["run", name, plan, rest @ ..] if rest.len() <= 2 => {
            let board = BOARDS.iter().find(|board| board.name == *name).ok_or_else(|| {
                let names: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
                format!("no board {name}; there are: {}", names.join(", "))
            })?;
            run_one(board, Path::new(plan), rest)
        }
        ["test"] => verify(),
        ["bench"] => bench::run(None),
        ["bench", folder] => bench::run(Some(Path::new(folder))),
        _ => Err(USAGE.into()),
    }
}

fn build() -> Result {
    for board in &BOARDS {
        for program in board::PROGRAMS {
            let image = board.build(program)?;
            let elf = elf::Image::read(&image)?;
            elf.check_panics()?;
            println!("\n{} {program}: {}, no panic can be reached", board.name, elf.sizes());
            if program == "keywords" {
                print!("{}", elf.groups());
            }
        }
    }
    Ok(())
}

/// Size of the firmware that holds one model, on a Cortex-M4F, by section and by whose code it is.
///
/// # Errors
/// What building it says.
pub fn keywords_size() -> Result<String> {
    let board = BOARDS.iter().find(|board| board.core == "M4F").ok_or("no board with a Cortex-M4F")?;
    let elf = elf::Image::read(&board.build("keywords")?)?;
    Ok(format!("{}, {}: {}\n{}", board.target, board.core, elf.sizes(), elf.groups()))
}

fn run_one(board: &Board, plan: &Path, rest: &[&str]) -> Result {
    let read = |path: &Path| std::fs::read(path).map_err(at(path));
    let mut case = Case::read(plan)?;
    if let Some(input) = rest.first() {
        case.input = read(Path::new(input))?;
    }
    let head = rest.get(1).map_or_else(|| Ok(Vec::new()), |head| read(Path::new(head)))?;
    let image = board.build("bench")?;
    let text = qemu::run(board, &image, &job::bytes(&[case], &head, false))?;
    print!("{text}");
    Ok(())
}
