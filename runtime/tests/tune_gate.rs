//! The gate: each of its rules, and the whole step from shots to a decision.

use hone_runtime::Fingerprint;
use hone_runtime::head::{HeadParts, HeadView, Kind, Weights};
use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec, QuantParams};
use hone_runtime::tensor::Rows;
use hone_runtime::tune::gate::{FORGET_LIMIT, decide};
use hone_runtime::tune::{
    Evidence, Input, Labelled, LeftOut, Memory, NO_CLASS, OldHead, Options, Outcome, Output, tune,
};

/// 50 shots in ten classes, 30 right before and 34 after, 20 canaries all right.
fn usual() -> Evidence {
    Evidence {
        has_old: true,
        shots_added: 10,
        judged: 50,
        old_right: 30,
        new_right: 34,
        gained: 6,
        lost: 2,
        largest_class: 5,
        known: 50,
        known_gained: 6,
        known_lost: 2,
        canaries: 20,
        canaries_before: 20,
        canaries_after: 20,
        ..Evidence::default()
    }
}

#[track_caller]
fn expect(evidence: Evidence, limit: f32, accepted: bool, code: &str, sentence: &str) {
    let decision = decide(&evidence, limit);
    let found = (decision.accepted, decision.reason.code(), decision.reason.to_string());
    assert_eq!(found, (accepted, code, sentence.to_owned()));
}

#[test]
fn each_rule_has_its_sentence() {
    let u = usual();
    let l = FORGET_LIMIT;
    expect(u, l, true, "better", "better: +6 -2 of 50 shots (leave-one-out 0.60 -> 0.68)");
    expect(Evidence { gained: 2, ..u }, l, false, "no-difference", "no difference on 50 shots");
    expect(Evidence { gained: 1, ..u }, l, false, "worse", "worse: +1 -2 of 50 shots");
    let lost = "forgets: canaries 1.00 -> 0.85, limit 0.10";
    expect(Evidence { canaries_after: 17, ..u }, l, false, "forgets", lost);
    // A fall of exactly the limit is allowed; so is any fall with a limit of 1.
    expect(
        Evidence { canaries_after: 18, ..u },
        l,
        true,
        "better",
        "better: +6 -2 of 50 shots (leave-one-out 0.60 -> 0.68)",
    );
    expect(
        Evidence { canaries_after: 0, ..u },
        1.0,
        true,
        "better",
        "better: +6 -2 of 50 shots (leave-one-out 0.60 -> 0.68)",
    );
    expect(Evidence { classes_removed: 1, shots_added: 0, ..u }, l, true, "classes-removed", "classes removed");
    let first = Evidence { has_old: false, canaries: 0, ..u };
    expect(first, l, true, "first-head", "first head, leave-one-out 0.68 on 50 shots");
    expect(Evidence { judged: 0, ..first }, l, true, "first-head", "first head, one shot per class: not measured");
    let single = Evidence { judged: 0, canaries_after: 19, ..u };
    expect(single, l, true, "too-few-shots", "too few shots to measure (1 per class), canaries 1.00 -> 0.95");
    expect(
        Evidence { shots_added: 0, ..single },
        l,
        false,
        "nothing-new",
        "nothing new: no shots or classes since the head in use",
    );
    let guessing = "no better than guessing (0.12 on 50 shots): are the labels right?";
    expect(Evidence { new_right: 6, old_right: 0, ..u }, l, false, "guessing", guessing);
    let dropped = "drops classes: 2 of the head in use have neither shots nor canaries";
    expect(Evidence { classes_removed: 2, classes_dropped: 2, ..u }, l, false, "drops-classes", dropped);
}

