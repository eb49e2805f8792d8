//! `--json` prints the keys that docs/cli.md lists for the command: all of them, and no others.
#![cfg(feature = "export")]

#[path = "common/lab.rs"]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hone_export::data::npy;
use hone_export::graph::Op;
use hone_export::onnx;
use lab::Lab;
use serde_json::Value;

/// Documented keys; those of an object or of a list of objects have keys of their own.
#[derive(Debug, Default, PartialEq)]
struct Keys {
    inner: BTreeMap<String, Keys>,
    /// An object whose keys are names: `{name: count}`.
    free: bool,
}

impl Keys {
    /// Reads the notation of docs/cli.md: `` `a`, `b` [{`c`, `d` (a remark)}], `e` {name: count} ``.
    fn parse(text: &str) -> Self {
        // The object that is open at each depth, and the key before it opened.
        let mut open: Vec<(Self, String)> = vec![(Self::default(), String::new())];
        let mut last = String::new();
        let mut remark = 0;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '(' => remark += 1,
                ')' => remark -= 1,
                _ if remark > 0 => {}
                '`' => {
                    let end = rest.find('`').unwrap_or_else(|| panic!("an open backtick in {text}"));
                    last = rest[..end].to_owned();
                    rest = &rest[end + 1..];
                    assert!(
                        last.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                        "key '{last}'"
                    );
                    let twice = open.last_mut().unwrap().0.inner.insert(last.clone(), Self::default());
                    assert!(twice.is_none(), "'{last}' is documented twice in {text}");
                }
                '{' => open.push((Self::default(), std::mem::take(&mut last))),
                '}' => {
                    let (mut keys, of) = open.pop().unwrap();
                    keys.free = keys.inner.is_empty();
                    *open.last_mut().unwrap().0.inner.get_mut(&of).unwrap_or_else(|| panic!("braces after '{of}'")) =
                        keys;
                }
                _ => {}
            }
        }
        assert_eq!(open.len(), 1, "an open brace in {text}");
        open.pop().unwrap().0
    }

    /// Checks a document; notes in `seen` which of the inner objects it had.
    fn check(&self, value: &Value, at: &str, seen: &mut BTreeSet<String>) {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().for_each(|item| self.check(item, at, seen)),
            Value::Object(object) if self.free => {
                seen.insert(at.to_owned());
                assert!(object.values().all(|value| !value.is_object() && !value.is_array()), "{at}: {value}");
            }
            Value::Object(object) => {
                seen.insert(at.to_owned());
                let (printed, documented): (BTreeSet<_>, BTreeSet<_>) =
                    (object.keys().collect(), self.inner.keys().collect());
                assert_eq!(printed, documented, "{at}: printed and documented keys");
                object.iter().for_each(|(key, value)| self.inner[key].check(value, &format!("{at}.{key}"), seen));
            }
            _ => assert!(self.inner.is_empty(), "{at} is documented with keys, and is {value}"),
        }
    }

    /// The places of all inner objects.
    fn objects(&self, at: &str) -> BTreeSet<String> {
        let here = (self.free || !self.inner.is_empty()).then(|| at.to_owned());
        here.into_iter().chain(self.inner.iter().flat_map(|(key, keys)| keys.objects(&format!("{at}.{key}")))).collect()
    }
}

/// The documented keys of every command: from the paragraphs that begin with `JSON:`, and the table of `hone head`.
fn documented() -> BTreeMap<String, Keys> {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
    let mut commands = BTreeMap::new();
    for section in docs.split("\n## hone ").skip(1) {
        let title = section.lines().next().unwrap();
        // An option that changes what is printed has a section of its own.
        let mut command = title.split_whitespace().next().unwrap().to_owned();
        if title.ends_with(" --preflight") {
            command += " --preflight";
        }
        if let Some((_, json)) = section.split_once("\nJSON: ") {
            let paragraph = json.split("\n\n").next().unwrap();
            commands.insert(command.clone(), Keys::parse(paragraph));
        }
        if command == "head" {
            for row in section.lines().filter(|line| line.starts_with("| `")) {
                let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
                let name = cells[0].trim().trim_matches('`').split_whitespace().next().unwrap();
                commands.insert(format!("head {name}"), Keys::parse(cells[2]));
            }
        }
    }
    commands
}

