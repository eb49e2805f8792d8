//! The paved road: one value that predicts, is taught, tunes, and keeps what was learned.
//!
//! A [`Session`] joins a bundle, the provider of its backbone and a store. What it answers with is always the committed
//! head (the bundle's own until the first commit); taught shots and a tuned head become part of the store, and safe
//! from a power cut, with [`Session::commit`].
//!
//! ```
//! # #[cfg(feature = "alloc")] {
//! use hone_runtime::bundle::{Bundle, BundleParts, EmbeddingKind, EmbeddingSpec, Fingerprint, InputSpec, QuantParams};
//! use hone_runtime::session::Session;
//! use hone_runtime::tune::Options;
//! use hone_runtime::{Backbone, Result};
//!
//! /// Stands in for a real provider: the input is the embedding.
//! struct Direct(EmbeddingSpec);
//! impl Backbone for Direct {
//!     fn provider(&self) -> &str { "direct" }
//!     fn input_shape(&self) -> &[usize] { &[2] }
//!     fn embedding(&self) -> EmbeddingSpec { self.0 }
//!     fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> { self.0.quantize_row(input, row) }
//! }
//!
//! # let home = tempfile::tempdir().unwrap();
//! let embedding = EmbeddingSpec { dim: 2, kind: EmbeddingKind::Int8(QuantParams { scale: 0.01, zero_point: 0 }) };
//! let parts = BundleParts {
//!     input: InputSpec::new("input", &[2])?,
//!     embedding,
//!     ..BundleParts::new(b"the ONNX file", Fingerprint([7; 16]))
//! };
//! let bytes = parts.to_bytes()?;
//!
//! let bundle = Bundle::parse(&bytes)?;
//! let mut session = Session::open(&bundle, Direct(embedding), home.path())?;
//! session.teach("left", &[1.0, 0.1])?;
//! session.teach("left", &[0.9, 0.2])?;
//! session.teach("right", &[0.2, 0.9])?;
//! session.teach("right", &[0.1, 0.8])?;
//! let outcome = session.tune(&Options::default())?;
//! assert!(outcome.decision.accepted, "{}", outcome.decision.reason);
//! assert_eq!(session.commit()?, Some(1));
//! assert_eq!(session.predict(&[0.8, 0.0])?.label, "left");
//! # }
//! # Ok::<(), hone_runtime::Error>(())
//! ```

mod classes;
mod memory;
mod tuning;

use std::path::Path;

#[allow(unused_imports, reason = "Vec")]
use crate::prelude::*;

use crate::backbone::Backbone;
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::head::drift::Drift;
use crate::head::{HeadView, Labels};
use crate::store::volume::{Folder, Volume};
use crate::store::{Action, Draft, Entry, Generation, Measures, Shot, Store};
use crate::tensor::Rows;
use crate::tune::{LeftOut, Options, Outcome};
use classes::without_class;
use memory::Memory;

/// The head's answer to one input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<'a> {
    /// Index of the class.
    pub class: usize,
    /// Its label.
    pub label: &'a str,
    /// Its probability for softmax and sigmoid heads, its logit for the others.
    pub score: f32,
}

/// A head that tuning made and the gate let pass, not yet committed.
#[derive(Debug, Clone)]
struct Candidate {
    head: Vec<u8>,
    measures: Measures,
    left_out: Vec<LeftOut>,
    canaries: Vec<LeftOut>,
}

/// A bundle at work, with the head that its owner taught it.
#[derive(Debug)]
pub struct Session<'b, B, V = Folder> {
    bundle: Bundle<'b>,
    backbone: B,
    store: Store<V>,
    /// The committed head's record, or the bundle's; `None`: neither has one.
    head: Option<Vec<u8>>,
    measures: Measures,
    memory: Memory,
    /// Per canary of the bundle: what the gate has to know of it with respect to `head`; empty: all new to it.
    canaries: Vec<LeftOut>,
    /// Shots taught since the last commit.
    unsaved: usize,
    candidate: Option<Candidate>,
    /// Classes that the last tuning left out.
    dropped: Vec<String>,
    /// One embedding row, reused.
    row: Vec<u8>,
    time: Option<u64>,
}

