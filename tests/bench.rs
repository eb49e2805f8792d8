//! `hone bench` measures each provider by itself, compares with what it measured before, and tells what did not run.
#![cfg(feature = "export")]

#[path = "common/exported.rs"]
mod exported;
#[path = "common/lab.rs"]
mod lab;
#[path = "common/program.rs"]
mod program;

use exported::{exported, run};
use lab::Lab;
use program::hone;
use serde_json::{Value, json};

fn row<'a>(report: &'a Value, provider: &str, precision: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().find(|row| row["provider"] == provider && row["precision"] == precision).unwrap()
}

#[test]
fn every_line_is_whole() {
    let folder = exported().0;
    let report = run(
        folder.path(),
        "bench out/out.hone --provider native,tract --data digits-x.npy --original glyphs.onnx --runs 60 --seconds 1 --threads 1,2 --batch 1,4 \
         --html page.html",
    );
    assert_eq!(report["rows"].as_array().unwrap().len(), 3);
    assert_eq!((&report["reference"], &report["failed"]), (&json!("original"), &json!([])));
    assert_eq!(report["bundle"]["bytes"], std::fs::metadata(folder.path().join("out/out.hone")).unwrap().len());
    for (provider, precision) in [("native", "int8"), ("tract", "int8"), ("tract", "fp32")] {
        let line = row(&report, provider, precision);
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key}: {line}"));
        assert_eq!(number("runs"), 60.0);
        let times = ["p50_us", "p90_us", "p99_us", "max_us"].map(number);
        assert!(times[0] > 0.0 && times.is_sorted(), "{line}");
        assert!(number("warm_up_runs") > 10.0 && number("load_ms") > 0.0 && number("first_us") > 0.0, "{line}");
        let rounds = line["rounds_us"].as_array().unwrap();
        assert_eq!(rounds.iter().map(|rounds| rounds.as_array().unwrap().len()).collect::<Vec<_>>(), [10, 10]);
        let pairs = line["throughput"].as_array().unwrap().iter();
        let pairs: Vec<_> = pairs.map(|t| (t["threads"].as_u64().unwrap(), t["batch"].as_u64().unwrap())).collect();
        assert_eq!(pairs, [(1, 1), (2, 1), (1, 4), (2, 4)]);
        assert!(
            line["throughput"].as_array().unwrap().iter().all(|t| t["rows_per_s"].as_f64().unwrap() > 1.0),
            "{line}"
        );
        let [low, high] = [0, 1].map(|at| line["interval_us"][at].as_f64().unwrap());
        assert!(0.0 < low && low <= high, "{line}");
        if precision == "int8" {
            assert!(number("agreement") > 0.97 && number("cosine") > 0.995, "{line}");
        }
    }
    if cfg!(target_os = "linux") {
        // Each has a process of its own: what tract takes is not in the native engine's memory.
        let memory = |provider, precision| row(&report, provider, precision)["peak_rss_bytes"].as_u64().unwrap();
        assert!(memory("native", "int8") < memory("tract", "int8"), "{report}");
    }
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("native int8") && page.contains("A/A"), "{page}");
}

#[test]
fn a_slower_provider_is_told_from_noise() {
    let folder = exported().0;
    let bench = "bench out/out.hone --provider native --scenario single-stream --runs 2000 --seconds 2";
    let mut earlier = run(folder.path(), bench);
    assert_eq!(earlier["rows"][0]["throughput"], json!([]), "not asked for");
    let write = |report: &Value| std::fs::write(folder.path().join("old.json"), report.to_string()).unwrap();
    // Two processes of the same must not differ by chance in this test, whatever the machine does.
    earlier["rows"][0]["noise"] = json!(0.0);
    for rounds in earlier["rows"][0]["rounds_us"].as_array_mut().unwrap() {
        for round in rounds.as_array_mut().unwrap() {
            *round = json!(round.as_f64().unwrap() / 50.0);
        }
    }
    write(&earlier);
    let compared = run(folder.path(), &format!("{bench} --compare old.json"));
    let change = &compared["changes"][0];
    assert_eq!(change["verdict"], "slower", "{change}");
    let line = format!("{bench} --compare old.json --fail-on-regression");
    let failed = hone(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(failed.status.code(), Some(1));
    // What could not be compared does not pass.
    let mut nothing = earlier.clone();
    nothing["rows"] = json!([]);
    write(&nothing);
    let failed = hone(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("nothing to compare native int8 with"));
    earlier["bundle"]["fingerprint"] = json!("0");
    earlier["machine"]["cpu"] = json!("abacus");
    write(&earlier);
    let elsewhere = hone(folder.path(), &format!("{bench} --compare old.json").split_whitespace().collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(said.contains("another machine: abacus") && said.contains("another backbone"), "{said}");
}

#[test]
fn what_does_not_run_is_told_apart() {
    let lab = Lab::new();
    // This bundle has no plan.
    let half = lab.run("bench glyphs.hone --provider tract,native --runs 4 --json");
    assert_eq!(half.code(), 1, "{}", half.text());
    let report = half.document();
    assert_eq!(
        (report["rows"].as_array().unwrap().len(), report["failed"][0]["provider"].as_str()),
        (1, Some("native"))
    );
    assert!(report["failed"][0]["why"].as_str().unwrap().contains("no plan"), "{report}");
    assert!(report["rows"][0]["doubts"][0].as_str().unwrap().contains("too few"), "{report}");
    lab.run("bench glyphs.hone --provider native --runs 4").fails("provider", &["native", "no plan"]);

    let preflight = lab.run("bench glyphs.hone --provider tract,native --preflight --json");
    assert_eq!(preflight.code(), 1, "{}", preflight.text());
    let found = preflight.document();
    let verdicts: Vec<_> =
        found["preflight"].as_array().unwrap().iter().map(|p| p["verdict"].as_str().unwrap()).collect();
    assert_eq!((verdicts, &found["passed"]), (vec!["whole", "failed"], &json!(false)));
    assert_eq!(lab.run("bench glyphs.hone --provider tract --preflight").code(), 0);

    std::fs::write(lab.path("old.json"), "{}").unwrap();
    lab.run("bench glyphs.hone --compare old.json").fails("malformed", &["old.json", "hone bench --json"]);
    lab.run("bench glyphs.hone --compare none.json").fails("io", &["none.json"]);
    lab.run("bench glyphs.hone --compare /dev/zero").fails("malformed", &["/dev/zero"]);
    lab.run("bench glyphs.hone --threads 100000").fails("setting", &["--threads"]);
    lab.run("bench glyphs.hone --batch 18446744073709551615").fails("setting", &["--batch"]);
    lab.run("bench glyphs.hone --scenario offline --runs 5").fails("setting", &["single-stream"]);
    lab.run("bench glyphs.hone --runs 0").fails("setting", &["--runs"]);
    lab.run("bench glyphs.hone --seconds 0").fails("setting", &["--seconds"]);
    lab.run("bench glyphs.hone --runs 2 --html missing/page.html").fails("io", &["missing"]);
    assert_eq!(lab.run("bench glyphs.hone --fail-on-regression").code(), 2, "--compare is needed");
}
