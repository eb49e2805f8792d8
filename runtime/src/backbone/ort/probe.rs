//! What a library of ONNX Runtime has to offer on this machine.

#![allow(unsafe_code, reason = "the binding does not tell the library's version")]

use std::borrow::ToOwned;
use std::ffi::{CStr, c_char};
use std::format;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use ort::ep::ExecutionProvider as _;

use super::environment::environment;
use super::{ExecutionProvider, Found, Origin, Settings};

/// A provider that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The library.
    pub library: PathBuf,
    /// Who said that it is there.
    pub origin: Origin,
    /// Its version, as `1.32.0`.
    pub version: String,
    /// The plugin that has the provider, where it is not in the library.
    pub plugin: Option<PathBuf>,
    /// What the provider runs on.
    pub devices: Vec<String>,
}

/// Loads what a provider needs and asks it. The process is bound to that library from then on: ask in a process of its own.
///
/// # Errors
/// What is missing and how to get it, in words.
pub fn probe(provider: ExecutionProvider, settings: &Settings) -> Result<Probe, String> {
    let found = Found::search(settings.library.as_deref());
    let library = found.library(provider)?;
    let qnn = (provider == ExecutionProvider::Qnn).then(|| found.qnn()).transpose()?;
    let environment = environment(&library.path, qnn)?;
    let version = version(&library.path)?;
    let devices: Vec<String> = environment
        .devices()
        .filter(|device| device.ep().is_ok_and(|name| name == provider.long_name()))
        .map(|device| {
            let hardware = device.hardware_device();
            let vendor = hardware.vendor().unwrap_or_default().trim().to_owned();
            let kind = match hardware.ty() {
                ort::memory::DeviceType::CPU => "CPU",
                ort::memory::DeviceType::GPU => "GPU",
                ort::memory::DeviceType::NPU => "NPU",
                ort::memory::DeviceType::FPGA => "FPGA",
            };
            let simulated =
                if provider == ExecutionProvider::Qnn && kind == "CPU" { " (simulates the NPU)" } else { "" };
            format!("{kind} {vendor}{simulated}").trim().to_owned()
        })
        .collect();
    let is_there = match provider {
        ExecutionProvider::Cpu => true,
        ExecutionProvider::Qnn => !devices.is_empty(),
        ExecutionProvider::OpenVino => ort::ep::OpenVINO::is_available().unwrap_or(false),
        #[cfg(feature = "xnnpack")]
        ExecutionProvider::Xnnpack => ort::ep::XNNPACK::is_available().unwrap_or(false),
        #[cfg(feature = "coreml")]
        ExecutionProvider::CoreMl => ort::ep::CoreML::is_available().unwrap_or(false),
        #[cfg(feature = "nnapi")]
        ExecutionProvider::Nnapi => ort::ep::NNAPI::is_available().unwrap_or(false),
        #[cfg(feature = "acl")]
        ExecutionProvider::Acl => ort::ep::ACL::is_available().unwrap_or(false),
        #[cfg(feature = "rknpu")]
        ExecutionProvider::Rknpu => ort::ep::RKNPU::is_available().unwrap_or(false),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        _ => return Err(format!("not in this build of hone: `--features {}`", provider.feature())),
    };
    if !is_there {
        let (library, name) = (library.path.display(), provider.long_name());
        return Err(format!("{library} was built without {name}; {}", super::library::install(provider)));
    }
    Ok(Probe {
        library: library.path.clone(),
        origin: library.origin,
        version,
        plugin: qnn.map(|qnn| qnn.plugin.clone()),
        devices,
    })
}

/// The version that a library states.
fn version(path: &Path) -> Result<String, String> {
    let failed = |error: libloading::Error| format!("{}: {error}", path.display());
    // SAFETY: the library is loaded already, so that its initializers do not run again.
    let library = unsafe { libloading::Library::new(path) }.map_err(failed)?;
    type GetBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: ONNX Runtime exports this function with this signature in every version.
    let base = unsafe { library.get::<GetBase>(b"OrtGetApiBase") }.map_err(failed)?;
    // SAFETY: the base and its text live as long as the library, which the environment keeps loaded.
    let text: *const c_char = unsafe { ((*base()).GetVersionString)() };
    if text.is_null() {
        return Err(format!("{} does not state its version", path.display()));
    }
    // SAFETY: as above; it ends with a zero.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().to_string())
}
