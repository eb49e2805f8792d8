//! The paved road on a backbone whose input is the embedding: what is answered, kept, refused and undone.
#![cfg(feature = "std")]

use std::num::NonZeroUsize;
use std::path::Path;

use hone_runtime::bundle::{BundleParts, EmbeddingKind, InputSpec};
use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::store::{Action, Draft, Measures, Store};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::{LeftOut, Options};
use hone_runtime::{Backbone, Bundle, EmbeddingSpec, Error, Fingerprint, QuantParams, Result, Session};

const BACKBONE: Fingerprint = Fingerprint([7; 16]);
const SPEC: EmbeddingSpec =
    EmbeddingSpec { dim: 3, kind: EmbeddingKind::Int8(QuantParams { scale: 0.02, zero_point: -5 }) };

/// The input is the embedding.
struct Direct(EmbeddingSpec, [usize; 1]);

impl Backbone for Direct {
    fn provider(&self) -> &str {
        "direct"
    }
    fn input_shape(&self) -> &[usize] {
        &self.1
    }
    fn embedding(&self) -> EmbeddingSpec {
        self.0
    }
    fn embed(&mut self, input: &[f32], row: &mut [u8]) -> Result<()> {
        self.0.quantize_row(input, row)
    }
}

const DIRECT: Direct = Direct(SPEC, [3]);

/// A head that answers with the largest of the three inputs.
fn base_head() -> Vec<u8> {
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: BACKBONE,
        embedding: SPEC,
        labels: &["x", "y", "z"],
        bias: &[0.0; 3],
        weights: Weights::F32(&[9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0]),
    };
    parts.to_bytes().unwrap()
}

fn bundle_bytes(with_head: bool) -> Vec<u8> {
    let head = base_head();
    let parts = BundleParts {
        input: InputSpec::new("input", &[3]).unwrap(),
        embedding: SPEC,
        head: with_head.then_some(&head),
        ..BundleParts::new(b"the ONNX file", BACKBONE)
    };
    parts.to_bytes().unwrap()
}

fn open<'b>(bundle: &Bundle<'b>, home: &Path) -> Session<'b, Direct> {
    Session::open(bundle, DIRECT, home).unwrap()
}

const X: [f32; 3] = [1.0, 0.1, 0.0];
const Y: [f32; 3] = [0.1, 1.0, 0.2];
const Z: [f32; 3] = [0.0, 0.3, 1.0];

#[test]
fn answers_with_the_bundles_head_before_the_first_commit() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let mut session = open(&Bundle::parse(&bytes).unwrap(), &home.path().join("store"));
    assert_eq!(session.predict(&Y).unwrap().label, "y");
    let scores = session.scores(&Z).unwrap();
    assert!(scores[2] > 0.99 && (scores.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{scores:?}");
    assert_eq!(session.commit().unwrap(), None, "nothing was learned");
    assert!(!home.path().join("store").exists(), "opening and predicting wrote");
}

#[test]
fn without_any_head_it_can_be_taught_but_not_asked() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(false);
    let mut session = open(&Bundle::parse(&bytes).unwrap(), home.path());
    session.teach("new", &X).unwrap();
    for error in [session.predict(&X).unwrap_err(), session.commit().unwrap_err(), session.rollback(0).unwrap_err()] {
        assert_eq!(error.code(), "missing-section", "{error}");
    }
    assert_eq!(session.shots().count(), 1);
}

#[test]
fn taught_shots_outlive_the_session_once_committed() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    session.set_time(Some(1_700_000_000));
    session.teach("y", &Y).unwrap();
    session.teach("new", &X).unwrap();
    session.teach("y", &Z).unwrap();
    assert_eq!(session.commit().unwrap(), Some(1));
    session.teach("lost", &X).unwrap();

    let session = open(&bundle, home.path());
    let mut row = [0; 3];
    SPEC.quantize_row(&Z, &mut row).unwrap();
    let shots: Vec<_> = session.shots().collect();
    assert_eq!(shots.iter().map(|shot| shot.label).collect::<Vec<_>>(), ["y", "new", "y"]);
    assert_eq!(shots[2].row, row);
    let [entry] = session.history() else { panic!("one generation") };
    assert_eq!((entry.action.borrowed(), entry.time), (Action::Taught { shots: 3 }, Some(1_700_000_000)));
    assert_eq!(entry.head_crc, HeadView::parse(&base_head()).unwrap().crc());
}

