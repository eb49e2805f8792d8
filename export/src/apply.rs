//! A bundle on data: what every command that uses one shares.
//!
//! [`BundleFile`] keeps the bytes, [`Applied`] is the bundle at work on them. Rows are embedded once ([`Applied::embed`]);
//! accuracy ([`accuracy`]), k-shot tables ([`shots`]), teaching and tuning ([`teach`]) work on the embeddings.
//!
//! ```no_run
//! use hone_export::apply::{Applied, BundleFile, accuracy::{Matching, evaluate}};
//! use hone_export::data::{Options, Source};
//!
//! let file = BundleFile::read("kws.hone")?;
//! let applied = Applied::open(&file)?;
//! let embedded = applied.embed(&mut Source::open("data/", &Options::default())?, &mut |_, _| ())?;
//! let head = applied.bundle.head.expect("a bundle with a head of its own");
//! println!("{:.3}", evaluate(&head, &embedded, Matching::default())?.top1);
//! # Ok::<(), hone_export::Error>(())
//! ```

pub mod accuracy;
#[cfg(feature = "onnx")]
mod backbone;
mod files;
pub mod latency;
#[cfg(feature = "onnx")]
pub mod original;
#[cfg(feature = "onnx")]
pub mod plain;
pub mod shots;
pub mod teach;

pub use files::HeadInForce;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hone_runtime::backbone::provider::{Chain, Settings};
use hone_runtime::kernels;
use hone_runtime::store::Store;
use hone_runtime::{Backbone as _, Bundle, Session};
use rayon::prelude::*;

use crate::data::{Preprocessor, Row, Source, read_plain};
use crate::{Error, Result};

/// Largest bundle that is read.
pub const FILE_LIMIT_BYTES: u64 = 2 << 30;

/// Rows that are read before they are embedded together.
const BATCH: usize = 32;

/// Told how many of how many rows are done.
pub type Progress<'a> = dyn FnMut(usize, usize) + 'a;

/// The bytes of a bundle, for [`Applied`] to borrow from.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// The file.
    pub bytes: Vec<u8>,
}

impl BundleFile {
    /// Reads the file; what is in it is checked by [`Applied::open`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`] for what is no regular file, [`Error::TooLarge`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self { path: path.to_path_buf(), bytes: read_plain(path, "the file", FILE_LIMIT_BYTES)? })
    }
}

/// A bundle with its preprocessing and its backbone, ready for rows of data.
pub struct Applied<'b> {
    /// Where it was read from.
    pub path: &'b Path,
    /// The bundle.
    pub bundle: Bundle<'b>,
    /// From a row to the backbone's input.
    pub preprocessor: Preprocessor,
    /// From the input to the embedding.
    pub backbone: Chain<'b>,
    /// How providers are loaded.
    pub settings: Settings,
    /// Backbones of other threads that are not in use.
    idle: Mutex<Vec<Chain<'b>>>,
    /// What parsing the bundle and loading the backbone took, in milliseconds.
    pub load_ms: f64,
}

/// Rows of data as embeddings.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// The data.
    pub path: PathBuf,
    /// Embedding rows, one after the other.
    pub rows: Vec<u8>,
    /// Bytes of one row.
    pub row_bytes: usize,
    /// Per row: index into `classes`.
    pub labels: Option<Vec<usize>>,
    /// Class names of the data.
    pub classes: Vec<String>,
    /// Per row: file name, or `FILE#ROW`.
    pub ids: Vec<String>,
    /// Time that the backbone took for all rows, in milliseconds of the clock on the wall.
    pub embed_ms_total: f64,
}

impl Embedded {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Row `index`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u8] {
        &self.rows[index * self.row_bytes..][..self.row_bytes]
    }

    /// The class of each row.
    ///
    /// # Errors
    /// [`Error::Data`] when the data has no labels.
    pub fn labels(&self) -> Result<&[usize]> {
        self.labels.as_deref().ok_or_else(|| {
            Error::data(
                &self.path,
                "labels are needed and there are none: use one sub-folder a class, y.npy beside x.npy, or name a file or a column of labels",
            )
        })
    }
}

impl<'b> Applied<'b> {
    /// Checks the bundle and loads its backbone on the first provider that can run it.
    ///
    /// # Errors
    /// As [`Applied::open_on`].
    pub fn open(file: &'b BundleFile) -> Result<Self> {
        Self::open_on(file, &[], Settings::new(kernels::best()?))
    }

    /// Checks the bundle and loads its backbone on the first of `providers` that can run it; of none: the native engine, or the next
    /// provider where the bundle has no plan for it. [`Chain::take_notices`] says why where it is not the first.
    ///
    /// # Errors
    /// What [`Bundle::parse`], [`Preprocessor::new`] and the provider say, naming the file.
    pub fn open_on(file: &'b BundleFile, providers: &[String], settings: Settings) -> Result<Self> {
        let place = || Error::place(file.path.display());
        let start = Instant::now();
        let bundle = Bundle::parse(&file.bytes).map_err(place())?;
        let parsed = start.elapsed();
        check_backbone(&bundle, &file.path)?;
        let start = Instant::now();
        let backbone = Chain::load(&bundle, providers, &settings).map_err(place())?;
        let load_ms = (parsed + start.elapsed()).as_secs_f64() * 1e3;
        let vocabulary = bundle.vocabulary.map(|tokens| (tokens, file.path.as_path()));
        let preprocessor = Preprocessor::with_vocabulary(&bundle.preprocess, bundle.input.shape(), vocabulary)?;
        Ok(Self { path: &file.path, bundle, preprocessor, backbone, settings, idle: Mutex::new(Vec::new()), load_ms })
    }

