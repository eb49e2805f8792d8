//! Runs an image with a job in QEMU and reads what it reports.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::board::Board;
use crate::step::{Result, at, target};

/// What the device sent, checked to be whole.
///
/// `-icount shift=0`: an instruction takes a nanosecond of the board's time, the same in every run.
pub fn run(board: &Board, image: &Path, job: &[u8]) -> Result<String> {
    let path = target().join("firmware").join(format!("{}.job", board.name));
    std::fs::write(&path, job).map_err(at(&path))?;
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-M", board.machine, "-icount", "shift=0,sleep=off", "-display", "none", "-monitor", "none"]);
    qemu.args(["-serial", "stdio", "-semihosting-config", "enable=on,target=native", "-kernel"]).arg(image);
    qemu.arg("-device").arg(format!("loader,file={},addr={:#x},force-raw=on", path.display(), board.job));
    let out = qemu.output().map_err(|e| format!("qemu-system-arm could not be started: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() && text.ends_with("end\n") {
        return Ok(text);
    }
    let last: Vec<&str> = text.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let errors = String::from_utf8_lossy(&out.stderr);
    Err(format!("{} in QEMU ended with {}; its last lines: {}\n{errors}", board.name, out.status, last.join(" | ")))
}

/// One line: its words, and its `name=value` pairs.
#[derive(Debug)]
pub struct Line<'a> {
    /// The first word.
    pub word: &'a str,
    /// The second, where it is no pair.
    pub name: &'a str,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    /// The lines of a report.
    pub fn all(text: &'a str) -> Vec<Self> {
        let line = |line: &'a str| {
            let mut words = line.split_whitespace();
            let word = words.next()?;
            let values = line.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
            let name = words.next().filter(|name| !name.contains('=')).unwrap_or_default();
            Some(Self { word, name, values })
        };
        text.lines().filter_map(line).collect()
    }

    /// A number in decimal.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.values.get(name).and_then(|value| value.parse().ok());
        value.ok_or_else(|| format!("the device's line {:?} has no number {name}", self.word))
    }

    /// Eight hexadecimal digits.
    pub fn hex(&self, name: &str) -> Result<u32> {
        let value = self.values.get(name).and_then(|value| u32::from_str_radix(value, 16).ok());
        value.ok_or_else(|| format!("the device's line {:?} has no checksum {name}", self.word))
    }
}
