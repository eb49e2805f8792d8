//! Where ONNX Runtime's libraries are: the first place that has what a provider needs.

use std::borrow::ToOwned;
use std::env;
use std::ffi::OsStr;
use std::format;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::string::{String, ToString};
use std::sync::OnceLock;
use std::vec::Vec;

use super::ExecutionProvider;

/// The environment variable that names the library.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The plugin that has the QNN execution provider.
const QNN_PLUGIN: &str =
    if cfg!(windows) { "onnxruntime_providers_qnn.dll" } else { "libonnxruntime_providers_qnn.so" };
/// The simulation of a Hexagon NPU on a desktop, and the driver on a device that has one.
const QNN_BACKEND: &str = if cfg!(windows) { "QnnHtp.dll" } else { "libQnnHtp.so" };
/// The OpenVINO execution provider, beside a library that was built with it.
const OPENVINO: &str =
    if cfg!(windows) { "onnxruntime_providers_openvino.dll" } else { "libonnxruntime_providers_openvino.so" };

/// Who said where a library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The caller: `--ort-lib`.
    Option,
    /// [`VARIABLE`].
    Variable,
    /// `target/providers`, where `cargo xtask providers` puts them.
    Providers,
    /// Packages of the active Python environment.
    Python,
    /// The system's folders of libraries.
    System,
}

impl Origin {
    /// As tables print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Option => "--ort-lib",
            Self::Variable => VARIABLE,
            Self::Providers => "target/providers",
            Self::Python => "Python packages",
            Self::System => "system",
        }
    }
}

/// An ONNX Runtime library, and what lies beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Absolute path.
    pub path: PathBuf,
    /// Who said that it is there.
    pub origin: Origin,
    /// The OpenVINO execution provider beside it.
    pub openvino: Option<PathBuf>,
}

impl Library {
    fn at(path: &Path, origin: Origin) -> Option<Self> {
        let path = fs::canonicalize(path).ok().filter(|path| path.is_file())?;
        let openvino = path.parent().map(|folder| folder.join(OPENVINO)).filter(|file| file.is_file());
        Some(Self { path, origin, openvino })
    }
}

/// The QNN plugin and what it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QnnPlugin {
    /// The execution provider.
    pub plugin: PathBuf,
    /// `libQnnHtp.so`.
    pub backend: PathBuf,
    /// Who said that it is there.
    pub origin: Origin,
}

/// Everything that was found, in the order of preference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Libraries.
    pub libraries: Vec<Library>,
    /// QNN plugins.
    pub qnn: Vec<QnnPlugin>,
    /// Paths that the caller or the environment named and that are no files.
    pub missing: Vec<(Origin, PathBuf)>,
}