#[test]
fn a_tuned_head_answers_once_it_is_committed() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    session.teach("up", &X).unwrap();
    session.teach("down", &Y).unwrap();
    let tuned = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: BACKBONE,
        embedding: SPEC,
        labels: &["up", "down"],
        bias: &[0.0; 2],
        weights: Weights::Int8 { scales: &[0.1, 0.2], rows: &[90, 0, 0, 0, 45, 0] },
    };
    let record = tuned.to_bytes().unwrap();
    let measures = Measures { method: 1, l2: Some(0.125), loo_accuracy: Some(1.0), ..Measures::default() };
    let left_out = [LeftOut::Right, LeftOut::Unjudged];
    assert_eq!(session.stage(&record, measures, &left_out[..1], &[]).unwrap_err().code(), "shape");
    assert_eq!(session.stage(&record, measures, &left_out, &[LeftOut::New]).unwrap_err().code(), "shape");
    let foreign = HeadParts { fingerprint: Fingerprint([8; 16]), ..tuned }.to_bytes().unwrap();
    assert_eq!(session.stage(&foreign, measures, &left_out, &[]).unwrap_err().code(), "fingerprint-mismatch");

    session.stage(&record, measures, &left_out, &[]).unwrap();
    assert_eq!(session.predict(&Y).unwrap().label, "y", "not committed yet");
    assert_eq!(session.commit().unwrap(), Some(1));
    assert_eq!(session.predict(&Y).unwrap().label, "down");
    let mut session = open(&bundle, home.path());
    assert_eq!(session.predict(&X).unwrap().label, "up");
    assert_eq!(session.shots().map(|shot| shot.left_out).collect::<Vec<_>>(), left_out);
    assert_eq!((session.history()[0].measures, session.history()[0].action.name()), (measures, "tuned"));

    // A head that has not seen the newest shot is not committed.
    session.stage(&base_head(), measures, &left_out, &[]).unwrap();
    session.teach("up", &Z).unwrap();
    session.commit().unwrap();
    assert_eq!(session.history()[1].action.name(), "taught");
    assert_eq!(session.head().unwrap().as_bytes(), record);
    session.remove_class("down").unwrap();
    assert_eq!(session.labels().unwrap().iter().collect::<Vec<_>>(), ["up"]);
}

/// Inputs near `of`, each a little different.
fn near(of: [f32; 3], seed: u32) -> [f32; 3] {
    let wobble = |i: u32| ((seed * 37 + i * 11) % 19) as f32 / 19.0 - 0.5;
    [of[0] + 0.3 * wobble(0), of[1] + 0.3 * wobble(1), of[2] + 0.3 * wobble(2)]
}

#[test]
fn tuning_learns_new_classes_and_a_second_tuning_sees_all_shots() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(false);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    assert_eq!(session.tune(&Options::default()).unwrap_err(), Error::ZeroShots);
    session.teach("up", &X).unwrap();
    assert_eq!(session.tune(&Options::default()).unwrap_err(), Error::OneClass);
    for seed in 0..4 {
        session.teach("up", &near(X, seed)).unwrap();
        session.teach("down", &near(Y, seed)).unwrap();
    }
    let outcome = session.tune(&Options::default()).unwrap();
    assert!(outcome.decision.accepted, "{}", outcome.decision.reason);
    assert_eq!(session.predict(&X).unwrap_err().code(), "missing-section", "not committed yet");
    session.commit().unwrap();

    let mut session = open(&bundle, home.path());
    assert_eq!(session.predict(&near(X, 9)).unwrap().label, "up");
    assert_eq!(session.predict(&near(Y, 9)).unwrap().label, "down");
    let measures = session.history()[0].measures;
    assert_eq!((measures.method, measures.l2, measures.loo_accuracy), (1, Some(outcome.fit.l2), outcome.loo_accuracy));
    assert!(session.shots().all(|shot| shot.left_out != LeftOut::New));

    for seed in 0..4 {
        session.teach("side", &near(Z, seed)).unwrap();
    }
    let outcome = session.tune(&Options::default()).unwrap();
    assert!(outcome.decision.accepted, "{}", outcome.decision.reason);
    assert_eq!((outcome.evidence.shots_added, outcome.evidence.classes_added), (4, 1));
    assert_eq!(session.commit().unwrap(), Some(2));
    assert_eq!(session.labels().unwrap().iter().collect::<Vec<_>>(), ["up", "down", "side"]);
    for (label, of) in [("up", X), ("down", Y), ("side", Z)] {
        assert_eq!(session.predict(&near(of, 9)).unwrap().label, label);
    }
    session.rollback(1).unwrap();
    assert_eq!(session.labels().unwrap().len(), 2);
    assert_eq!(session.shots().count(), 9);
}