/// Six classes come to four: every shot is harder now, and the answers are as good over guessing as they were.
#[test]
fn classes_that_come_may_cost_known_shots() {
    let came = Evidence {
        has_old: true,
        shots_added: 30,
        classes_added: 6,
        judged: 50,
        old_right: 15,
        new_right: 32,
        gained: 24,
        lost: 7,
        largest_class: 5,
        known: 20,
        largest_known: 5,
        known_gained: 1,
        known_lost: 7,
        ..Evidence::default()
    };
    let better = "better: +24 -7 of 50 shots (leave-one-out 0.30 -> 0.64)";
    expect(came, FORGET_LIMIT, true, "better", better);
    // The new classes are not learned either: 0.67 over guessing falls to 0.44.
    let worse = Evidence { new_right: 25, gained: 17, ..came };
    let loses = "loses known classes: +1 -7 of 20 shots, limit 0.10";
    expect(worse, FORGET_LIMIT, false, "loses-known", loses);
    // What chance may have done is no loss: 4 of 20 beyond the limit of 2, with a deviation of 2.
    let few = Evidence { known_gained: 0, known_lost: 4, ..worse };
    expect(few, FORGET_LIMIT, true, "better", "better: +17 -7 of 50 shots (leave-one-out 0.30 -> 0.50)");
    expect(worse, 0.5, true, "better", "better: +17 -7 of 50 shots (leave-one-out 0.30 -> 0.50)");
}

#[test]
fn a_state_survives_its_code() {
    for state in [LeftOut::New, LeftOut::Wrong, LeftOut::Right, LeftOut::Unjudged] {
        assert_eq!(LeftOut::from_code(state as u8), Some(state));
    }
    assert_eq!(LeftOut::from_code(4), None);
}

const DIM: usize = 6;
const SPEC: EmbeddingSpec =
    EmbeddingSpec { dim: DIM, kind: EmbeddingKind::Int8(QuantParams { scale: 0.1, zero_point: 0 }) };

/// A row that points along `axis`, with a little of everything else.
fn row(axis: usize, variant: u8) -> [u8; DIM] {
    core::array::from_fn(|d| if d == axis { 100 } else { variant.wrapping_mul(7).wrapping_add(d as u8 * 5) % 23 })
}

struct Tuned {
    outcome: Outcome,
    shots: Vec<LeftOut>,
    canaries: Vec<LeftOut>,
    record: Vec<u8>,
}

type Old<'a> = (&'a [u8], &'a [u16], &'a [LeftOut], &'a [LeftOut]);

/// The same three classes in the old head.
fn three<'a>(base: &'a Tuned, states: &'a [LeftOut]) -> Option<Old<'a>> {
    Some((&base.record, &[0, 1, 2], states, &[]))
}

/// Tunes; rows are (axis, variant) with their class. Memory is full of NaN beforehand.
fn run(
    shots: &[(usize, u8, u16)],
    canaries: &[(usize, u8, u16)],
    classes: usize,
    old: Option<Old<'_>>,
    options: &Options,
) -> hone_runtime::Result<Tuned> {
    let rows = |list: &[(usize, u8, u16)]| list.iter().flat_map(|&(a, v, _)| row(a, v)).collect::<Vec<u8>>();
    let labels = |list: &[(usize, u8, u16)]| list.iter().map(|&(.., c)| c).collect::<Vec<u16>>();
    let (shot_rows, canary_rows) = (rows(shots), rows(canaries));
    let (shot_classes, canary_classes) = (labels(shots), labels(canaries));
    let (n, m) = (shots.len(), canaries.len());
    let input = Input {
        spec: SPEC,
        classes,
        shots: Labelled { rows: Rows::new(&shot_rows, DIM)?, classes: &shot_classes },
        canaries: Some(Labelled { rows: Rows::new(&canary_rows, DIM)?, classes: &canary_classes }),
        old: match old {
            Some((record, class_of, shots, canaries)) => {
                Some(OldHead { head: HeadView::parse(record)?, class_of, shots, canaries })
            }
            None => None,
        },
        prior: None,
    };
    let mut values = vec![f32::NAN; Memory::values_len(n, m, DIM, classes)];
    let mut indices = vec![9999; Memory::indices_len(n, m)];
    let (mut w, mut b) = (vec![0.0; classes * DIM], vec![0.0; classes]);
    let (mut shot_states, mut canary_states) = (vec![LeftOut::New; n], vec![LeftOut::New; m]);
    let outcome = tune(
        &input,
        options,
        Memory { values: &mut values, indices: &mut indices },
        Output { weights: &mut w, bias: &mut b, shots: &mut shot_states, canaries: &mut canary_states },
    )?;
    let labels: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let record = HeadParts {
        kind: Kind::Softmax,
        unit: true,
        fingerprint: Fingerprint([1; 16]),
        embedding: SPEC,
        labels: &labels,
        bias: &b,
        weights: Weights::F32(&w),
    }
    .to_bytes()?;
    Ok(Tuned { outcome, shots: shot_states, canaries: canary_states, record })
}

