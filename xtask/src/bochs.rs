//! The kernels of AVX-512-VNNI on a processor that Bochs emulates: a bare-metal program, `xtask/bochs`, started from a CD image.

use std::path::Path;
use std::process::Command;

use crate::setup;
use crate::step::{self, Result, at, cargo, root, target};

/// Debian packages, each with a file that shows that it is there.
const DEBIAN: [(&str, &str); 7] = [
    ("bochs", "/usr/bin/bochs"),
    ("bochsbios", "/usr/share/bochs/BIOS-bochs-latest"),
    ("bochs-term", "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"),
    ("isolinux", "/usr/lib/ISOLINUX/isolinux.bin"),
    ("syslinux-common", "/usr/lib/syslinux/modules/bios/mboot.c32"),
    ("vgabios", "/usr/share/bochs/VGABIOS-lgpl-latest"),
    ("xorriso", "/usr/bin/xorriso"),
];
const HOST: &str = "x86_64-unknown-linux-gnu";
/// Groups of cases that the program goes through.
const GROUPS: usize = 4;

/// Builds the program, runs it and reads what it says. A notice where the emulator cannot be had; with `CI=true` that is an error, but for
/// machines that it is not for.
pub fn verify() -> Result {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        println!("\nnotice: AVX-512-VNNI kernels are not run: the emulator is for Linux on x86-64");
        return Ok(());
    }
    if let Err(why) = installed() {
        if step::ci() {
            return Err(why);
        }
        println!("\nnotice: AVX-512-VNNI kernels are not run: {why}");
        return Ok(());
    }
    let (sources, folder) = (root().join("xtask").join("bochs"), target().join("bochs"));
    let disk = folder.join("disk");
    std::fs::create_dir_all(disk.join("isolinux")).map_err(at(&disk))?;
    let mut build = cargo(&["build", "--release", "--locked", "--target", HOST, "--manifest-path"]);
    build.arg(sources.join("Cargo.toml")).arg("--target-dir").arg(&folder);
    // No system and no loader: everything at its address, and `start.s` in the place of C's start-up code.
    let script = format!("-Clink-arg=-Wl,-T,{}", sources.join("link.ld").display());
    let fixed = "-Crelocation-model=static -Ctarget-feature=+crt-static -Crelro-level=off";
    let link = "-Clink-arg=-nostartfiles -Clink-arg=-no-pie -Clink-arg=-Wl,--build-id=none";
    build.env("RUSTFLAGS", format!("{fixed} {link} {script}"));
    step::run("bare-metal program", &mut build)?;
    let program = folder.join(HOST).join("release").join("hone-bochs");
    let mut convert = Command::new("objcopy");
    convert.args(["--strip-all", "-O", "elf32-i386"]).arg(program).arg(disk.join("program"));
    step::run("multiboot program", &mut convert)?;
    let modules = Path::new("/usr/lib/syslinux/modules/bios");
    for (from, name) in [
        (sources.join("isolinux.cfg"), "isolinux.cfg"),
        ("/usr/lib/ISOLINUX/isolinux.bin".into(), "isolinux.bin"),
        (modules.join("ldlinux.c32"), "ldlinux.c32"),
        (modules.join("libcom32.c32"), "libcom32.c32"),
        (modules.join("mboot.c32"), "mboot.c32"),
    ] {
        let to = disk.join("isolinux").join(name);
        std::fs::copy(&from, &to).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))?;
    }
    let mut image = Command::new("xorriso");
    image.current_dir(&folder).args(["-as", "mkisofs", "-quiet", "-o", "disk.iso", "-b", "isolinux/isolinux.bin"]);
    image.args(["-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "disk"]);
    step::run("CD image", &mut image)?;
    emulate(&sources, &folder)
}

fn emulate(sources: &Path, folder: &Path) -> Result {
    let serial = folder.join("serial");
    std::fs::write(&serial, "").map_err(at(&serial))?;
    let debugger = folder.join("debugger");
    std::fs::write(&debugger, "continue\n").map_err(at(&debugger))?;
    // Bochs wants a terminal; `script` is one. Its exit code says nothing: the program ends it by a shutdown.
    let bochs = format!(
        "TERM=xterm timeout --foreground -k 5 600 bochs -q -unlock -f '{}' -rc debugger",
        sources.join("bochsrc").display()
    );
    let mut emulator = Command::new("script");
    emulator.current_dir(folder).args(["-qfc", &bochs, "screen"]);
    emulator.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    println!("\n== AVX-512-VNNI kernels (bochs)");
    emulator.status().map_err(|e| format!("{emulator:?} could not be started: {e}"))?;
    let said = std::fs::read_to_string(&serial).map_err(at(&serial))?;
    print!("{said}");
    let agree = said.lines().filter(|line| line.starts_with("avx512vnni") && line.ends_with(", different 0")).count();
    if agree == GROUPS && said.ends_with("end\n") {
        Ok(())
    } else {
        Err(format!(
            "the AVX-512-VNNI kernels do not give generic's bits, or the program did not end: {}",
            serial.display()
        ))
    }
}

/// The packages that are not there.
fn missing() -> Vec<&'static str> {
    DEBIAN.into_iter().filter(|(_, file)| !Path::new(file).exists()).map(|(package, _)| package).collect()
}

/// Installs what is missing.
fn installed() -> Result {
    let before = missing();
    let why = match before.as_slice() {
        [] => return Ok(()),
        packages => match setup::install(packages) {
            Ok(true) => format!("{packages:?} are installed, and their files are absent"),
            Ok(false) => "install them, or run as root on Debian".to_owned(),
            Err(why) => why,
        },
    };
    let left = missing();
    if left.is_empty() { Ok(()) } else { Err(format!("Bochs needs {}: {why}", left.join(" "))) }
}