#[test]
fn a_head_that_is_no_better_is_refused_and_the_shots_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    // Labels that have nothing to do with the inputs.
    for seed in 0..12 {
        session.teach(["x", "y"][seed as usize / 2 % 2], &near([X, Y][seed as usize % 2], seed)).unwrap();
    }
    let outcome = session.tune(&Options::default()).unwrap();
    assert!(!outcome.decision.accepted, "{}", outcome.decision.reason);
    assert_eq!(session.commit().unwrap(), Some(1));
    assert_eq!(session.history()[0].action.borrowed(), Action::Taught { shots: 12 });
    assert_eq!(session.head().unwrap().as_bytes(), base_head());
}

#[test]
fn the_same_shots_give_the_same_head_byte_for_byte() {
    let head = || {
        let home = tempfile::tempdir().unwrap();
        let bytes = bundle_bytes(false);
        let mut session = open(&Bundle::parse(&bytes).unwrap(), home.path());
        for seed in 0..5 {
            session.teach("up", &near(X, seed)).unwrap();
            session.teach("down", &near(Y, seed)).unwrap();
        }
        session.tune(&Options::default()).unwrap();
        session.commit().unwrap();
        session.head().unwrap().as_bytes().to_vec()
    };
    assert_eq!(head(), head());
}

#[test]
fn a_class_leaves_head_and_shots_and_comes_back_by_rollback() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    for (label, input) in [("x", X), ("y", Y), ("z", Z)] {
        session.teach(label, &input).unwrap();
    }
    session.commit().unwrap();
    assert_eq!(session.remove_class("y").unwrap(), 2);
    assert_eq!(session.labels().unwrap().iter().collect::<Vec<_>>(), ["x", "z"]);
    assert_eq!(session.shots().map(|shot| shot.label).collect::<Vec<_>>(), ["x", "z"]);
    assert_ne!(session.predict(&Y).unwrap().label, "y");
    assert_eq!(session.predict(&Z).unwrap().label, "z");
    let error = session.remove_class("y").unwrap_err();
    assert_eq!(error, Error::UnknownLabel { label: "y".into(), classes: 2 });
    session.remove_class("x").unwrap();
    assert_eq!(session.remove_class("z").unwrap_err().code(), "bounds", "the last class");

    assert_eq!(session.rollback(1).unwrap(), 4);
    assert_eq!(session.predict(&Y).unwrap().label, "y");
    assert_eq!(session.shots().count(), 3);
    assert_eq!(session.rollback(9).unwrap_err().code(), "unknown-generation");
    assert_eq!(session.rollback(0).unwrap(), 5);
    assert_eq!(session.head().unwrap().as_bytes(), base_head());
    assert_eq!(session.shots().count(), 0);
    let actions: Vec<_> = session.history().iter().map(|entry| entry.action.to_string()).collect();
    assert_eq!(
        actions,
        [
            "taught 3 shots, head unchanged",
            "class 'y' removed",
            "class 'x' removed",
            "rolled back to 1",
            "rolled back to the bundle's head"
        ]
    );
}

