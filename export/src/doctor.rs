//! What on this machine stands in the way, and what to do about it.

use std::path::Path;

use hone_runtime::backbone::provider::onnxruntime_saturates;
use serde::Serialize;

use crate::apply::BundleFile;
use crate::bench::Machine;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Good,
    /// Works, with a drawback.
    Warning,
    /// Does not work.
    Failed,
}

impl State {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; `None` where there is nothing to do.
    pub advice: Option<String>,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn good(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Good, found: found.into(), advice: None }
    }

    /// Something is to be done.
    #[must_use]
    pub fn bad(check: &str, state: State, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), state, found: found.into(), advice: Some(advice.into()) }
    }
}

/// The processor, its kernels, its clock, and what else runs on it.
#[must_use]
pub fn machine() -> Vec<Check> {
    let machine = match Machine::here() {
        Ok(machine) => machine,
        Err(error) => {
            let advice = "unset HONE_KERNEL, or set it to one of the kernels that the message names";
            return vec![Check::bad("kernels", State::Failed, error.to_string(), advice)];
        }
    };
    let mut checks = vec![Check::good("processor", format!("{}, {} to use", machine.cpu, machine.processors))];
    checks.push(if machine.kernel == "generic" {
        let advice = "the native engine has vector kernels for x86-64 with AVX2 and for aarch64; on this processor, or with HONE_KERNEL=generic, it is several times slower";
        Check::bad("kernels", State::Warning, "generic", advice)
    } else {
        Check::good("kernels", machine.kernel.clone())
    });
    if onnxruntime_saturates() {
        let found = "AVX2 without VNNI: ONNX Runtime's fast 8-bit kernels saturate here";
        let advice = "hone asks for the exact ones; for other programs set `session.x64quantprecision` to 1, or export with --reduce-range";
        checks.push(Check::bad("8-bit products", State::Warning, found, advice));
    }
    checks.push(match machine.governor.as_deref() {
        Some(slow @ ("powersave" | "conservative" | "ondemand" | "schedutil")) => {
            let advice = "for a bench: `sudo cpupower frequency-set -g performance`";
            Check::bad("clock", State::Warning, format!("governor {slow}"), advice)
        }
        Some(other) => Check::good("clock", format!("governor {other}")),
        None => Check::good("clock", "the system does not say who governs it"),
    });
    if let Some(load) = machine.load {
        let found = format!("load {load:.2} on {} processors", machine.processors);
        checks.push(if load > 0.5 * machine.processors as f64 {
            Check::bad(
                "other work",
                State::Warning,
                found,
                "times of a bench are not to be trusted: end other programs first",
            )
        } else {
            Check::good("other work", found)
        });
    }
    checks
}

/// Whether files can be made in a folder.
#[must_use]
pub fn folder(check: &str, folder: &Path, advice: &str) -> Check {
    match tempfile::tempfile_in(folder) {
        Ok(_) => Check::good(check, format!("{} can be written to", folder.display())),
        Err(error) => Check::bad(check, State::Failed, format!("{}: {error}", folder.display()), advice),
    }
}

/// Files by which the system offers accelerators: beginning of the name, what is behind it, and the group that usually may use it.
const DEVICES: [(&str, &str, &str, &str); 5] = [
    ("/dev/accel", "accel", "an NPU (Linux's accel class)", "render"),
    ("/dev/dri", "renderD", "a GPU", "render"),
    ("/dev", "fastrpc-", "a Hexagon NPU", "fastrpc"),
    ("/dev", "rknpu", "a Rockchip NPU", "video"),
    ("/dev", "apex_", "an Edge TPU", "apex"),
];

/// The accelerators that the system offers, and whether this user may use them; none is no failure.
#[must_use]
pub fn accelerators() -> Vec<Check> {
    let mut checks = Vec::new();
    for (folder, beginning, what, group) in DEVICES {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(beginning) {
                continue;
            }
            let path = entry.path();
            let found = format!("{what}, {}", path.display());
            checks.push(match std::fs::OpenOptions::new().read(true).write(true).open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let advice =
                        format!("`sudo usermod -aG {group} $USER`, then log in again (see `ls -l {}`)", path.display());
                    Check::bad("accelerator", State::Failed, format!("{found}: may not be used"), advice)
                }
                // Busy or half set up is for its provider to say.
                _ => Check::good("accelerator", found),
            });
        }
    }
    if checks.is_empty() {
        checks.push(Check::good("accelerator", "the system offers none; providers that simulate one still run"));
    }
    checks
}

/// Whether a bundle is whole, and runs on the native engine.
#[must_use]
pub fn bundle(path: &Path) -> Vec<Check> {
    let read = BundleFile::read(path);
    let opened = read.as_ref().map(crate::apply::Applied::open);
    match opened {
        Err(error) => {
            vec![Check::bad("bundle", State::Failed, error.to_string(), "name a file that `hone export` has made")]
        }
        Ok(Err(error)) => {
            vec![Check::bad(
                "bundle",
                State::Failed,
                error.to_string(),
                "export it again, or copy it again from where it is whole",
            )]
        }
        Ok(Ok(applied)) => {
            let (bundle, notices) = (&applied.bundle, applied.backbone.take_notices());
            let about = format!(
                "{}: {}, embedding of {} values",
                path.display(),
                bundle.precision.name(),
                bundle.embedding.dim
            );
            let mut checks = vec![Check::good("bundle", about)];
            checks.extend(notices.into_iter().map(|notice| {
                let advice = "`hone export` says which operator has no place in the native engine; --precision fp16 may have one";
                Check::bad("native engine", State::Warning, notice, advice)
            }));
            checks
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_to_is_said() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(folder("store", home.path(), "").state, State::Good);
        let gone = folder("store", &home.path().join("gone"), "make it");
        assert_eq!((gone.state, gone.advice.as_deref()), (State::Failed, Some("make it")));
        assert!(gone.found.contains("gone"), "{}", gone.found);
        let none = bundle(&home.path().join("none.hone"));
        assert!(none[0].state == State::Failed && none[0].found.contains("none.hone"), "{none:?}");
    }

    #[test]
    fn the_machine_has_kernels() {
        assert!(machine().iter().any(|check| check.check == "kernels" && check.state != State::Failed));
        assert!(!accelerators().is_empty());
    }
}
