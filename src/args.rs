//! What the user typed, as clap reads it. Checking beyond syntax happens where the values are used.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hone_export::Result;
use hone_export::data::{Options, Source};
use hone_runtime::backbone::provider::{PROVIDERS, Settings, names};

#[cfg(feature = "export")]
const START: &str = "Start with `hone quickstart`; for a model of your own with `hone inspect MODEL.onnx`.";
#[cfg(not(feature = "export"))]
const START: &str = "This build uses bundles: `hone export` of the full build makes them, on a desktop.";

/// Quantize a pretrained model for a device, and let the device teach it its owner's task.
#[derive(Debug, Parser)]
#[command(name = "hone", version, max_term_width = 110, arg_required_else_help = true, after_help = START)]
pub struct Cli {
    /// Print one JSON document instead of tables (errors too)
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress bars
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job from end to end on the built-in model and data; writes report.html
    #[cfg(feature = "export")]
    Quickstart(Quickstart),
    /// What is in a model, where it can be split, what will not quantize and why
    #[cfg(feature = "export")]
    Inspect(Inspect),
    /// Quantize a model and write the ONNX files and the device bundle
    #[cfg(feature = "export")]
    Export(Export),
    /// Accuracy of a bundle, before and after tuning; k-shot tables
    Eval(Eval),
    /// Teach a bundle from labelled examples; commits a generation or says why not
    Tune(Tune),
    /// Classify files or rows with the head that is in force
    Predict(Predict),
    /// The head in force, its history, and what changes it without tuning
    #[command(subcommand)]
    Head(Head),
    /// Latency, load time, memory, tuning time, agreement
    Bench(Bench),
    /// What can run a backbone on this machine, what is missing and how to get it
    #[cfg(feature = "ort")]
    Providers(Providers),
    /// What on this machine works, what does not, and what to do about it
    #[cfg(feature = "bench")]
    Doctor(Doctor),
    /// One provider, asked in a process of its own
    #[cfg(feature = "ort")]
    #[command(hide = true)]
    Probe(Probe),
    /// One provider of a bench, in a process of its own
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchWorker(BenchWorker),
    /// A command of the full build
    #[cfg(not(feature = "export"))]
    #[command(name = "export", aliases = ["inspect", "quickstart"], hide = true)]
    Absent(Absent),
}

/// Whatever follows the name of a command that is not in this build.
#[cfg(not(feature = "export"))]
#[derive(Debug, Args)]
pub struct Absent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<std::ffi::OsString>,
}

/// What is said to [`Command::Absent`].
#[cfg(not(feature = "export"))]
pub fn absent() -> clap::Error {
    use clap::CommandFactory as _;

    let why = "not in this build, which is for devices: quickstart, inspect and export are in the full build of hone";
    Cli::command().error(clap::error::ErrorKind::InvalidSubcommand, why)
}

#[cfg(feature = "export")]
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Folder to write
    #[arg(long, default_value = "hone-quickstart")]
    pub out: PathBuf,
    /// Replace what an earlier run wrote
    #[arg(long)]
    pub force: bool,
}

#[cfg(feature = "export")]
#[derive(Debug, Args)]
pub struct Inspect {
    /// ONNX file
    pub model: PathBuf,
    /// Also list every node
    #[arg(long)]
    pub nodes: bool,
}

/// Where rows and labels come from.
#[derive(Debug, Args, Clone, Default)]
pub struct DataOptions {
    /// Labels: .npy, idx, .csv or .txt (default: beside the data)
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Class names, one a line (default: labels.txt beside the data, or folder names)
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Column of a .csv or .tsv that holds the label: its name, its number from 0, or `none` (default: the one called label, class,
    /// class_index, target or y, else the last of a .csv and none of a .tsv)
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,
    /// Row numbers to use: .npy, `#i` picks line i of a table
    #[arg(long, value_name = "FILE[#i]")]
    pub rows: Option<String>,
    /// Use at most N rows, balanced over the classes
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Added to numeric labels (1 where the model has a background class in front)
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub label_offset: i64,
}

impl DataOptions {
    /// What the library takes.
    pub fn to_options(&self) -> Result<Options> {
        Ok(Options {
            labels: self.labels.clone(),
            classes: self.classes.clone(),
            label_column: self.label_column.clone(),
            label_offset: self.label_offset,
            rows: self.rows.as_deref().map(str::parse).transpose()?,
            limit: self.limit,
            ..Options::default()
        })
    }

