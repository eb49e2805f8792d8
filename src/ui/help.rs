//! What to do next, for every error code.

/// One sentence of advice for an error.
pub fn next_step(error: &hone_export::Error) -> &'static str {
    if error.code() == "missing-section" && error.to_string().contains("plan for the native engine") {
        return "leave --provider out, and another provider runs the bundle; or export the model again with this version";
    }
    by_code(error.code()).unwrap_or("docs/cli.md lists the codes")
}

fn by_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "io" | "file" => "check that the path exists, that you may use it, and that the disk is not full",
        "exists" => "choose another name, or pass --force to replace what is there",
        "malformed" | "bad-magic" | "truncated" | "crc" => {
            "the file is damaged or of another kind: copy it again, or make it again (bundles with `hone export`)"
        }
        "version" | "unknown-section" => {
            "the file was written by another version of hone: update hone, or make the file again"
        }
        "bounds" => "keep the value within the bounds; in a file, make the file again",
        "missing-section" => {
            "tune the bundle and name its store with --store, or export it with the labels of its classes"
        }
        "buffer" => "this is a fault of hone's own: please report it with the command that you ran",
        "unsafe-path" => "put the external data file directly beside the model and refer to it by its plain name",
        "too-large" => "the file asks for more than any real model of its size needs: check where it comes from",
        "too-costly" => {
            "check where the model comes from; --max-gmacs of `hone export` lets a model that you trust cost more"
        }
        "unsupported" => {
            "`hone inspect MODEL` names what is not supported: cut before it with --cut, or export the model without it"
        }
        "invalid-model" => "check the model with onnx.checker, and export it again",
        "no-head" => "name the tensor where the backbone ends with --cut (`hone inspect` lists the legal ones)",
        "illegal-cut" => "`hone inspect MODEL` lists the legal cuts",
        "data" => "check the data, and name its parts with --labels, --classes and --rows",
        "label" | "unknown-label" | "unknown-class" => {
            "compare the names with `hone head show`: name the data's classes with --classes, or teach the new ones with `hone tune`"
        }
        "shape" => {
            "a data row must lead to the model's input: check the data, and the preprocessing given at export with --prep"
        }
        "non-finite" => {
            "data: remove the row, or check how it was made; a weight: the model is damaged, export it again from where it was trained"
        }
        "setting" => "see `hone COMMAND --help`",
        "preprocess-text" => "docs/cli.md shows the forms that --prep takes",
        "collapsed" => "use more or more typical calibration rows, another --ranges, or --precision fp16",
        "fingerprint-mismatch" => {
            "this store was tuned on another backbone: use its own bundle, or tune again in a new store"
        }
        "drift" => {
            "tune again on that provider, give other inputs of every class with --data, or lower --min-agreement knowing what it costs"
        }
        "one-class" => "give examples of at least two classes",
        "empty-class" => "give examples of every class, or take the class out with `hone head remove-class`",
        "zero-shots" => "give at least one labelled example of each class",
        "store-damaged" => {
            "restore the store from a copy; to begin again with the bundle's own head, move its gen-*.hgen files away"
        }
        "store-busy" => "try again when the other process has finished",
        "store-changed" => "run the command again: it will start from what the other process committed",
        "unknown-generation" => "`hone head history` lists the generations that the store holds",
        "no-kernel" => {
            "this build cannot run the plan: name another kernel with HONE_KERNEL, or export the bundle again with this version"
        }
        "unknown-kernel" => "set HONE_KERNEL to one of those, or leave it unset for the fastest",
        "unknown-provider" => "name one that this build has, or leave --provider out",
        "provider" => "the backbone cannot be run: export the bundle again, and check the model with `hone inspect`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::by_code;

    /// Every code that the two libraries can give, read from where they are defined.
    fn codes() -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut codes = Vec::new();
        for file in ["runtime/src/error.rs", "export/src/error.rs"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let body = text.split("pub fn code(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
            let arms = body.lines().filter_map(|line| line.split("=> \"").nth(1)?.split('"').next());
            let before = codes.len();
            codes.extend(arms.map(str::to_owned));
            assert!(codes.len() > before + 10, "{file}");
        }
        codes
    }

    #[test]
    fn every_error_code_has_a_next_step() {
        for code in codes() {
            assert!(by_code(&code).is_some(), "no next step for '{code}'");
        }
        assert!(by_code("no-such-code").is_none());
    }

    #[test]
    fn every_error_code_is_documented() {
        let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
        for code in codes() {
            assert!(docs.contains(&format!("| `{code}` |")), "docs/cli.md lacks '{code}'");
        }
    }
}