#[test]
fn the_notation_is_read_as_it_is_meant() {
    let keys = Keys::parse("`a`, `b` [{`c` (or `x`), `d` {name: count}}], and\n`e`.");
    assert_eq!(keys.inner.keys().collect::<Vec<_>>(), ["a", "b", "e"]);
    assert_eq!(keys.inner["b"].inner.keys().collect::<Vec<_>>(), ["c", "d"]);
    assert!(keys.inner["b"].inner["d"].free && !keys.free);
    assert_eq!(keys.objects("it").into_iter().collect::<Vec<_>>(), ["it", "it.b", "it.b.d"]);
}

#[test]
fn every_command_prints_the_documented_keys() {
    let lab = Lab::new();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::fs::copy(models.join("glyphs.onnx"), lab.path("glyphs.onnx")).unwrap();
    let models = models.display();
    // Under the names that the model's own head has, so that both heads can be evaluated.
    lab.digits("shots", &[("2", "2"), ("3", "3"), ("4", "4")], 0..4);
    npy::write(lab.path("draws.npy"), &[1, 4], &[0_i64, 1, 20, 21]).unwrap();
    let mut strange = onnx::read(&lab.path("glyphs.onnx")).unwrap();
    let relu = strange.nodes.iter_mut().find(|node| node.op.name() == "Relu").unwrap();
    relu.op = Op::Other { domain: String::new(), op_type: "Mystery".into(), attributes: Vec::new() };
    onnx::write(&strange, &lab.path("strange.onnx"), &onnx::WriteOptions::default()).unwrap();

    let calibration = format!(
        "--calib {models}/glyphs-calib.npy --labels glyphs-calib-y.npy --classes glyphs-labels.txt --prep tensor:scale=1/16"
    );
    let store = "glyphs.hone --store home";
    let commands = [
        ("quickstart", "--out q".to_owned()),
        ("inspect", "glyphs.onnx --nodes".to_owned()),
        ("inspect", "strange.onnx".to_owned()),
        // A preset that changes something, and an option that wins over it.
        (
            "export",
            format!(
                "glyphs.onnx {calibration} --model-classes {models}/glyphs-labels.txt --preset qnn --batch open --out out"
            ),
        ),
        ("tune", format!("{store} --shots shots --only-taught")),
        ("eval", format!("{store} --data test --original glyphs.onnx --k-shot draws.npy")),
        ("eval", "glyphs.hone --data test".to_owned()),
        ("predict", format!("{store} test --top 2")),
        ("bench", "glyphs.hone --runs 2".to_owned()),
        (
            "bench",
            "out/out.hone --provider native,tract --runs 20 --profile --seconds 1 --data shots --cross 2".to_owned(),
        ),
        ("bench", "out/out.hone --provider native --runs 20 --seconds 1 --compare bench.json".to_owned()),
        ("bench", "glyphs.hone --provider tract,native --runs 2".to_owned()),
        ("bench --preflight", "out/out.hone --provider native,tract".to_owned()),
        ("providers", String::new()),
        ("doctor", store.to_owned()),
        ("head show", store.to_owned()),
        ("head history", store.to_owned()),
        ("head move", format!("{store} --from tract --provider tract --data shots --dry-run")),
        ("head export-onnx", format!("{store} --out tuned.onnx")),
        ("head remove-class", format!("{store} --class 2")),
        ("head forget", store.to_owned()),
        ("head rollback", format!("{store} --to 1")),
    ];
    let documented = documented();
    let mut seen = BTreeSet::new();
    for (command, arguments) in &commands {
        let run = lab.run(&format!("{command} {arguments} --json"));
        // A head that is no better is refused, and the document says so; a bundle without a plan does not run natively.
        let may_fail = *command == "tune" || arguments.contains("tract,native");
        assert!(run.code() == 0 || may_fail, "{}", run.text());
        let document = run.document();
        if arguments.contains("--profile") {
            std::fs::write(lab.path("bench.json"), document.to_string()).unwrap();
        }
        let keys = documented.get(*command).unwrap_or_else(|| panic!("docs/cli.md has no JSON of hone {command}"));
        keys.check(&document, command, &mut seen);
    }
    // Nothing documented was left without a look: every command, every inner object.
    let mut all: BTreeSet<String> = documented.iter().flat_map(|(command, keys)| keys.objects(command)).collect();
    // The providers here leave nothing to others; a unit test has one that does.
    assert!(all.remove("bench --preflight.preflight.fallback"));
    assert_eq!(seen, all, "objects that were printed, and that are documented");
}
