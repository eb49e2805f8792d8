//! A disk that is full or cannot be written: a clear error, exit code 1, nothing half-written, nothing lost.
#![cfg(feature = "export")]
#![cfg(unix)]

#[path = "common/lab.rs"]
mod lab;

use std::path::Path;
use std::process::Command;

use lab::{Lab, Run};

/// Runs hone where no file may grow beyond `kib` KiB: the write that would is refused, at whatever stage it comes.
fn hone_limited(lab: &Lab, kib: u32, line: &str) -> Run {
    // Without the trap the signal would end the process. A POSIX shell counts in blocks of 512 bytes.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_hone")]);
    lab.run_with(command, line)
}

/// Every file and folder beneath, with the size of files.
fn listing(folder: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                found.push((name, None));
                open.push(path);
            } else {
                found.push((name, Some(std::fs::read(&path).unwrap())));
            }
        }
    }
    found.sort();
    found
}

/// Runs `line` with room for less and less; each failure must leave everything as it was. Gives the number of failures.
#[track_caller]
fn all_or_nothing(lab: &Lab, line: &str, named: &str, limits_kib: &[u32]) -> usize {
    let before = listing(&lab.path(""));
    let mut failures = 0;
    for &kib in limits_kib {
        let run = hone_limited(lab, kib, line);
        if run.code() == 0 {
            // From here on there is room.
            break;
        }
        failures += 1;
        let text = run.text();
        assert_eq!(run.code(), 1, "{kib} KiB: {text}");
        assert!(text.contains(named) && text.contains("help: ") && !text.contains("panicked"), "{kib} KiB: {text}");
        let names =
            |listing: &[(String, Option<Vec<u8>>)]| listing.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let after = listing(&lab.path(""));
        assert_eq!(names(&after), names(&before), "{kib} KiB: files\n{text}");
        assert!(after == before, "{kib} KiB: a file has changed\n{text}");
    }
    failures
}

#[test]
fn the_quickstart_is_there_whole_or_not_at_all() {
    let lab = Lab::new();
    // The first files fit at 4 KiB, the data at 200, the bundle and the page at more.
    let limits = [0, 1, 4, 16, 64, 200, 400];
    assert!(all_or_nothing(&lab, "quickstart --out q", "q", &limits) >= 5);
    lab.run("quickstart --out q --json").json();
    assert!(all_or_nothing(&lab, "quickstart --out q --force", "q", &limits) >= 5, "the earlier one stays");
}

#[test]
fn an_export_writes_all_files_or_none() {
    let lab = Lab::new();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let (model, calibration) = (models.join("glyphs.onnx"), models.join("glyphs-calib.npy"));
    // What does not fit may be the calibration's scratch file as well, beside the folder to come.
    let line = format!(
        "export {} --calib {} --prep tensor:scale=1/16 --calib-rows 8 --out deep/out",
        model.display(),
        calibration.display()
    );
    let limits = [1, 8, 32, 64, 96, 128, 160, 256];
    assert!(all_or_nothing(&lab, &line, "", &limits) >= 4);
    lab.run(&format!("{line} --force --json")).json();
    assert!(all_or_nothing(&lab, &format!("{line} --force"), "", &limits) >= 4, "the earlier files stay");
}

#[test]
fn a_generation_is_committed_whole_or_not_at_all() {
    let lab = Lab::new();
    lab.run("tune glyphs.hone --shots shots --store home --only-taught --json").json();
    lab.digits("more", &[("4", "four")], 0..4);
    let line = "tune glyphs.hone --shots more --store home --only-taught";
    assert_eq!(all_or_nothing(&lab, line, "home", &[0, 1, 2]), 3);
    let show = lab.run("head show glyphs.hone --store home --json").json();
    assert_eq!(show["generation"], 1);
    lab.run(&format!("{line} --json")).json();
}

/// The first commit makes the folder and its lock; without a generation it is an empty store.
#[test]
fn a_store_that_could_not_be_begun_is_an_empty_one() {
    let lab = Lab::new();
    let line = "tune glyphs.hone --shots shots --store home --only-taught";
    let run = hone_limited(&lab, 1, line);
    run.fails("file", &["home"]);
    let left: Vec<_> =
        listing(&lab.path("home")).into_iter().filter(|(_, bytes)| bytes.as_deref() != Some(&[])).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(lab.run(&format!("{line} --json")).json()["generation"], 1);
}

#[test]
fn a_head_is_exported_whole_or_not_at_all() {
    let lab = Lab::new();
    assert!(all_or_nothing(&lab, "head export-onnx glyphs.hone --out tuned.onnx", "tuned.onnx", &[0, 4, 32]) >= 2);
    lab.run("head export-onnx glyphs.hone --out tuned.onnx --json").json();
    let line = "head export-onnx glyphs.hone --out tuned.onnx --force";
    assert!(all_or_nothing(&lab, line, "tuned.onnx", &[0, 4, 32]) >= 2);
}

/// A real file system without room. It needs the right to mount in a namespace of its own; where that is not given the limits
/// on file sizes above stand for it.
#[test]
fn a_full_file_system() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("disk")).unwrap();
    let mounted = |kib: u32, script: &str| {
        let script = format!("mount -t tmpfs -o size={kib}k none disk && cd disk && {script}");
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_hone")]);
        lab.run_with(command, "")
    };
    if mounted(64, "true").code() != 0 {
        println!("skipped: no file system can be mounted here");
        return;
    }
    for kib in [4, 64, 300, 700] {
        let run = mounted(kib, "\"$0\" quickstart --out q; code=$?; echo left: $(ls -A); exit $code");
        let text = run.text();
        assert_eq!(run.code(), 1, "{kib} KiB: {text}");
        assert!(text.contains("[io]") && text.contains("help: "), "{kib} KiB: {text}");
        assert!(text.contains("left:\n") && !text.contains("panicked"), "{kib} KiB: {text}");
    }
    let tune = "\"$0\" tune ../glyphs.hone --shots ../test --store home --only-taught; code=$?; echo left: $(ls -A home); exit $code";
    let run = mounted(4, tune);
    assert_eq!(run.code(), 1, "{}", run.text());
    let left = |line: &str| line.starts_with("left:") && !line.contains(".hgen");
    assert!(run.text().lines().any(left), "{}", run.text());
    let read_only = mounted(4, "mount -o remount,ro none . && \"$0\" quickstart --out q");
    assert_eq!(read_only.code(), 1, "{}", read_only.text());
    assert!(read_only.text().contains("q: ") && read_only.text().contains("[io]"), "{}", read_only.text());
}