impl<'b, B: Backbone> Session<'b, B> {
    /// Opens `bundle` on `backbone`, with the store in the folder `store` (missing: empty, made at the first commit).
    ///
    /// Refuses a backbone whose input or embedding is not the bundle's, and a store that was made for another one
    /// ([`Error::FingerprintMismatch`]). Writes nothing.
    pub fn open(bundle: &Bundle<'b>, backbone: B, store: impl AsRef<Path>) -> Result<Self> {
        Session::with_store(bundle, backbone, Store::open(store, bundle.fingerprint)?)
    }
}

impl<'b, B: Backbone, V: Volume> Session<'b, B, V> {
    /// Opens `bundle` with a store that is already open.
    pub fn with_store(bundle: &Bundle<'b>, backbone: B, store: Store<V>) -> Result<Self> {
        if store.backbone() != bundle.fingerprint {
            return Err(Error::FingerprintMismatch { head: store.backbone(), backbone: bundle.fingerprint });
        }
        if backbone.embedding() != bundle.embedding {
            return Err(Error::Malformed { what: "backbone", why: "its embedding is not the bundle's" });
        }
        let got = backbone.input_shape().iter().product();
        if got != bundle.input.elements() {
            return Err(Error::Shape {
                what: "values of the backbone's input",
                expected: bundle.input.elements(),
                got,
            });
        }
        let row_bytes = bundle.embedding.row_bytes();
        let mut session = Self {
            bundle: bundle.clone(),
            backbone,
            store,
            head: None,
            measures: Measures::default(),
            memory: Memory::new(row_bytes),
            canaries: Vec::new(),
            unsaved: 0,
            candidate: None,
            dropped: Vec::new(),
            row: vec![0; row_bytes],
            time: None,
        };
        session.reload()?;
        Ok(session)
    }

    /// Stamps the generations that are committed from now on with seconds since 1970-01-01 UTC, or with nothing.
    pub fn set_time(&mut self, time: Option<u64>) {
        self.time = time;
    }

