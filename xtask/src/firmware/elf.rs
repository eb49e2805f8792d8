//! Looks into a linked image: sizes, whose code it is, and whether a panic can be reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::step::Result;

/// A linked program.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    /// Bytes of every section that is loaded.
    sections: BTreeMap<String, u64>,
    /// Demangled name, bytes, and whether it is code.
    symbols: Vec<(String, u64, bool)>,
}

/// Functions that a panic goes through. The linker drops what nothing refers to, so that one that is there can be reached.
const PANICS: [&str; 3] = ["core::panicking::", "rust_begin_unwind", "core::option::expect_failed"];

/// Whose code a symbol is, by the beginning of its name; the first that fits.
const GROUPS: [(&str, &str); 10] = [
    ("hone_runtime::kernels::", "operators"),
    ("hone_runtime::plan::check::", "engine: checks when a plan is loaded"),
    ("hone_runtime::", "engine"),
    ("keywords::listen", "engine, inlined into one function"),
    ("keywords::", "program: job and report"),
    ("hone_firmware::", "program: job and report"),
    ("libm::", "operators"),
    ("core::", "core"),
    ("compiler_builtins::", "memory and arithmetic"),
    ("__aeabi", "memory and arithmetic"),
];

/// The groups that [`MOST_BYTES`] is about.
const COUNTED: [&str; 4] =
    ["engine", "engine, inlined into one function", "engine: checks when a plan is loaded", "operators"];
/// What engine and operators of a program with one model may take: 24 KB.
const MOST_BYTES: u64 = 24 * 1024;

impl Image {
    /// Reads one.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |why: String| format!("{}: {why}", path.display());
        let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let file = object::File::parse(&*bytes).map_err(|e| fail(e.to_string()))?;
        let loaded = [".vector_table", ".text", ".rodata", ".data", ".bss"];
        let sections = file
            .sections()
            .filter_map(|section| Some((section.name().ok()?.to_owned(), section.size())))
            .filter(|(name, _)| loaded.contains(&name.as_str()))
            .collect();
        let symbols = file
            .symbols()
            .filter(|symbol| symbol.is_definition() && matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data))
            .filter_map(|symbol| {
                let name = format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?));
                Some((name, symbol.size(), symbol.kind() == SymbolKind::Text))
            })
            .collect();
        Ok(Self { path: path.into(), sections, symbols })
    }

    /// Fails with the functions of a panic that are linked.
    pub fn check_panics(&self) -> Result {
        let linked: Vec<&str> = self
            .symbols
            .iter()
            .map(|(name, ..)| name.as_str())
            .filter(|name| PANICS.iter().any(|panic| name.contains(panic)))
            .collect();
        if linked.is_empty() {
            return Ok(());
        }
        Err(format!("{}: a panic can be reached: {}", self.path.display(), linked.join(", ")))
    }

    /// Bytes by section.
    pub fn sizes(&self) -> String {
        let at = |name: &str| self.sections.get(name).copied().unwrap_or(0);
        format!("text {} B, constants {} B, data {} B, bss {} B", at(".text"), at(".rodata"), at(".data"), at(".bss"))
    }

    /// Bytes of code by whose it is.
    pub fn groups(&self) -> String {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, bytes, _) in self.symbols.iter().filter(|(_, _, code)| *code) {
            let group = GROUPS.iter().find(|(start, _)| name.trim_start_matches('<').starts_with(start));
            *sums.entry(group.map_or("start-up and others", |(_, group)| group)).or_default() += bytes;
        }
        let lines: String = sums.iter().map(|(group, bytes)| format!("  {bytes:6} B  {group}\n")).collect();
        let counted: u64 = sums.iter().filter(|(group, _)| COUNTED.contains(group)).map(|(_, bytes)| bytes).sum();
        let verdict = if counted <= MOST_BYTES { "met" } else { "missed" };
        format!("{lines}  {counted:6} B  engine, checks and operators; at most {MOST_BYTES} B wanted: {verdict}\n")
    }
}
