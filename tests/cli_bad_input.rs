//! Bad input to the commands that use a bundle: a clear error that names the file and the cause, exit code 1 or 2, nothing lost.
#![cfg(feature = "export")]

#[path = "common/lab.rs"]
mod lab;

use hone_export::data::npy;
use hone_runtime::Fingerprint;
use lab::Lab;
use serde_json::Value;

#[test]
fn usage_is_exit_code_2_and_help_is_0() {
    let lab = Lab::new();
    for line in [
        "",
        "frobnicate",
        "tune glyphs.hone",
        "eval glyphs.hone --data test --limit many",
        "tune a --keep 0",
        "predict a b --top 0",
    ] {
        assert_eq!(lab.run(line).code(), 2, "hone {line}");
    }
    for line in ["--help", "--version", "head --help", "tune --help"] {
        assert_eq!(lab.run(line).code(), 0, "hone {line}");
    }
    let text = lab.run("--json frobnicate").text();
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["error"]["code"], "usage");
}

#[test]
fn errors_as_json_have_code_message_and_help() {
    let lab = Lab::new();
    let run = lab.run("eval missing.hone --data test --json");
    assert_eq!(run.code(), 1);
    let error: Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(error["error"]["code"], "io");
    assert!(error["error"]["message"].as_str().unwrap().contains("missing.hone"));
    assert!(!error["error"]["help"].as_str().unwrap().is_empty());
}

#[test]
fn damaged_bundles() {
    let lab = Lab::new();
    let good = std::fs::read(lab.path("glyphs.hone")).unwrap();
    for len in [0, 1, 7, 64, good.len() / 2, good.len() - 1] {
        std::fs::write(lab.path("cut.hone"), &good[..len]).unwrap();
        let run = lab.run("predict cut.hone test");
        assert_eq!(run.code(), 1, "{len} bytes");
        assert!(run.text().contains("cut.hone") && !run.text().contains("panicked"), "{}", run.text());
    }
    // Seeded noise: a linear congruential generator (Knuth's MMIX constants).
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    })
    .take(5000)
    .collect();
    std::fs::write(lab.path("noise.hone"), &noise).unwrap();
    for command in
        ["predict noise.hone test", "bench noise.hone", "head show noise.hone", "eval noise.hone --data test"]
    {
        lab.run(command).fails("bad-magic", &["noise.hone"]);
    }
    let mut flipped = good;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(lab.path("flipped.hone"), &flipped).unwrap();
    lab.run("predict flipped.hone test").fails("crc", &["flipped.hone"]);
    lab.run("predict . test").fails("malformed", &["not a regular file"]);
}

#[test]
fn a_damaged_store_is_reported_and_left_as_it_is() {
    let lab = Lab::new();
    lab.run("tune glyphs.hone --shots shots --store home --only-taught --json").json();
    let file = lab.path("home/gen-00000001.hgen");
    std::fs::write(lab.path("home/gen-00000002.hgen"), vec![0x5a; 3000]).unwrap();
    let whole = std::fs::read(&file).unwrap();
    // The newest generation is noise: the one before answers, with a warning.
    let run = lab.run("predict glyphs.hone --store home test");
    assert_eq!(run.code(), 0);
    assert!(run.text().contains("warning: ") && run.text().contains("gen-00000002.hgen"), "{}", run.text());
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    // None is whole: no other head answers in its place, and nothing is tuned over it.
    for command in ["head history", "predict", "tune"] {
        let rest = match command {
            "predict" => " test",
            "tune" => " --shots shots --only-taught",
            _ => "",
        };
        lab.run(&format!("{command} glyphs.hone --store home{rest}")).fails("store-damaged", &["gen-00000001.hgen"]);
    }
    assert_eq!(std::fs::read(&file).unwrap().len(), whole.len() / 2, "left as it is");
}

#[test]
fn labels_that_the_head_does_not_know() {
    let lab = Lab::new();
    lab.digits("test", &[("2", "2"), ("7", "seven")], 0..3);
    lab.run("eval glyphs.hone --data test").fails("label", &["test", "'seven'"]);
    let known = lab.run("eval glyphs.hone --data test --known-only --json").json();
    assert_eq!(known["n"], 3);
    // More labels than rows.
    npy::write(lab.path("test/y.npy"), &[9], &[0_u8; 9]).unwrap();
    lab.run("eval glyphs.hone --data test").fails("data", &["9 labels for the 6 rows"]);
    std::fs::remove_file(lab.path("test/y.npy")).unwrap();
    lab.run("eval glyphs.hone --data test/x.npy").fails("data", &["labels are needed"]);
    lab.run("tune glyphs.hone --shots test/x.npy --store home").fails("data", &["labels are needed"]);
}

#[test]
fn shots_of_one_class_or_none() {
    let lab = Lab::new();
    lab.digits("one", &[("2", "two")], 0..4);
    lab.run("tune glyphs.hone --shots one --store home --only-taught").fails("one-class", &["one"]);
    npy::write(lab.path("none.npy"), &[0], &[0_i64; 0]).unwrap();
    let run = lab.run("tune glyphs.hone --shots shots --rows none.npy --store home");
    assert_eq!(run.code(), 1);
    assert!(run.text().contains("none.npy") || run.text().contains("no rows"), "{}", run.text());
    assert!(!lab.path("home").exists(), "nothing is written");
}

