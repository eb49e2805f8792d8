//! What the numbers were measured on.

use std::fs;
use std::path::Path;

use hone_runtime::kernels;
use serde::{Deserialize, Serialize};

/// The machine, as far as the system says; recorded with every bench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Kernels of the native engine.
    pub kernel: String,
    /// What decides the processor's clock; `None` where the system does not say (virtual machines mostly).
    pub governor: Option<String>,
    /// Operating system and architecture.
    pub os: String,
    /// Version of hone.
    pub hone: String,
    /// Load average of the last minute before the bench, in runnable processes.
    pub load: Option<f64>,
}

impl Machine {
    /// Asks the system.
    ///
    /// # Errors
    /// What `HONE_KERNEL` asks for is not there.
    pub fn here() -> crate::Result<Self> {
        let read = |path: &str| fs::read_to_string(path).ok();
        let os = read("/proc/sys/kernel/osrelease").map_or_else(String::new, |release| format!(" {}", release.trim()));
        Ok(Self {
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: kernels::best()?.name.to_owned(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|text| text.trim().to_owned()),
            os: format!("{}{os} {}", std::env::consts::OS, std::env::consts::ARCH),
            hone: env!("CARGO_PKG_VERSION").to_owned(),
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        })
    }
}

/// The processor's model, as Linux tells it: x86 in `cpuinfo`, boards in the device tree.
fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        ["model name", "Hardware", "Model"].contains(&key.trim()).then(|| value.trim().to_owned())
    });
    named.or_else(|| {
        let board = fs::read_to_string("/proc/device-tree/model").ok()?;
        Some(board.trim_end_matches('\0').to_owned())
    })
}

/// Nanoseconds that this process's first thread has waited for a processor while it could have run, where Linux says it.
#[must_use]
pub fn waited_ns() -> Option<u64> {
    fs::read_to_string("/proc/self/schedstat").ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The shared libraries that the process has mapped, where Linux says it.
#[must_use]
pub fn libraries() -> Option<Vec<String>> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_library =
        |path: &&str| Path::new(path).file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    let mut found: Vec<String> = paths.filter(is_library).map(str::to_owned).collect();
    found.sort_unstable();
    found.dedup();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let machine = Machine::here().unwrap();
        assert!(machine.processors >= 1 && !machine.cpu.is_empty() && !machine.kernel.is_empty(), "{machine:?}");
        if cfg!(target_os = "linux") {
            assert!(waited_ns().is_some());
            assert!(libraries().unwrap().iter().any(|path| path.contains("libc.so")), "{:?}", libraries());
        }
    }
}
