//! The boards: what QEMU calls them and what they are built for. Where their memory and devices are, is in the firmware's `boards/`.

use std::path::PathBuf;

use crate::step::{self, Result, root, target};

/// One of the firmware's boards.
#[derive(Debug)]
pub struct Board {
    /// Its file in `boards/`.
    pub name: &'static str,
    /// For tables.
    pub core: &'static str,
    /// QEMU's `-M`.
    pub machine: &'static str,
    /// Of rustc.
    pub target: &'static str,
    /// Where a job is loaded: `_job_start` of its linker script.
    pub job: u32,
}

/// All of them.
pub const BOARDS: [Board; 4] = [
    Board { name: "mps2_an385", core: "M3", machine: "mps2-an385", target: "thumbv7m-none-eabi", job: 0x0008_0000 },
    Board { name: "mps2_an386", core: "M4F", machine: "mps2-an386", target: "thumbv7em-none-eabihf", job: 0x0008_0000 },
    Board { name: "mps2_an500", core: "M7", machine: "mps2-an500", target: "thumbv7em-none-eabihf", job: 0x0008_0000 },
    Board {
        name: "mps2_an505",
        core: "M33",
        machine: "mps2-an505",
        target: "thumbv8m.main-none-eabihf",
        job: 0x1008_0000,
    },
];

/// The firmware's programs.
pub const PROGRAMS: [&str; 2] = ["bench", "keywords"];

impl Board {
    /// Builds a program; gives its path.
    pub fn build(&self, program: &str) -> Result<PathBuf> {
        let target = target().join("firmware");
        let mut cargo = step::cargo(&["build", "--quiet", "--release", "--locked", "--target", self.target]);
        cargo.args(["--bin", program]).current_dir(root().join("firmware-host").join("firmware"));
        cargo.env("CARGO_TARGET_DIR", &target).env("HONE_BOARD", self.name);
        step::run(&format!("firmware {program} for {}", self.name), &mut cargo)?;
        // Boards share a target; the next one would overwrite it.
        let built = target.join(self.target).join("release").join(program);
        let own = target.join(format!("{}-{program}.elf", self.name));
        std::fs::copy(&built, &own).map_err(step::at(&built))?;
        Ok(own)
    }
}
