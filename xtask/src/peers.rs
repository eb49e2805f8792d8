//! `cargo xtask peers`: the side-by-side comparisons of `benches/peers`, each a Python script that prints a table.

use std::process::Command;

use crate::step::{self, Result, cargo, root, target};
use crate::{setup, test};

/// Runs the named scripts, or all of them.
pub fn run(names: &[&str]) -> Result {
    let installed = setup::run()?;
    step::run("build", &mut cargo(&["build", "--release"]))?;
    let folder = root().join("benches").join("peers");
    let mut scripts: Vec<String> = std::fs::read_dir(&folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
        .collect();
    scripts.sort();
    if let Some(unknown) = names.iter().find(|n| !scripts.iter().any(|s| s == *n)) {
        return Err(format!("no script {unknown}; there are: {}", scripts.join(", ")));
    }
    for script in scripts.iter().filter(|s| names.is_empty() || names.contains(&s.as_str())) {
        let mut python = Command::new(&installed.python);
        python.arg(folder.join(format!("{script}.py")));
        test::python_env(&mut python, &installed);
        python.env("HONE", target().join("release").join("hone"));
        step::run(script, &mut python)?;
    }
    Ok(())
}