#[test]
fn shots_can_be_forgotten() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    assert_eq!(session.forget(None).unwrap_err(), Error::ZeroShots);
    for (label, input) in [("x", X), ("y", Y), ("x", Z), ("y", X)] {
        session.teach(label, &input).unwrap();
    }
    assert_eq!(session.forget(Some("z")).unwrap_err().code(), "unknown-label");
    session.forget(Some("x")).unwrap();
    assert_eq!(session.shots().map(|shot| shot.label).collect::<Vec<_>>(), ["y", "y"]);
    session.forget(None).unwrap();
    let session = open(&bundle, home.path());
    assert_eq!(session.shots().count(), 0);
    let actions: Vec<_> = session.history().iter().map(|entry| entry.action.to_string()).collect();
    assert_eq!(actions, ["forgot 2 shots of 'x'", "forgot 2 shots"]);
}

#[test]
fn shots_that_were_forgotten_before_can_still_be_removed_from_the_medium() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    session.teach("x", &X).unwrap();
    session.commit().unwrap();
    session.forget(None).unwrap();
    assert_eq!(session.forget(None).unwrap_err(), Error::ZeroShots, "sixteen generations are kept");

    let alone = || {
        let store = Store::open(home.path(), BACKBONE).unwrap().with_keep(NonZeroUsize::MIN);
        Session::with_store(&bundle, DIRECT, store).unwrap()
    };
    assert_eq!(alone().forget(Some("y")).unwrap_err().code(), "unknown-label", "no generation has shots of it");
    assert_eq!(alone().forget(Some("x")).unwrap(), 3);
    let session = alone();
    assert_eq!(session.history().iter().map(|entry| (entry.number, entry.shots)).collect::<Vec<_>>(), [(3, 0)]);
    // A damaged file may hold shots as well.
    std::fs::write(home.path().join("gen-00000002.hgen"), b"damaged").unwrap();
    alone().forget(None).unwrap();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().filter(|e| is_generation(e.as_ref().unwrap())).count(), 1);
    assert_eq!(alone().forget(None).unwrap_err(), Error::ZeroShots, "nothing is left to remove");
}

fn is_generation(entry: &std::fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|extension| extension == "hgen")
}

#[test]
fn what_does_not_fit_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let refused = |backbone| Session::open(&bundle, backbone, home.path()).err().unwrap().code();
    assert_eq!(refused(Direct(EmbeddingSpec { dim: 4, ..SPEC }, [3])), "malformed");
    assert_eq!(refused(Direct(SPEC, [4])), "shape");

    let mut session = open(&bundle, home.path());
    assert_eq!(session.teach("", &X).unwrap_err().code(), "bounds");
    assert_eq!(session.teach("x", &X[..2]).unwrap_err().code(), "shape");
    assert_eq!(session.predict(&[0.0, f32::NAN, 0.0]).unwrap_err().code(), "non-finite");
    assert_eq!(session.shots().count(), 0);
}

#[test]
fn a_store_that_does_not_fit_is_refused() {
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let store_of = |backbone: Fingerprint, draft: &Draft<'_>| {
        let home = tempfile::tempdir().unwrap();
        Store::open(home.path(), backbone).unwrap().commit(draft).unwrap();
        home
    };
    let head = base_head();
    let refused = |home: tempfile::TempDir| Session::open(&bundle, DIRECT, home.path()).err().unwrap();

    let other = Fingerprint([8; 16]);
    let error = refused(store_of(other, &Draft::new(Action::Tuned { provider: "native" }, &head)));
    assert_eq!(error, Error::FingerprintMismatch { head: other, backbone: BACKBONE });
    // The record says our backbone, the head inside says another.
    let mut foreign = HeadParts {
        fingerprint: other,
        labels: &["a"],
        bias: &[0.0],
        kind: Kind::Softmax,
        unit: false,
        embedding: SPEC,
        weights: Weights::F32(&[0.0; 3]),
    };
    let error =
        refused(store_of(BACKBONE, &Draft::new(Action::Tuned { provider: "native" }, &foreign.to_bytes().unwrap())));
    assert_eq!(error.code(), "fingerprint-mismatch");
    foreign = HeadParts {
        fingerprint: BACKBONE,
        embedding: EmbeddingSpec { dim: 2, ..SPEC },
        weights: Weights::F32(&[0.0; 2]),
        ..foreign
    };
    assert_eq!(
        refused(store_of(BACKBONE, &Draft::new(Action::Tuned { provider: "native" }, &foreign.to_bytes().unwrap())))
            .code(),
        "malformed"
    );
    assert_eq!(
        refused(store_of(BACKBONE, &Draft::new(Action::Tuned { provider: "native" }, b"no head"))).code(),
        "bad-magic"
    );
    let mut draft = Draft::new(Action::Tuned { provider: "native" }, &head);
    (draft.labels, draft.classes, draft.row_bytes, draft.rows) = (&["x"], &[0], 2, &[1, 2]);
    assert_eq!(refused(store_of(BACKBONE, &draft)).code(), "shape");
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let bundle = Bundle::parse(&bytes).unwrap();
    let mut session = open(&bundle, home.path());
    session.teach("x", &Y).unwrap();
    // Someone else commits first.
    Store::open(home.path(), BACKBONE)
        .unwrap()
        .commit(&Draft::new(Action::Tuned { provider: "native" }, &base_head()))
        .unwrap();
    assert_eq!(session.commit().unwrap_err().code(), "store-changed");
    assert_eq!(session.remove_class("x").unwrap_err().code(), "store-changed");
    assert_eq!(session.forget(None).unwrap_err().code(), "store-changed");
    assert_eq!(session.rollback(0).unwrap_err().code(), "store-changed");
    assert_eq!(session.shots().count(), 1);
    assert_eq!(session.predict(&X).unwrap().label, "x");
    assert!(session.history().is_empty());
}

