//! A head's life by the command line: tuned, refused, rolled back, without a class, forgotten, exported.
#![cfg(feature = "export")]

#[path = "common/lab.rs"]
mod lab;

use hone_export::data::npy;
use lab::Lab;

const TUNE: &str = "tune glyphs.hone --store home --only-taught --json --shots";

#[test]
fn a_dry_run_says_what_would_happen_and_writes_nothing() {
    let lab = Lab::new();
    let tuned = lab.run(&format!("{TUNE} shots --dry-run")).json();
    assert_eq!((tuned["accepted"].as_bool(), tuned["generation"].as_u64()), (Some(true), None));
    assert!(!lab.path("home").exists());
}

#[test]
fn shots_are_taught_once_and_nothing_new_is_refused_with_exit_code_1() {
    let lab = Lab::new();
    let first = lab.run(&format!("{TUNE} shots")).json();
    assert_eq!(
        (first["generation"].as_u64(), first["shots"].as_u64(), first["classes"].as_u64()),
        (Some(1), Some(8), Some(2))
    );
    let again = lab.run(&format!("{TUNE} shots"));
    assert_eq!(again.code(), 1);
    let again = again.document();
    assert_eq!((again["accepted"].as_bool(), again["shots_known"].as_u64()), (Some(false), Some(8)));
    assert_eq!(again["head_crc"], first["head_crc"]);
    let history = lab.run("head history glyphs.hone --store home --json").json();
    assert_eq!(history["generations"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_given_twice_counts_once() {
    let lab = Lab::new();
    lab.run(&format!("{TUNE} shots --dry-run")).json();
    npy::write(lab.path("rows.npy"), &[6], &[0_i32, 0, 1, 4, 5, 5]).unwrap();
    let tuned = lab.run(&format!("{TUNE} shots --rows rows.npy")).document();
    assert_eq!((tuned["shots"].as_u64(), tuned["shots_added"].as_u64()), (Some(4), Some(4)));
    assert_eq!((tuned["shots_known"].as_u64(), tuned["shots_repeated"].as_u64()), (Some(0), Some(2)));
}

#[test]
fn a_refused_fresh_start_leaves_the_store_as_it_was() {
    let lab = Lab::new();
    lab.run(&format!("{TUNE} shots")).json();
    let files = || {
        let files = std::fs::read_dir(lab.path("home")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = files();
    let refused = lab.run(&format!("{TUNE} shots --fresh --keep 1"));
    assert_eq!(refused.code(), 1);
    let refused = refused.document();
    assert_eq!((refused["reason_code"].as_str(), refused["generation"].as_u64()), (Some("no-difference"), None));
    assert_eq!(files(), before);
    let said = lab.run("tune glyphs.hone --store home --only-taught --fresh --shots shots");
    let said = said.text();
    assert!(!said.contains("kept for next time") && !said.contains("--only-taught"), "{said}");
}

#[test]
fn what_cannot_be_judged_is_said() {
    let lab = Lab::new();
    let tuned = lab.run("tune glyphs.hone --store home --json --shots shots").json();
    let notices = tuned["notices"].as_array().unwrap();
    assert!(notices.iter().any(|notice| notice.as_str().unwrap().contains("no canaries")), "{tuned}");
    assert_eq!(lab.run(&format!("{TUNE} shots --dry-run")).document()["notices"], serde_json::json!([]));
}

#[test]
fn the_tuned_head_is_evaluated_and_answers() {
    let lab = Lab::new();
    lab.run(&format!("{TUNE} shots")).json();
    lab.digits("test", &[("2", "two"), ("3", "three")], 4..24);
    let eval = lab.run("eval glyphs.hone --data test --store home --json").json();
    assert_eq!((eval["n"].as_u64(), eval["rows"][1]["head"].as_str()), (Some(40), Some("tuned")));
    // Two digits that look unlike each other: whatever the platform's floats, nearly all are right.
    assert!(eval["top1"].as_f64().unwrap() >= 0.95, "{eval}");
    let counted: u64 = eval["per_class"].as_array().unwrap().iter().map(|c| c["correct"].as_u64().unwrap()).sum();
    assert_eq!(counted as f64 / 40.0, eval["top1"].as_f64().unwrap());
    let predict = lab.run("predict glyphs.hone --store home test --top 2 --json").json();
    let rows = predict["rows"].as_array().unwrap();
    let right =
        rows.iter().enumerate().filter(|(i, row)| row["top"][0]["label"] == if *i < 20 { "two" } else { "three" });
    assert_eq!(right.count() as u64, counted);
    let scores: f64 = (0..2).map(|i| rows[0]["top"][i]["score"].as_f64().unwrap()).sum();
    assert!((scores - 1.0).abs() < 1e-5, "{scores}");
}

#[test]
fn generations_roll_back_classes_leave_and_shots_are_forgotten() {
    let lab = Lab::new();
    let first = lab.run(&format!("{TUNE} shots")).json();
    lab.digits("more", &[("4", "four")], 0..4);
    let second = lab.run(&format!("{TUNE} more")).json();
    assert_eq!((second["generation"].as_u64(), second["classes"].as_u64()), (Some(2), Some(3)));
    let show = |lab: &Lab| lab.run("head show glyphs.hone --store home --json").json();
    assert_eq!(show(&lab)["classes"][2]["label"], "four");

    assert_eq!(lab.run("head rollback glyphs.hone --store home --json").json()["generation"], 3);
    assert_eq!(show(&lab)["head_crc"], first["head_crc"]);
    lab.run("head rollback glyphs.hone --store home --to 9").fails("unknown-generation", &["9"]);
    lab.run("head rollback glyphs.hone --store home --to 2 --json").json();
    let removed = lab.run("head remove-class glyphs.hone --store home --class three --json").json();
    assert_eq!(removed["labels"], serde_json::json!(["two", "four"]));
    lab.run("head remove-class glyphs.hone --store home --class three").fails("unknown-label", &["'three'"]);

    let forgotten = lab.run("head forget glyphs.hone --store home --keep 1 --json").json();
    assert_eq!((forgotten["forgotten"].as_u64(), forgotten["shots"].as_u64()), (Some(8), Some(0)));
    let left = std::fs::read_dir(lab.path("home")).unwrap();
    let left = left.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "hgen")).count();
    assert_eq!(left, 1, "earlier shots are gone from the disk");
}

#[test]
fn classes_whose_shots_were_forgotten_do_not_leave_unasked() {
    let lab = Lab::new();
    lab.run(&format!("{TUNE} shots")).json();
    lab.run("head forget glyphs.hone --store home --json").json();
    lab.digits("more", &[("4", "four"), ("5", "five")], 0..4);
    let refused = lab.run("tune glyphs.hone --store home --json --shots more");
    assert_eq!(refused.code(), 1);
    let refused = refused.document();
    assert_eq!(refused["reason_code"], "drops-classes");
    assert_eq!(refused["classes_dropped"], serde_json::json!(["two", "three"]));
    let taught = lab.run(&format!("{TUNE} more")).json();
    assert_eq!(
        (taught["accepted"].as_bool(), taught["classes_dropped"].as_array().map(Vec::len)),
        (Some(true), Some(0))
    );
    // The bundle's own head is nobody's work: what it knows beyond canaries and shots leaves it with the first tuning.
    let first = lab.run("tune glyphs.hone --store other --json --shots shots").json();
    assert_eq!(first["accepted"], true);
}

#[test]
fn the_exported_model_is_whole_and_nothing_is_overwritten_unasked() {
    let lab = Lab::new();
    lab.run(&format!("{TUNE} shots")).json();
    let export = lab.run("head export-onnx glyphs.hone --store home --out tuned.onnx --json").json();
    assert!(export["largest_difference"].as_f64().unwrap() < 1e-4, "{export}");
    assert_eq!(export["labels"], serde_json::json!(["two", "three"]));
    lab.run("head export-onnx glyphs.hone --store home --out tuned.onnx").fails("exists", &["tuned.onnx"]);
    lab.run("head export-onnx glyphs.hone --store home --out tuned.onnx --force --json").json();
    let inspected = lab.run("inspect tuned.onnx --json").json();
    assert_eq!(inspected["outputs"][0]["shape"], "[N, 2]");
}

#[test]
fn bench_measures_and_agrees_with_the_original() {
    let lab = Lab::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/glyphs.onnx");
    let bench = lab.run(&format!("bench glyphs.hone --data test --original {model} --runs 20 --json")).json();
    let row = &bench["rows"][0];
    assert_eq!((row["provider"].as_str(), row["threads"].as_u64()), (Some("tract"), Some(1)));
    // The bundle is not quantized here: only the embedding is rounded to f16.
    assert!(row["agreement"].as_f64().unwrap() >= 0.95, "{bench}");
    let us = |key: &str| row[key].as_f64().unwrap();
    assert!(0.0 < us("p50_us") && us("p50_us") <= us("p90_us") && us("p90_us") <= us("p99_us"), "{bench}");
}