    /// Opens data; a limited number of rows is balanced over the classes where there are labels.
    pub fn open(&self, path: &Path) -> Result<Source> {
        let options = self.to_options()?;
        let source = Source::open(path, &options)?;
        if self.limit.is_some() && source.is_labelled() {
            return Source::open(path, &Options { balance: true, ..options });
        }
        Ok(source)
    }
}

/// How the data's classes are found among the head's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MatchLabels {
    /// Equal names
    Equal,
    /// A name of one character also matches the one label that contains it
    Contains,
}

#[cfg(feature = "export")]
fn presets() -> clap::builder::PossibleValuesParser {
    hone_export::quantize::Preset::ALL.map(hone_export::quantize::Preset::name).into()
}

#[cfg(feature = "export")]
#[derive(Debug, Args)]
pub struct Export {
    /// ONNX file (float32, opset 7 to 21)
    pub model: PathBuf,
    /// Calibration data: .npy, .npz, idx(.gz), .csv, texts in .tsv or .txt, a folder of images or of wav files
    #[arg(long, value_name = "PATH")]
    pub calib: PathBuf,
    #[command(flatten)]
    pub data: DataOptions,
    /// Folder to write
    #[arg(long)]
    pub out: PathBuf,
    /// Name of the bundle (default: the folder's name)
    #[arg(long)]
    pub name: Option<String>,
    /// Preprocessing from a data row to the model's input, such as `image:size=224x224,scale=0.0078125,mean=1` or
    /// `text:vocab=vocab.txt,len=64`
    #[arg(long, value_name = "SPEC", default_value = "none")]
    pub prep: String,
    /// Tensor where the backbone ends (default: the input of the last classifier; see `hone inspect`)
    #[arg(long, value_name = "TENSOR")]
    pub cut: Option<String>,
    /// What the files are meant for: a set of the options below, printed with its reasons; options that are given win over it
    #[arg(long, default_value = "generic", value_parser = presets())]
    pub preset: String,
    /// Precision of the backbone in the bundle: int8 or fp16 [default: int8, or the preset's]
    #[arg(long, value_parser = ["int8", "fp16"])]
    pub precision: Option<String>,
    /// How activation ranges are chosen: min-max, percentile, entropy, mse
    #[arg(long, default_value = "min-max", value_parser = ["min-max", "percentile", "entropy", "mse"])]
    pub ranges: String,
    /// Share of the values that the ranges keep, in percent (with --ranges percentile) [default: 99.99]
    #[arg(long)]
    pub percentile: Option<f64>,
    /// How weights are rounded: compensated (error feedback on the calibration data) or nearest
    #[arg(long, default_value = "compensated", value_parser = ["compensated", "nearest"])]
    pub rounding: String,
    /// Activation type in the ONNX file: uint8 or int8 (the same steps, shifted by 128) [default: uint8, or the preset's]
    #[arg(long, value_parser = ["uint8", "int8"])]
    pub activations: Option<String>,
    /// What has a weight scale of its own: every output channel, those of convolutions, or every layer [default: per-channel, or the
    /// preset's]
    #[arg(long, value_parser = ["per-channel", "conv-per-channel", "per-tensor"])]
    pub weights: Option<String>,
    /// How scores leave the ONNX file of the whole model: float or quantized [default: float, or the preset's]
    #[arg(long, value_parser = ["float", "quantized"])]
    pub scores: Option<String>,
    /// Rows that the ONNX files take at a time: open (any number) or 1 [default: open, or the preset's]
    #[arg(long, value_parser = ["open", "1"])]
    pub batch: Option<String>,
    /// Keep weights to 7 bits, for kernels that saturate on x86 processors without VNNI: ONNX Runtime's fast 8-bit ones, OpenVINO's [default:
    /// false, or the preset's]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub reduce_range: Option<bool>,
    /// Number of calibration rows used
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub calib_rows: usize,
    /// Smallest top-1 agreement (or, without classes, cosine) with the original; below it nothing is written
    #[arg(long, default_value_t = 0.8, value_name = "0..1")]
    pub min_agreement: f64,
    /// Labels of the model's own classes, one a line, for the bundle's base head
    #[arg(long, value_name = "FILE")]
    pub model_classes: Option<PathBuf>,
    /// Refuse a model that costs more for one row, in 10⁹ operations: multiply-accumulates and the like (0 to 100)
    #[arg(long, default_value_t = 8.0, value_name = "N")]
    pub max_gmacs: f64,
    /// Replace files that an earlier export wrote
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Eval {
    /// Bundle (.hone)
    pub bundle: PathBuf,
    /// Evaluation data
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    #[command(flatten)]
    pub options: DataOptions,
    /// Store with the tuned head
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The original model, to evaluate beside the bundle
    #[cfg(feature = "export")]
    #[arg(long, value_name = "MODEL.onnx")]
    pub original: Option<PathBuf>,
    /// k-shot table: tune on these rows (a table [seeds, rows]), evaluate on --rows; may be repeated
    #[arg(long, value_name = "FILE.npy")]
    pub k_shot: Vec<PathBuf>,
    /// Data that the rows of --k-shot number, where it is not --data
    #[arg(long, value_name = "PATH", requires = "k_shot")]
    pub shots: Option<PathBuf>,
    /// How the data's classes are found among the head's labels
    #[arg(long = "match", value_name = "HOW", default_value = "equal")]
    pub match_labels: MatchLabels,
    /// Leave out rows of classes that the head does not know
    #[arg(long)]
    pub known_only: bool,
    #[command(flatten)]
    pub on: On,
}

impl Eval {
    /// Whether the original model is to be evaluated as well.
    pub fn has_original(&self) -> bool {
        #[cfg(feature = "export")]
        return self.original.is_some();
        #[cfg(not(feature = "export"))]
        false
    }
}

#[derive(Debug, Args)]
pub struct Tune {
    /// Bundle (.hone)
    pub bundle: PathBuf,
    /// Labelled examples
    #[arg(long, value_name = "PATH")]
    pub shots: PathBuf,
    #[command(flatten)]
    pub options: DataOptions,
    /// Store to commit to (made when missing)
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// L2 strength (default: chosen by leave-one-out)
    #[arg(long)]
    pub l2: Option<f32>,
    /// Largest loss of canary accuracy that is accepted, in points of 0..1
    #[arg(long, value_name = "0..1")]
    pub canary_limit: Option<f32>,
    /// The new head knows the classes that have shots alone, not the other ones of the bundle
    #[arg(long)]
    pub only_taught: bool,
    /// Forget the shots of earlier generations instead of tuning on all
    #[arg(long)]
    pub fresh: bool,
    /// Say what would happen, commit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Generations that the store keeps from now on (1: older shots are gone with this commit) [default: 16]
    #[arg(long, value_name = "N")]
    pub keep: Option<NonZeroUsize>,
    #[command(flatten)]
    pub on: On,
}

/// The providers of this build, for the help.
fn providers() -> String {
    let all = names().join(", ");
    match PROVIDERS {
        [only] => format!("{all} (default: {only})"),
        several => format!("{all} (default: the first of {} that can run the bundle)", several.join(", ")),
    }
}

/// What runs the backbone.
#[derive(Debug, Args)]
pub struct On {
    /// The first that loads runs; where it fails, the next takes over
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", help = format!("What runs the backbone, in the order of preference: {}", providers()))]
    pub provider: Vec<String>,
    #[command(flatten)]
    pub library: Library,
}

/// Where ONNX Runtime's library is.
#[cfg(feature = "ort")]
#[derive(Debug, Default, Args)]
pub struct OrtLib {
    /// Library of ONNX Runtime, or a folder that has it (default: looked for; see `hone providers`)
    #[arg(long, value_name = "PATH")]
    pub ort_lib: Option<PathBuf>,
}

/// ONNX Runtime's library and what its sessions keep.
#[derive(Debug, Default, Args)]
pub struct Library {
    #[cfg(feature = "ort")]
    #[command(flatten)]
    pub library: OrtLib,
    /// Keep optimized models in this folder, so that the next load is quicker
    #[cfg(feature = "ort")]
    #[arg(long, value_name = "DIR")]
    pub session_cache: Option<PathBuf>,
}

impl Library {
    /// How providers are loaded.
    pub fn settings(&self) -> Result<Settings> {
        #[allow(unused_mut, reason = "without ONNX Runtime there is nothing to set")]
        let mut settings = Settings::new(hone_runtime::kernels::best()?);
        #[cfg(feature = "ort")]
        {
            settings.ort.library.clone_from(&self.library.ort_lib);
            settings.ort.cache.clone_from(&self.session_cache);
        }
        Ok(settings)
    }
}

#[cfg(feature = "ort")]
#[derive(Debug, Args)]
pub struct Providers {
    #[command(flatten)]
    pub library: OrtLib,
}

#[cfg(feature = "ort")]
#[derive(Debug, Args)]
pub struct Probe {
    pub provider: String,
    #[command(flatten)]
    pub library: OrtLib,
}

#[derive(Debug, Args)]
pub struct Predict {
    /// Bundle (.hone)
    pub bundle: PathBuf,
    /// Store with the tuned head (default: the bundle's own head)
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Images, wav files, .npy with rows, .txt with a text a line, …
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Answers a row, at least 1
    #[arg(long, value_name = "N", default_value = "3")]
    pub top: NonZeroUsize,
    #[command(flatten)]
    pub on: On,
}

#[derive(Debug, Subcommand)]
pub enum Head {
    /// The head in force
    Show(HeadTarget),
    /// All generations in the store
    History(HeadTarget),
    /// Put an earlier generation back in force (as a new generation)
    Rollback {
        #[command(flatten)]
        target: HeadTarget,
        /// Generation to return to (default: the one before)
        #[arg(long)]
        to: Option<u32>,
    },
    /// Remove a class and its shots
    RemoveClass {
        #[command(flatten)]
        target: HeadTarget,
        /// Name of the class
        #[arg(long)]
        class: String,
        /// Generations that the store keeps (1: nothing of the class is left on the disk) [default: 16]
        #[arg(long, value_name = "N")]
        keep: Option<NonZeroUsize>,
    },
    /// Forget the stored shots (the head stays)
    Forget {
        #[command(flatten)]
        target: HeadTarget,
        /// Only this class's shots
        #[arg(long)]
        class: Option<String>,
        /// Generations that the store keeps (1: the shots are gone from the disk, and with them the way back) [default: 16]
        #[arg(long, value_name = "N")]
        keep: Option<NonZeroUsize>,
    },
    /// Re-centre the head for another provider than the one that it was tuned on, or say that it does not hold there
    #[cfg(feature = "bench")]
    Move {
        #[command(flatten)]
        target: HeadTarget,
        /// Provider that it was tuned on (default: what the store says, or native)
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
        /// Provider that it is to answer for
        #[arg(long, value_name = "NAME")]
        provider: String,
        /// Inputs of every class, which both embed; labels are not needed
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        #[command(flatten)]
        options: Box<DataOptions>,
        /// Smallest share of answers that must stay the same
        #[arg(long, value_name = "0..1", default_value_t = hone_runtime::head::drift::AGREEMENT_LIMIT)]
        min_agreement: f32,
        /// Say what would happen, commit nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        library: Library,
    },
    /// Write backbone and head as one plain ONNX file
    #[cfg(feature = "export")]
    ExportOnnx {
        #[command(flatten)]
        target: HeadTarget,
        /// File to write
        #[arg(long)]
        out: PathBuf,
        /// Replace the file
        #[arg(long)]
        force: bool,
    },
}

impl Head {
    /// What every one of them works on.
    pub fn target(&self) -> &HeadTarget {
        match self {
            Self::Show(target) | Self::History(target) => target,
            Self::Rollback { target, .. } | Self::RemoveClass { target, .. } | Self::Forget { target, .. } => target,
            #[cfg(feature = "bench")]
            Self::Move { target, .. } => target,
            #[cfg(feature = "export")]
            Self::ExportOnnx { target, .. } => target,
        }
    }
}

#[derive(Debug, Args)]
pub struct HeadTarget {
    /// Bundle (.hone)
    pub bundle: PathBuf,
    /// Store with the generations
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Bundle (.hone)
    pub bundle: PathBuf,
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", help = format!("What runs the backbone, each timed: {}", providers()))]
    pub provider: Vec<String>,
    #[command(flatten)]
    pub library: Library,
    /// Timed runs of each provider, at least 1 (default: what fits into a tenth of --seconds, 100 to 20000)
    #[arg(long)]
    pub runs: Option<usize>,
    /// Rows to run on (default: seeded random inputs)
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub options: DataOptions,
    /// The original model, timed beside the bundle and compared with it
    #[cfg(feature = "export")]
    #[arg(long, value_name = "MODEL.onnx")]
    pub original: Option<PathBuf>,
    #[cfg(feature = "bench")]
    #[command(flatten)]
    pub how: How,
}

#[cfg(feature = "bench")]
#[derive(Debug, Args)]
pub struct Doctor {
    /// A bundle (.hone) to look at as well
    pub bundle: Option<PathBuf>,
    /// A store to look at as well
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    #[cfg(feature = "ort")]
    #[command(flatten)]
    pub library: OrtLib,
}

/// Scenarios of MLPerf's kind.
#[cfg(feature = "bench")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One row after the other: latency, judged by its 90th percentile
    SingleStream,
    /// All rows at once: throughput
    Offline,
}