#[test]
fn rows_of_another_shape_or_not_finite() {
    let lab = Lab::new();
    lab.data("wide", &[2, 1, 8, 9], &[0.5; 144], &[0, 1], &["2", "3"]);
    lab.run("eval glyphs.hone --data wide").fails("shape", &["x.npy#0", "[1, 8, 9]"]);
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut x = vec![0.5; 128];
        x[100] = value;
        lab.data("holes", &[2, 1, 8, 8], &x, &[0, 1], &["2", "3"]);
        for command in [
            "eval glyphs.hone --data holes",
            "tune glyphs.hone --shots holes --store home",
            "predict glyphs.hone holes",
        ] {
            lab.run(command).fails("non-finite", &["holes", "row 1", word]);
        }
    }
    assert!(!lab.path("home").exists());
}

#[test]
fn a_store_of_another_backbone() {
    let lab = Lab::new();
    lab.run("tune glyphs.hone --shots shots --store home --only-taught --json").json();
    std::fs::write(lab.path("other.hone"), lab::bundle(Fingerprint([2; 16]))).unwrap();
    for command in [
        "tune other.hone --shots shots --store home",
        "predict other.hone --store home test",
        "eval other.hone --store home --data test",
        "head rollback other.hone --store home",
        "head export-onnx other.hone --store home --out out.onnx",
    ] {
        lab.run(command).fails("fingerprint-mismatch", &["store home", "other.hone"]);
    }
    assert!(!lab.path("out.onnx").exists());
}

#[test]
fn a_store_that_cannot_be_written() {
    let lab = Lab::new();
    std::fs::write(lab.path("file"), "not a folder").unwrap();
    // Whoever runs the tests as root may write anywhere; a file in the way stops everyone.
    for store in ["file", "file/home", "/proc/home"] {
        let run = lab.run(&format!("tune glyphs.hone --shots shots --store {store} --only-taught"));
        assert_eq!(run.code(), 1, "{store}");
        let text = run.text();
        assert!(text.contains(store) && text.contains("help: ") && !text.contains("panicked"), "{text}");
    }
    assert_eq!(std::fs::read(lab.path("file")).unwrap(), b"not a folder");
}

#[test]
fn a_store_that_is_not_there() {
    let lab = Lab::new();
    for command in [
        "predict glyphs.hone --store home test",
        "eval glyphs.hone --store home --data test",
        "head history glyphs.hone --store home",
    ] {
        lab.run(command).fails("io", &["home"]);
    }
    lab.run("head history glyphs.hone").fails("setting", &["--store"]);
}

#[test]
fn settings_out_of_range() {
    let lab = Lab::new();
    lab.run("bench glyphs.hone --provider ort:gpu").fails("unknown-provider", &["'ort:gpu'", "tract"]);
    lab.run("bench glyphs.hone --runs 0").fails("setting", &["--runs"]);
    for l2 in ["0", "-1", "NaN", "inf"] {
        let run = lab.run(&format!("tune glyphs.hone --shots shots --store home --l2={l2}"));
        assert_eq!(run.code(), 1, "{l2}: {}", run.text());
        assert!(!run.text().contains("panicked"), "{}", run.text());
    }
    let run = lab.run("eval glyphs.hone --data test --rows nowhere.npy#0");
    run.fails("io", &["nowhere.npy"]);
}

#[test]
fn a_picture_beside_folders_of_classes_is_no_data_of_its_own() {
    let lab = Lab::new();
    for class in ["cat", "dog"] {
        std::fs::create_dir_all(lab.path(&format!("pets/{class}"))).unwrap();
        std::fs::write(lab.path(&format!("pets/{class}/a.png")), b"").unwrap();
    }
    std::fs::write(lab.path("pets/loose.png"), b"").unwrap();
    lab.run("eval glyphs.hone --data pets").fails("data", &["pets", "'loose.png'", "'cat'"]);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_found_before_anything_is_written() {
    let lab = Lab::new();
    for file in hone_models::QUICKSTART {
        std::fs::write(lab.path(file.name), file.bytes).unwrap();
    }
    std::fs::create_dir_all(lab.path("out/out.hone")).unwrap();
    lab.run("export glyphs.onnx --calib glyphs-calib.npy --prep tensor:scale=1/16 --out out --force")
        .fails("io", &["out.hone"]);
    assert_eq!(std::fs::read_dir(lab.path("out")).unwrap().count(), 1);
}

#[test]
fn an_output_never_replaces_what_is_read() {
    let lab = Lab::new();
    let before = std::fs::read(lab.path("glyphs.hone")).unwrap();
    lab.run("head export-onnx glyphs.hone --out glyphs.hone --force")
        .fails("setting", &["glyphs.hone", "the bundle itself"]);
    assert_eq!(std::fs::read(lab.path("glyphs.hone")).unwrap(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_printed_is_a_failure_without_a_panic() {
    let lab = Lab::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_hone"))
        .args(["tune", "glyphs.hone", "--shots", "shots", "--store", "home", "--only-taught", "--json"])
        .current_dir(lab.path("."))
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output") && !said.contains("panicked"), "{said}");
    assert!(lab.path("home/gen-00000001.hgen").is_file(), "what was committed stays");
}