    /// The bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle<'b> {
        &self.bundle
    }

    /// The store, for its warnings and older generations.
    #[must_use]
    pub fn store(&self) -> &Store<V> {
        &self.store
    }

    /// The head that answers: the committed one, or the bundle's own before the first commit.
    pub fn head(&self) -> Result<HeadView<'_>> {
        HeadView::parse(self.head.as_deref().ok_or(Error::Missing { what: "head yet; teach it and tune" })?)
    }

    /// Labels of the classes that the head knows, in their order.
    pub fn labels(&self) -> Result<Labels<'_>> {
        self.head().map(|head| head.labels())
    }

    /// Every shot that the session holds, committed or not, oldest first.
    pub fn shots(&self) -> impl Iterator<Item = Shot<'_>> {
        self.memory.shots()
    }

    /// Every generation in the store, oldest first; the last one is in use.
    #[must_use]
    pub fn history(&self) -> &[Entry] {
        self.store.history()
    }

    /// The provider that the head in use was tuned on, or moved to; `None` for the bundle's own head, and where the store does not say
    /// or no longer has the generation that would.
    #[must_use]
    pub fn tuned_on(&self) -> Option<&str> {
        let entry = |number: u32| self.history().iter().find(|entry| entry.number == number);
        let mut number = self.history().last()?.number;
        // Every step leads to an earlier generation.
        loop {
            let here = entry(number)?;
            let earlier = match &here.action {
                Action::Tuned { provider } | Action::Moved { provider } => {
                    return Some(provider.as_str()).filter(|provider| !provider.is_empty());
                }
                Action::RolledBack { to } => *to,
                _ => here.parent,
            };
            if earlier >= number {
                return None;
            }
            number = earlier;
        }
    }

    /// Embeds `input` (row-major, as the bundle's input says) and gives the head's best class.
    pub fn predict(&mut self, input: &[f32]) -> Result<Answer<'_>> {
        self.embed(input)?;
        let head = self.head()?;
        let best = head.predict(&self.row)?;
        Ok(Answer { class: best.class, label: head.label(best.class).unwrap_or_default(), score: best.score })
    }

    /// The head's score of every class, in the order of [`Session::labels`].
    pub fn scores(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        self.embed(input)?;
        let head = self.head()?;
        let mut scores = vec![0.0; head.classes()];
        head.scores(&self.row, &mut scores)?;
        Ok(scores)
    }

    /// Adds one shot: `input` is an example of `label`, which may be new. The head changes with the next tuning.
    ///
    /// Drops a tuned head that was not committed yet, since it has not seen this shot.
    pub fn teach(&mut self, label: &str, input: &[f32]) -> Result<()> {
        self.embed(input)?;
        self.memory.add(label, &self.row, LeftOut::New)?;
        self.unsaved += 1;
        self.candidate = None;
        Ok(())
    }

    /// As [`Session::teach`], for an example that is embedded already: one row as the bundle stores it.
    pub fn teach_row(&mut self, label: &str, row: &[u8]) -> Result<()> {
        let expected = self.bundle.embedding.row_bytes();
        if row.len() != expected {
            return Err(Error::Shape { what: "bytes of an embedding row", expected, got: row.len() });
        }
        self.memory.add(label, row, LeftOut::New)?;
        self.unsaved += 1;
        self.candidate = None;
        Ok(())
    }

    /// Drops every shot that the session holds. The store keeps those that were committed until the next commit.
    pub fn drop_shots(&mut self) {
        self.memory = Memory::new(self.bundle.embedding.row_bytes());
        (self.unsaved, self.candidate) = (0, None);
    }

    /// Tunes a new head on every shot that the session holds and on the bundle's canaries.
    ///
    /// Where the acceptance gate lets it pass ([`Outcome::decision`]), the new head waits for [`Session::commit`];
    /// otherwise nothing changes and the shots are kept. The new head starts from the bundle's own where canaries of
    /// its classes are replayed. It has the classes of the one in use that have a shot or a canary to learn from or a row there, then the
    /// new ones in the order of their first shots. Without canaries others leave the bundle's own head; a head that was tuned drops
    /// classes only where [`Options::drop_classes`] allows it.
    ///
    /// Errors: [`Error::ZeroShots`], [`Error::OneClass`], [`Error::EmptyClass`], options out of range.
    pub fn tune(&mut self, options: &Options) -> Result<Outcome> {
        self.candidate = None;
        let head = self.head.as_deref().map(HeadView::parse).transpose()?;
        let old = head.map(|head| (head, self.canaries.as_slice()));
        let own = self.bundle.head.map(|head| head.as_bytes());
        let options = Options { drop_classes: options.drop_classes || self.head.as_deref() == own, ..*options };
        let (outcome, candidate, dropped) = tuning::tune(&self.bundle, &self.memory, old, &options)?;
        self.dropped = dropped;
        if outcome.decision.accepted {
            self.candidate = Some(candidate);
        }
        Ok(outcome)
    }

    /// Classes of the head that was in use when [`Session::tune`] was called last and that the new one does not have.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Takes a head that was tuned on the session's shots, and that the acceptance gate let pass, for the next commit.
    ///
    /// `left_out` has one entry a shot, in the order of [`Session::shots`], `canaries` one a canary of the bundle or
    /// none at all. Refuses a head of another backbone or embedding.
    pub fn stage(&mut self, head: &[u8], measures: Measures, left_out: &[LeftOut], canaries: &[LeftOut]) -> Result<()> {
        self.check_head(head)?;
        self.memory.judged(left_out)?;
        let expected = self.bundle.canaries.map_or(0, |canaries| canaries.len());
        if !canaries.is_empty() && canaries.len() != expected {
            return Err(Error::Shape { what: "left-out answers of the canaries", expected, got: canaries.len() });
        }
        let (head, left_out, canaries) = (head.to_vec(), left_out.to_vec(), canaries.to_vec());
        self.candidate = Some(Candidate { head, measures, left_out, canaries });
        Ok(())
    }

    /// Stores the tuned head and every shot as a new generation and answers with it from now on; returns its number.
    ///
    /// Without a tuned head but with new shots, stores those under the head as it is. With neither there is nothing to
    /// commit: `None`. After an error everything is as it was.
    pub fn commit(&mut self) -> Result<Option<u32>> {
        if let Some(candidate) = self.candidate.clone() {
            let memory = self.memory.judged(&candidate.left_out)?;
            let provider = String::from(self.backbone.provider());
            return self.replace(Action::Tuned { provider: &provider }, candidate, memory).map(Some);
        }
        if self.unsaved == 0 {
            return Ok(None);
        }
        let shots = u32::try_from(self.unsaved).unwrap_or(u32::MAX);
        self.replace(Action::Taught { shots }, self.as_it_is()?, self.memory.clone()).map(Some)
    }

    /// Commits a new generation with head and shots of generation `to`; 0: the bundle's own head without shots. Shots
    /// that were never committed, and a tuned head that was not, are dropped.
    pub fn rollback(&mut self, to: u32) -> Result<u32> {
        let number = if to == 0 {
            let head = self.bundle.head.ok_or(Error::Missing { what: "head of its own to go back to" })?;
            let mut draft = Draft::new(Action::RolledBack { to: 0 }, head.as_bytes());
            draft.time = self.time;
            self.store.commit(&draft)?
        } else {
            // What the session could not use is refused before it becomes the active generation.
            self.check(&self.store.read(to)?)?;
            self.store.rollback(to, self.time)?
        };
        self.reload()?;
        Ok(number)
    }

    /// Re-centres the head in use for another provider and commits it as a new generation; returns its number and what was measured.
    /// `there` and `here` are embeddings of the same inputs, best of every class, on the provider that the head was tuned on and on
    /// the one called `provider`. Shots stay as they are: they are from the provider that embedded them.
    ///
    /// # Errors
    /// [`Error::Drift`] where fewer than `limit` of the answers (0 to 1; [`crate::head::drift::AGREEMENT_LIMIT`]) stay the same even then:
    /// nothing is committed. As [`HeadView::recentred`].
    pub fn move_to(&mut self, provider: &str, there: Rows<'_>, here: Rows<'_>, limit: f32) -> Result<(u32, Drift)> {
        let (head, drift) = self.head()?.recentred(there, here)?;
        if drift.recentred < limit {
            return Err(Error::Drift { provider: provider.into(), drift, limit });
        }
        let moved = Candidate { head, ..self.as_it_is()? };
        let number = self.replace(Action::Moved { provider }, moved, self.memory.clone())?;
        Ok((number, drift))
    }

    /// Takes a class out of the head, and its shots out of the session, as a new generation; returns its number.
    ///
    /// Other shots that wait for a commit are stored with it. Refuses an unknown label and the head's last class.
    pub fn remove_class(&mut self, label: &str) -> Result<u32> {
        let head = self.head()?;
        let known = head.labels().position(label).is_some() || self.memory.labels().iter().any(|known| known == label);
        if !known {
            return Err(self.unknown(label));
        }
        let record = without_class(&head, label)?;
        // What was measured, was measured with the class.
        let measures = Measures { method: self.measures.method, l2: self.measures.l2, ..Measures::default() };
        let memory = self.memory.without(Some(label))?;
        let rest = Candidate { head: record, measures, ..self.as_it_is()? };
        self.replace(Action::ClassRemoved { label }, rest, memory)
    }

    /// Drops the shots of `label`, or all of them, as a new generation with the head as it is; returns its number.
    ///
    /// Generations that the store still keeps hold these shots until they are pruned: open the store with
    /// [`Store::with_keep`] of 1 to be rid of them with this commit, also of those that an earlier call forgot, and of damaged files.
    /// Refuses when neither the session nor an earlier generation that goes has such shots.
    pub fn forget(&mut self, label: Option<&str>) -> Result<u32> {
        let memory = self.memory.without(label)?;
        let dropped = self.memory.len() - memory.len();
        match label {
            Some(label) if dropped == 0 && !self.prunes_shots_of(label) => return Err(self.unknown(label)),
            None if dropped == 0 && !self.store.prunes_others() => return Err(Error::ZeroShots),
            _ => {}
        }
        let action =
            Action::Forgot { label: label.unwrap_or_default(), shots: u32::try_from(dropped).unwrap_or(u32::MAX) };
        self.replace(action, self.as_it_is()?, memory)
    }

    /// Whether the next commit removes an earlier generation that holds shots of `label`.
    fn prunes_shots_of(&self, label: &str) -> bool {
        let holds = |entry: &Entry| {
            self.store.read(entry.number).is_ok_and(|generation| generation.shots().any(|shot| shot.label == label))
        };
        self.store.prunes_others() && self.store.history().iter().any(holds)
    }

    /// The head in use, as a candidate.
    fn as_it_is(&self) -> Result<Candidate> {
        let head = self.head()?.as_bytes().to_vec();
        Ok(Candidate { head, measures: self.measures, left_out: Vec::new(), canaries: self.canaries.clone() })
    }

    /// Commits, and only then changes what the session answers with and holds.
    fn replace(&mut self, action: Action<&str>, new: Candidate, memory: Memory) -> Result<u32> {
        let Candidate { head, measures, canaries, .. } = new;
        let store = &mut self.store;
        let number = memory.with_draft(action, self.time, measures, &head, &canaries, |draft| store.commit(draft))?;
        self.head = Some(head);
        (self.measures, self.memory, self.canaries) = (measures, memory, canaries);
        (self.unsaved, self.candidate) = (0, None);
        Ok(number)
    }

    /// Head and shots of the active generation, or of the bundle.
    fn reload(&mut self) -> Result<()> {
        match self.store.active() {
            Some(active) => {
                self.memory = self.check(active)?;
                (self.head, self.measures) = (Some(active.head.clone()), active.measures);
                self.canaries.clone_from(&active.canaries);
            }
            None => {
                self.memory = Memory::new(self.bundle.embedding.row_bytes());
                self.head = self.bundle.head.map(|head| head.as_bytes().to_vec());
                (self.measures, self.canaries) = (Measures::default(), Vec::new());
            }
        }
        (self.unsaved, self.candidate) = (0, None);
        Ok(())
    }

    /// Refuses a generation whose head, shots or canaries do not fit the bundle; gives its shots.
    fn check(&self, generation: &Generation) -> Result<Memory> {
        self.check_head(&generation.head)?;
        let (expected, got) = (self.bundle.canaries.map_or(0, |canaries| canaries.len()), generation.canaries.len());
        if got != 0 && got != expected {
            return Err(Error::Shape { what: "canaries that the store speaks of", expected, got });
        }
        Memory::of(generation, self.bundle.embedding.row_bytes())
    }

    fn check_head(&self, head: &[u8]) -> Result<()> {
        let head = HeadView::parse(head)?;
        head.check_backbone(self.bundle.fingerprint)?;
        if head.embedding() != self.bundle.embedding {
            return Err(Error::Malformed {
                what: "head",
                why: "it takes other embeddings than the bundle's backbone gives",
            });
        }
        Ok(())
    }

    fn embed(&mut self, input: &[f32]) -> Result<()> {
        self.backbone.embed(input, &mut self.row)
    }

    fn unknown(&self, label: &str) -> Error {
        let classes = self.head().map_or(0, |head| head.classes());
        Error::UnknownLabel { label: label.to_owned(), classes }
    }
}