#[test]
fn a_head_is_moved_to_another_provider_or_refused_there() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(false);
    let mut session = open(&Bundle::parse(&bytes).unwrap(), home.path());
    assert_eq!(session.tuned_on(), None, "there is no head");
    for seed in 0..5 {
        session.teach("up", &near(X, seed)).unwrap();
        session.teach("down", &near(Y, seed)).unwrap();
    }
    session.tune(&Options::default()).unwrap();
    session.commit().unwrap();
    assert_eq!(session.tuned_on(), Some("direct"));

    // Another provider, whose third dimension is off by a constant, and one whose answers are others.
    let there: Vec<u8> = session.shots().flat_map(|shot| shot.row.to_vec()).collect();
    let shifted: Vec<u8> = there
        .chunks(3)
        .flat_map(|row| [row[0], row[1], row[2].cast_signed().saturating_add(9).cast_unsigned()])
        .collect();
    let other: Vec<u8> = there.chunks(3).flat_map(|row| [row[1], row[0], row[2]]).collect();
    let rows = |bytes| Rows::new(bytes, 3).unwrap();
    let before = session.head().unwrap().as_bytes().to_vec();
    let error = session.move_to("other", rows(&there), rows(&other), 0.95).unwrap_err();
    assert_eq!(error.code(), "drift");
    assert!(error.to_string().contains("other") && error.to_string().contains("95.0 %"), "{error}");
    assert_eq!((session.head().unwrap().as_bytes(), session.history().len()), (before.as_slice(), 1));

    let (generation, drift) = session.move_to("shifted", rows(&there), rows(&shifted), 0.95).unwrap();
    assert_eq!((generation, drift.rows, drift.recentred), (2, 10, 1.0));
    assert_eq!((session.tuned_on(), session.shots().count()), (Some("shifted"), 10));
    assert_ne!(session.head().unwrap().as_bytes(), before);
    // What it was tuned on is found behind what changed since, and survives the session.
    session.forget(Some("up")).unwrap();
    let mut again = open(&Bundle::parse(&bytes).unwrap(), home.path());
    assert_eq!(again.tuned_on(), Some("shifted"));
    again.rollback(1).unwrap();
    assert_eq!(again.tuned_on(), Some("direct"));
}

#[test]
fn classes_that_a_tuning_leaves_out_are_named() {
    let home = tempfile::tempdir().unwrap();
    let bytes = bundle_bytes(true);
    let mut session = open(&Bundle::parse(&bytes).unwrap(), home.path());
    for seed in 0..5 {
        session.teach("x", &near(X, seed)).unwrap();
        session.teach("new", &near(Y, seed)).unwrap();
    }
    session.tune(&Options::default()).unwrap();
    // The bundle has no canaries to hold its own classes back.
    assert_eq!(session.dropped(), ["y", "z"]);
}