impl Found {
    /// Looks in all places: `option` (a file, or a folder that has one), [`VARIABLE`], `target/providers` under the working folder and beside the
    /// program, the active Python environment's packages, the system. Runs `python3`, once in a process.
    #[must_use]
    pub fn search(option: Option<&Path>) -> Self {
        let mut found = Self::default();
        if let Some(path) = option {
            found.named(path, Origin::Option);
        }
        if let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            found.named(Path::new(&path), Origin::Variable);
        }
        for root in provider_folders() {
            for folder in sorted(&root) {
                found.folder(&folder, Origin::Providers);
            }
        }
        for site in python_folders() {
            found.folder(&site.join("onnxruntime").join("capi"), Origin::Python);
            found.folder(&site.join("onnxruntime_qnn"), Origin::Python);
        }
        for folder in system_folders() {
            found.folder(&folder, Origin::System);
        }
        found
    }

    /// The library for a provider. What the caller or the environment names is taken at its word; otherwise the first that has the provider.
    ///
    /// # Errors
    /// What is missing, where it was looked for and the command that installs it.
    pub fn library(&self, provider: ExecutionProvider) -> Result<&Library, String> {
        if let Some((origin, path)) = self.missing.first() {
            return Err(format!("{} names {}, which has no ONNX Runtime library", origin.name(), path.display()));
        }
        let named = |library: &&Library| matches!(library.origin, Origin::Option | Origin::Variable);
        let suits = |library: &&Library| match provider {
            ExecutionProvider::OpenVino => library.openvino.is_some(),
            // A library of its own for OpenVINO is older than what the plugin wants.
            ExecutionProvider::Qnn => library.openvino.is_none(),
            _ => true,
        };
        let plain = |library: &&Library| suits(library) && library.openvino.is_none();
        let mut libraries = self.libraries.iter();
        let found = match provider {
            ExecutionProvider::Cpu => {
                libraries.clone().find(named).or_else(|| libraries.clone().find(plain)).or_else(|| libraries.next())
            }
            _ => libraries.clone().find(named).or_else(|| libraries.find(suits)),
        };
        found.ok_or_else(|| {
            format!("no ONNX Runtime library{} in --ort-lib, {VARIABLE}, target/providers, Python's packages or the system: {}",
                if self.libraries.is_empty() { String::new() } else { format!(" for {}", provider.name()) }, install(provider))
        })
    }

    /// The QNN plugin.
    ///
    /// # Errors
    /// As [`Found::library`].
    pub fn qnn(&self) -> Result<&QnnPlugin, String> {
        self.qnn
            .first()
            .ok_or_else(|| format!("no {QNN_PLUGIN} with {QNN_BACKEND} beside it: {}", install(ExecutionProvider::Qnn)))
    }

    fn named(&mut self, path: &Path, origin: Origin) {
        let before = self.libraries.len();
        if path.is_dir() {
            self.folder(path, origin);
        } else {
            self.libraries.extend(Library::at(path, origin));
            if let Some(folder) = path.parent() {
                self.plugin(folder, origin);
            }
        }
        if self.libraries.len() == before {
            self.missing.push((origin, path.to_owned()));
        }
    }

    fn folder(&mut self, folder: &Path, origin: Origin) {
        // `libonnxruntime.so`, or with its version behind; the newest version first.
        let mut files = sorted(folder);
        files.reverse();
        let library = files
            .iter()
            .filter(|file| file.file_name().is_some_and(is_library))
            .find_map(|file| Library::at(file, origin));
        if let Some(library) = library.filter(|new| self.libraries.iter().all(|old| old.path != new.path)) {
            self.libraries.push(library);
        }
        self.plugin(folder, origin);
    }

    fn plugin(&mut self, folder: &Path, origin: Origin) {
        let (Ok(plugin), Ok(backend)) =
            (fs::canonicalize(folder.join(QNN_PLUGIN)), fs::canonicalize(folder.join(QNN_BACKEND)))
        else {
            return;
        };
        if self.qnn.iter().all(|old| old.plugin != plugin) {
            self.qnn.push(QnnPlugin { plugin, backend, origin });
        }
    }
}

/// The command that brings what a provider needs.
#[must_use]
pub fn install(provider: ExecutionProvider) -> String {
    let packages = match provider {
        ExecutionProvider::Cpu => "onnxruntime",
        ExecutionProvider::OpenVino => "onnxruntime-openvino",
        ExecutionProvider::Qnn => "onnxruntime onnxruntime-qnn",
        _ => return format!("a build of ONNX Runtime with {} is needed; name it with --ort-lib", provider.name()),
    };
    format!(
        "`pip install {packages}` in an active Python environment installs it, and so does `cargo xtask providers` in hone's checkout"
    )
}

fn is_library(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    if cfg!(windows) {
        return name == "onnxruntime.dll";
    }
    if cfg!(target_os = "macos") {
        return name.starts_with("libonnxruntime.") && name.ends_with(".dylib");
    }
    name.strip_prefix("libonnxruntime.so").is_some_and(|rest| rest.chars().all(|c| c == '.' || c.is_ascii_digit()))
}

/// What a folder has, by name; nothing where it cannot be read.
fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