    /// Opens a session on the store in the folder `store`; `keep`: generations that later commits keep.
    ///
    /// # Errors
    /// What [`Session::open`] says, naming the store and the bundle.
    pub fn session(&self, store: &Path, keep: Option<NonZeroUsize>) -> Result<Session<'b, Chain<'b>>> {
        let place = || Error::place(format!("store {}, bundle {}", store.display(), self.path.display()));
        let mut opened = Store::open(store, self.bundle.fingerprint).map_err(|error| match error {
            // It names the file already.
            hone_runtime::Error::File { .. } => Error::Runtime(error),
            _ => place()(error),
        })?;
        if let Some(keep) = keep {
            opened = opened.with_keep(keep);
        }
        Session::with_store(&self.bundle, self.backbone.clone(), opened).map_err(place())
    }

    /// The backbone's input for each row of `source`.
    ///
    /// # Errors
    /// As [`Source::row`] and [`Preprocessor::apply`].
    pub fn inputs(&self, source: &mut Source) -> Result<Vec<Vec<f32>>> {
        source.rows().map(|row| self.preprocessor.apply(&row?)).collect()
    }

    /// Embeds every row in use.
    ///
    /// # Errors
    /// As [`Applied::embed_at`].
    pub fn embed(&self, source: &mut Source, progress: &mut Progress<'_>) -> Result<Embedded> {
        let all: Vec<usize> = (0..source.len()).collect();
        self.embed_at(source, &all, progress)
    }

    /// Embeds the rows at the places `at` of the order of use, in that order.
    ///
    /// # Errors
    /// Each names the row: as [`Source::row`] and [`Preprocessor::apply`], and what the provider says.
    pub fn embed_at(&self, source: &mut Source, at: &[usize], progress: &mut Progress<'_>) -> Result<Embedded> {
        let row_bytes = self.bundle.embedding.row_bytes();
        let mut out = Embedded {
            path: source.path().to_path_buf(),
            rows: Vec::with_capacity(at.len() * row_bytes),
            row_bytes,
            labels: source.is_labelled().then(Vec::new),
            classes: source.classes().to_vec(),
            ids: Vec::with_capacity(at.len()),
            embed_ms_total: 0.0,
        };
        for batch in at.chunks(BATCH) {
            let mut inputs = Vec::with_capacity(batch.len());
            for &place in batch {
                let row = source.row(place)?;
                inputs.push(self.preprocessor.apply(&row)?);
                self.note(&mut out, row);
            }
            let first = out.ids.len() - batch.len();
            let start = Instant::now();
            let rows: Vec<Vec<u8>> = inputs
                .par_iter()
                .enumerate()
                .map_init(
                    || Lent::new(&self.idle, &self.backbone),
                    |lent, (i, input)| {
                        let mut row = vec![0; row_bytes];
                        lent.chain().embed(input, &mut row).map_err(Error::place(&out.ids[first + i]))?;
                        Ok(row)
                    },
                )
                .collect::<Result<_>>()?;
            out.embed_ms_total += start.elapsed().as_secs_f64() * 1e3;
            rows.iter().for_each(|row| out.rows.extend_from_slice(row));
            progress(out.ids.len(), at.len());
        }
        Ok(out)
    }

    /// Embeds one row that comes from no source.
    fn embed_row(&self, path: &Path, row: Row) -> Result<Embedded> {
        let row_bytes = self.bundle.embedding.row_bytes();
        let input = self.preprocessor.apply(&row)?;
        let (mut rows, start) = (vec![0; row_bytes], Instant::now());
        Lent::new(&self.idle, &self.backbone).chain().embed(&input, &mut rows).map_err(Error::place(&row.id))?;
        let embed_ms_total = start.elapsed().as_secs_f64() * 1e3;
        let (path, ids) = (path.to_path_buf(), vec![row.id]);
        Ok(Embedded { path, rows, row_bytes, labels: None, classes: Vec::new(), ids, embed_ms_total })
    }

    fn note(&self, out: &mut Embedded, row: Row) {
        if let (Some(labels), Some(label)) = (&mut out.labels, row.label) {
            labels.push(label);
        }
        out.ids.push(row.id);
    }
}

/// Refuses an ONNX backbone that asks for too much. Plans are checked by the runtime; a build without ONNX has nothing that would run it.
#[allow(clippy::unnecessary_wraps, reason = "without ONNX there is nothing to refuse")]
#[cfg_attr(not(feature = "onnx"), allow(unused_variables, reason = "as above"))]
pub(crate) fn check_backbone(bundle: &Bundle<'_>, path: &Path) -> Result<()> {
    #[cfg(feature = "onnx")]
    backbone::check(bundle.backbone, path)?;
    Ok(())
}

/// A backbone of one thread, taken from those that are idle and given back: a session of a provider is made once a thread.
struct Lent<'p, 'b> {
    chain: Option<Chain<'b>>,
    like: &'p Chain<'b>,
    idle: &'p Mutex<Vec<Chain<'b>>>,
}

impl<'p, 'b> Lent<'p, 'b> {
    fn new(idle: &'p Mutex<Vec<Chain<'b>>>, like: &'p Chain<'b>) -> Self {
        Self { chain: idle.lock().unwrap_or_else(PoisonError::into_inner).pop(), like, idle }
    }

    fn chain(&mut self) -> &mut Chain<'b> {
        self.chain.get_or_insert_with(|| self.like.clone())
    }
}

impl Drop for Lent<'_, '_> {
    fn drop(&mut self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.chain.take());
    }
}
