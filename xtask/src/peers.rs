//! `cargo xtask peers`: the side-by-side comparisons of `benches/peers`, each a Python script that prints a table.

use std::process::Command;

use crate::setup;
use crate::step::{self, Result, at, release, root};

/// Modules of the scripts, not scripts.
const MODULES: [&str; 1] = ["shared"];

/// Runs all scripts, or the one that `words` begins with, with the rest as its arguments.
pub fn run(words: &[&str]) -> Result {
    let folder = root().join("benches").join("peers");
    let mut scripts: Vec<String> = std::fs::read_dir(&folder)
        .map_err(at(&folder))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
        .filter(|name| !MODULES.contains(&name.as_str()))
        .collect();
    scripts.sort();
    if let Some((name, _)) = words.split_first() {
        if !scripts.iter().any(|s| s == name) {
            return Err(format!("no script {name}; there are: {}", scripts.join(", ")));
        }
        scripts.retain(|s| s == name);
    }
    let installed = setup::python()?;
    setup::peers(&installed)?;
    step::build_release()?;
    for script in &scripts {
        let mut python = Command::new(&installed.program);
        python.arg(folder.join(format!("{script}.py"))).args(words.iter().skip(1));
        // One thread on both sides.
        installed.env(&mut python).env("OMP_NUM_THREADS", "1").env("HONE", release("hone"));
        step::run(script, &mut python)?;
    }
    Ok(())
}