#[test]
fn a_class_is_added_and_the_others_are_kept_alive_by_their_canaries() {
    let canaries: Vec<_> = (0..8).map(|i| (i % 2, i as u8, (i % 2) as u16)).collect();
    let base = run(&canaries, &[], 2, None, &Options::default()).unwrap();
    assert!(base.outcome.decision.accepted);

    // Three shots of a third class, none of the first two.
    let shots = [(2, 20, 2), (2, 21, 2), (2, 22, 2)];
    let old = Some((&base.record[..], &[0, 1, NO_CLASS][..], &[][..], &[][..]));
    let tuned = run(&shots, &canaries, 3, old, &Options::default()).unwrap();
    let Outcome { decision, evidence, canary_before, canary_after, .. } = tuned.outcome;
    assert_eq!((evidence.classes_added, evidence.shots_added, evidence.canaries), (1, 3, 8));
    assert_eq!((canary_before, canary_after), (Some(1.0), Some(1.0)));
    assert_eq!(decision.reason.to_string(), "better: +3 -0 of 3 shots (leave-one-out 0.00 -> 1.00)");
    let head = HeadView::parse(&tuned.record).unwrap();
    for (axis, class) in [(0, 0), (1, 1), (2, 2)] {
        assert_eq!(head.predict(&row(axis, 90)).unwrap().class, class);
    }
    // Without replay these classes have nothing to live on.
    let alone = Options { replay_weight: 0.0, ..Options::default() };
    assert_eq!(run(&shots, &canaries, 3, old, &alone).err().map(|e| e.code()), Some("one-class"));
}

#[test]
fn classes_do_not_leave_unasked() {
    let first: Vec<_> = (0..12).map(|i| (i % 3, i as u8, (i % 3) as u16)).collect();
    let base = run(&first, &[], 3, None, &Options::default()).unwrap();
    // Class 2 has no shot any more, and there are no canaries; shots of the other two came.
    let shots: Vec<_> = (20..28).map(|i| (i % 2, i as u8, (i % 2) as u16)).collect();
    let old = Some((&base.record[..], &[0, 1][..], &[][..], &[][..]));
    let unasked = run(&shots, &[], 2, old, &Options::default()).unwrap().outcome;
    assert_eq!((unasked.evidence.classes_dropped, unasked.decision.reason.code()), (1, "drops-classes"));
    for asked in
        [Options { replay_weight: 0.0, ..Options::default() }, Options { drop_classes: true, ..Options::default() }]
    {
        let asked = run(&shots, &[], 2, old, &asked).unwrap().outcome;
        assert_eq!((asked.evidence.classes_removed, asked.evidence.classes_dropped), (1, 0));
        assert_ne!(asked.decision.reason.code(), "drops-classes");
    }
}

#[test]
fn the_next_tuning_compares_left_out_answers() {
    let first: Vec<_> = (0..12).map(|i| (i % 3, i as u8, (i % 3) as u16)).collect();
    let base = run(&first, &[], 3, None, &Options::default()).unwrap();
    assert_eq!(base.outcome.loo_accuracy, Some(1.0));
    assert_eq!(base.shots, [LeftOut::Right; 12]);

    // The same shots again: no difference, whatever the plain answers are.
    let again = run(&first, &[], 3, three(&base, &base.shots), &Options::default()).unwrap();
    assert_eq!(again.outcome.decision.reason.to_string(), "no difference on 12 shots");
    // Had the old head been wrong about two of them, the new one would be better.
    let mut states = base.shots.clone();
    (states[0], states[5]) = (LeftOut::Wrong, LeftOut::Wrong);
    let better = run(&first, &[], 3, three(&base, &states), &Options::default()).unwrap();
    assert!(better.outcome.decision.reason.to_string().starts_with("better: +2 -0 of 12 shots"));
    assert_eq!(better.outcome.loo_old, Some(10.0 / 12.0));
    // A shot that could not be judged then is not compared now.
    states[7] = LeftOut::Unjudged;
    let fewer = run(&first, &[], 3, three(&base, &states), &Options::default()).unwrap();
    assert_eq!(fewer.outcome.evidence.judged, 11);
}