fn provider_folders() -> Vec<PathBuf> {
    let mut folders = Vec::from([PathBuf::from("target/providers")]);
    if let Some(target) = env::var_os("CARGO_TARGET_DIR") {
        folders.push(Path::new(&target).join("providers"));
    }
    if let Ok(program) = env::current_exe() {
        // target/release/hone, target/release/deps/test-…
        folders.extend(program.ancestors().skip(2).take(2).map(|folder| folder.join("providers")));
    }
    folders
}

fn python_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(path) = env::var_os("PYTHONPATH") {
        folders.extend(env::split_paths(&path));
    }
    folders.extend(interpreter().iter().flat_map(|said| said.lines()).map(PathBuf::from).filter(|path| path.is_dir()));
    folders
}

/// Where the active interpreter looks for packages, a folder a line: it knows best about virtual environments, conda, user packages.
fn interpreter() -> &'static Option<String> {
    static SAID: OnceLock<Option<String>> = OnceLock::new();
    let program = "import sys; print('\\n'.join(p for p in sys.path if p))";
    let names: &[&str] = if cfg!(windows) { &["python"] } else { &["python3", "python"] };
    let ask = |name: &&str| {
        let run = Command::new(name).args(["-c", program]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).to_string())
    };
    SAID.get_or_init(|| names.iter().find_map(ask))
}

fn system_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(path) = env::var_os(if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" }) {
        folders.extend(env::split_paths(&path).filter(|path| path.is_absolute()));
    }
    let arch = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
    for folder in [
        "/usr/local/lib".to_owned(),
        format!("/usr/lib/{arch}-linux-gnu"),
        "/usr/lib64".to_owned(),
        "/usr/lib".to_owned(),
        "/opt/homebrew/lib".to_owned(),
    ] {
        folders.push(PathBuf::from(folder));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, name: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), b"").unwrap();
        fs::canonicalize(folder.join(name)).unwrap()
    }

    #[test]
    fn each_provider_gets_the_library_that_has_it() {
        let root = tempfile::tempdir().unwrap();
        let (cpu, openvino, qnn) = (root.path().join("cpu"), root.path().join("openvino"), root.path().join("qnn"));
        touch(&openvino, "libonnxruntime.so.1.24.1");
        touch(&openvino, OPENVINO);
        let plain = touch(&cpu, "libonnxruntime.so.1.32.0");
        touch(&cpu, "libonnxruntime_providers_shared.so");
        let plugin = touch(&qnn, QNN_PLUGIN);
        let mut found = Found::default();
        found.folder(&openvino, Origin::Providers);
        found.folder(&cpu, Origin::Providers);
        found.folder(&qnn, Origin::Providers);
        assert_eq!(found.libraries.len(), 2);
        assert_eq!(found.library(ExecutionProvider::Cpu).unwrap().path, plain);
        assert_eq!(found.library(ExecutionProvider::Qnn).unwrap().path, plain);
        assert!(found.library(ExecutionProvider::OpenVino).unwrap().openvino.is_some());
        assert!(
            found.qnn().unwrap_err().contains("pip install onnxruntime onnxruntime-qnn"),
            "a plugin without its backend is none"
        );
        touch(&qnn, QNN_BACKEND);
        found.folder(&qnn, Origin::Providers);
        assert_eq!(found.qnn().unwrap().plugin, plugin);
    }

    #[test]
    fn a_library_that_was_named_is_never_replaced_by_another() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), "libonnxruntime.so");
        let mut found = Found::default();
        found.named(&root.path().join("absent.so"), Origin::Option);
        found.folder(root.path(), Origin::System);
        let why = found.library(ExecutionProvider::Cpu).unwrap_err();
        assert!(why.contains("--ort-lib names") && why.contains("absent.so"), "{why}");
        assert_eq!(
            Found::default().library(ExecutionProvider::OpenVino).unwrap_err().matches("onnxruntime-openvino").count(),
            1
        );
    }
}