/// How long the process of a provider may be silent.
#[cfg(feature = "bench")]
#[derive(Debug, Args)]
pub struct Patience {
    /// A provider is given up when it has said nothing for so many seconds: neither loaded, nor made a run
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    pub patience: std::num::NonZeroU32,
}

#[cfg(feature = "bench")]
impl Patience {
    pub fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.patience.get().into())
    }
}

/// How a bench measures.
#[cfg(feature = "bench")]
#[derive(Debug, Args)]
pub struct How {
    /// Longest time for the timed runs of a provider, in seconds
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// What is measured
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_values = ["single-stream", "offline"])]
    pub scenario: Vec<Scenario>,
    /// Threads for throughput, each with a backbone of its own (default: 1 and all processors)
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    pub threads: Vec<NonZeroUsize>,
    /// Rows at a time for throughput
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_value = "1")]
    pub batch: Vec<NonZeroUsize>,
    /// Compare with what an earlier `hone bench --json` printed
    #[arg(long, value_name = "FILE.json")]
    pub compare: Option<PathBuf>,
    /// Exit code 1 where --compare finds a provider slower
    #[arg(long, requires = "compare")]
    pub fail_on_regression: bool,
    /// Instead of timing, see whether each provider takes the whole backbone, and say what it leaves and why; exit code 1 where one does
    /// not
    #[arg(long, conflicts_with_all = ["profile", "compare", "html", "cross"])]
    pub preflight: bool,
    /// Also tune a head on K shots a class on each provider, and try each on every provider (labelled --data)
    #[arg(long, value_name = "K", requires = "data")]
    pub cross: Option<NonZeroUsize>,
    /// Also time every operator
    #[arg(long)]
    pub profile: bool,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub patience: Patience,
}

/// One provider of a bench, in a process of its own.
#[cfg(feature = "bench")]
#[derive(Debug, Args)]
pub struct BenchWorker {
    pub bundle: PathBuf,
    #[arg(long)]
    pub provider: String,
    #[arg(long)]
    pub inputs: PathBuf,
    #[cfg(feature = "export")]
    #[arg(long)]
    pub original: Option<PathBuf>,
    #[command(flatten)]
    pub library: Library,
}