#[test]
fn shots_with_wrong_labels_are_refused() {
    let first: Vec<_> = (0..12).map(|i| (i % 3, i as u8, (i % 3) as u16)).collect();
    let base = run(&first, &[], 3, None, &Options::default()).unwrap();
    let wrong: Vec<_> = (0..12).map(|i| (i % 3, i as u8, ((i + i / 3) % 3) as u16)).collect();
    let canaries: Vec<_> = (0..6).map(|i| (i % 3, 50 + i as u8, (i % 3) as u16)).collect();
    let old = Some((&base.record[..], &[0, 1, 2][..], &[][..], &[][..]));
    let tuned = run(&wrong, &canaries, 3, old, &Options::default()).unwrap();
    assert!(!tuned.outcome.decision.accepted, "{}", tuned.outcome.decision.reason);
    assert_eq!(tuned.canaries.len(), 6);
}

#[test]
fn one_shot_a_class_is_accepted_when_nothing_is_forgotten() {
    let canaries: Vec<_> = (0..12).map(|i| (i % 3, i as u8, (i % 3) as u16)).collect();
    let base = run(&canaries, &[], 3, None, &Options::default()).unwrap();
    let shots = [(0, 30, 0), (1, 31, 1), (2, 32, 2)];
    let old = Some((&base.record[..], &[0, 1, 2][..], &[][..], &[][..]));
    let tuned = run(&shots, &canaries, 3, old, &Options::default()).unwrap();
    let reason = tuned.outcome.decision.reason.to_string();
    assert_eq!(reason, "too few shots to measure (1 per class), canaries 1.00 -> 1.00");
    assert_eq!((tuned.outcome.loo_accuracy, tuned.outcome.fit.l2), (None, 0.125));
    assert_eq!(tuned.shots, [LeftOut::Unjudged; 3]);
}

#[test]
fn a_removed_class_leaves_the_rest() {
    let canaries: Vec<_> = (0..12).map(|i| (i % 3, i as u8, (i % 3) as u16)).collect();
    let base = run(&canaries, &[], 3, None, &Options::default()).unwrap();
    let rest: Vec<_> = canaries.iter().map(|&(a, v, c)| (a, v, [0, NO_CLASS, 1][usize::from(c)])).collect();
    let old = Some((&base.record[..], &[0, 2][..], &[][..], &[][..]));
    let tuned = run(&[], &rest, 2, old, &Options::default()).unwrap();
    assert_eq!(tuned.outcome.decision.reason.to_string(), "classes removed");
    assert_eq!(tuned.outcome.evidence.canaries, 8);
    // Canaries of the class that went stay as they were.
    assert_eq!(tuned.canaries[1], LeftOut::New);
    assert_eq!(tuned.canaries[0], LeftOut::Right);
}

#[test]
fn bad_input_is_refused_by_name() {
    let two = [(0, 1, 0), (1, 2, 1)];
    let code = |shots: &[(usize, u8, u16)], classes, options: Options| {
        run(shots, &[], classes, None, &options).err().map(|e| e.code())
    };
    let ok = Options::default();
    assert_eq!(code(&[], 2, ok), Some("zero-shots"));
    assert_eq!(code(&two[..1], 2, ok), Some("one-class"));
    assert_eq!(code(&two, 3, ok), Some("empty-class"));
    assert_eq!(code(&two, 1, ok), Some("unknown-class"));
    assert_eq!(code(&two, 2, Options { forget_limit: f32::NAN, ..ok }), Some("malformed"));
    assert_eq!(code(&two, 2, Options { replay_weight: -1.0, ..ok }), Some("malformed"));
    let base = run(&two, &[], 2, None, &ok).unwrap();
    let old = Some((&base.record[..], &[0, 2][..], &[][..], &[][..]));
    assert_eq!(run(&two, &[], 2, old, &ok).err().map(|e| e.code()), Some("unknown-class"));
    let old = Some((&base.record[..], &[0][..], &[][..], &[][..]));
    assert_eq!(run(&two, &[], 2, old, &ok).err().map(|e| e.code()), Some("shape"));
}
