//! Which tier runs: the fastest that the processor has, or the one that `HONE_KERNEL` names.
//!
//! ```
//! use hone_runtime::kernels;
//!
//! let tier = kernels::best()?;
//! assert!(kernels::available().contains(&tier.name));
//! assert_eq!(kernels::named("generic")?.name, "generic");
//! # Ok::<(), hone_runtime::Error>(())
//! ```

use std::sync::OnceLock;

use super::{Tier, generic};
use crate::error::{Error, Result};
use crate::prelude::*;

/// The environment variable that names a tier.
pub const VARIABLE: &str = "HONE_KERNEL";

/// Every tier of this build, fastest first; `None` where the processor lacks what it needs.
fn tiers() -> &'static [(&'static str, Option<&'static Tier>)] {
    static TIERS: OnceLock<Vec<(&'static str, Option<&'static Tier>)>> = OnceLock::new();
    TIERS.get_or_init(|| {
        let mut tiers = Vec::new();
        #[cfg(target_arch = "x86_64")]
        tiers.extend(super::x86_64::tiers());
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
        tiers.extend(super::aarch64::tiers());
        tiers.push((generic::TIER.name, Some(&generic::TIER)));
        tiers
    })
}

/// Names of the tiers that this processor can run, fastest first; the last is `generic`.
#[must_use]
pub fn available() -> Vec<&'static str> {
    tiers().iter().filter_map(|(_, tier)| tier.map(|tier| tier.name)).collect()
}

/// The tier that [`VARIABLE`] names; without it, the fastest that the processor can run.
///
/// # Errors
/// [`Error::UnknownKernel`] as [`named`].
pub fn best() -> Result<&'static Tier> {
    match std::env::var_os(VARIABLE) {
        Some(name) if !name.is_empty() => named(&name.to_string_lossy()),
        _ => Ok(tiers().iter().find_map(|(_, tier)| *tier).unwrap_or(&generic::TIER)),
    }
}

/// The tier of that name.
///
/// # Errors
/// [`Error::UnknownKernel`], which lists what there is, for a name that this build does not know and for a tier that the processor
/// cannot run.
pub fn named(name: &str) -> Result<&'static Tier> {
    let found = tiers().iter().find(|(known, _)| *known == name);
    found.and_then(|(_, tier)| *tier).ok_or_else(|| Error::UnknownKernel {
        name: name.to_owned(),
        why: if found.is_some() { "this processor cannot run" } else { "this build does not know" },
        available: available().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_tier_has_its_name() {
        for name in available() {
            assert_eq!(named(name).unwrap().name, name);
        }
        assert_eq!(available().last(), Some(&"generic"));
    }

    #[test]
    fn what_there_is_not_is_refused_with_what_there_is() {
        for name in ["", "avx1024", "generic "] {
            let error = named(name).unwrap_err();
            assert_eq!(error.code(), "unknown-kernel");
            assert!(error.to_string().contains("generic"), "{error}");
        }
        for (name, tier) in tiers() {
            assert_eq!(named(name).is_ok(), tier.is_some());
        }
    }
}
