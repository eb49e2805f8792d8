//! Promise 3: power may fail at any byte of a commit; the next start has the old head or the new one.
//! And: a volume that is full or cannot be written leaves the old head active, with nothing half-written to be seen.
#![cfg(feature = "std")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::num::NonZeroUsize;

use hone_runtime::store::{Action, Draft, Generation, Store};
use hone_runtime::tune::gate::LeftOut;
use hone_runtime::{Error, Fingerprint};
use proptest::prelude::*;

#[path = "store_power/medium.rs"]
mod medium;
use medium::{Aftermath, Bytes, Fault, Medium};

const BACKBONE: Fingerprint = Fingerprint([7; 16]);
const KEEP: NonZeroUsize = NonZeroUsize::new(3).unwrap();

fn open(medium: &Medium) -> Store<Medium> {
    Store::open_on(medium.clone(), BACKBONE).unwrap().with_keep(KEEP)
}

/// A head of `seed`'s own length and content, with two shots.
fn commit(store: &mut Store<Medium>, seed: u8) -> Result<u32, Error> {
    let head = vec![seed; 20 + usize::from(seed % 7)];
    let mut draft = Draft::new(Action::Tuned { provider: "native" }, &head);
    draft.labels = &["left", "right"];
    draft.classes = &[1, 0];
    draft.left_out = &[LeftOut::Unjudged, LeftOut::Wrong];
    draft.canaries = &[LeftOut::Right];
    draft.row_bytes = 9;
    let rows = [seed ^ 0x55; 18];
    draft.rows = &rows;
    store.commit(&draft)
}

/// Every generation that can be read, by number.
fn everything(store: &Store<Medium>) -> BTreeMap<u32, Generation> {
    store.history().iter().map(|entry| (entry.number, store.read(entry.number).unwrap())).collect()
}

type Change = fn(&mut Store<Medium>) -> Result<u32, Error>;

/// A volume to start from, and a change to interrupt.
fn scenes() -> Vec<(&'static str, Medium, Change)> {
    let filled = |commits: u8| {
        let medium = Medium::default();
        let mut store = open(&medium);
        for seed in 1..=commits {
            commit(&mut store, seed).unwrap();
        }
        medium
    };
    let leftovers = filled(2);
    leftovers.plant("gen-00000003.hgen.tmp", b"cut off");
    leftovers.plant("gen-00000009.hgen.tmp", b"cut off long ago");
    leftovers.plant("notes.txt", b"the owner's own");
    vec![
        ("first", Medium::default(), |store| commit(store, 90)),
        ("second", filled(1), |store| commit(store, 91)),
        ("with leftovers", leftovers, |store| commit(store, 92)),
        ("that prunes", filled(3), |store| commit(store, 93)),
        ("that prunes much", filled(3), |store| {
            *store = open_keeping_one(store);
            commit(store, 94)
        }),
        ("rollback", filled(2), |store| store.rollback(1, None)),
        ("rollback that prunes its origin", filled(3), |store| store.rollback(1, Some(1_700_000_000))),
    ]
}

fn open_keeping_one(store: &Store<Medium>) -> Store<Medium> {
    let medium = store.volume().clone();
    Store::open_on(medium, BACKBONE).unwrap().with_keep(NonZeroUsize::MIN)
}

/// Every combination of what may be left of unsynced bytes and names.
fn aftermaths(medium: &Medium) -> impl Iterator<Item = Aftermath> {
    let bytes = [
        Bytes::Lost,
        Bytes::Kept,
        Bytes::Zeros,
        Bytes::Noise(0x3c),
        Bytes::Blocks { odd: false },
        Bytes::Blocks { odd: true },
    ];
    let names = 1u32 << medium.unsynced_names();
    bytes.into_iter().flat_map(move |bytes| (0..names).map(move |names| Aftermath { bytes, names }))
}

/// Every power cut that the steps of a whole run allow, at every byte of every write.
fn cuts(medium: &Medium, change: Change) -> Vec<Fault> {
    let medium = medium.fork();
    let mut store = open(&medium);
    medium.arm(Fault::None);
    change(&mut store).unwrap();
    let steps = medium.steps();
    let cut = |(at, bytes): (usize, usize)| (0..=bytes).map(move |bytes| Fault::Cut { at, bytes });
    steps.iter().map(|step| step.bytes).enumerate().flat_map(cut).collect()
}

#[test]
fn a_power_cut_at_any_byte_leaves_the_old_or_the_new_generation() {
    for (scene, start, change) in scenes() {
        let old = everything(&open(&start));
        let done = start.fork();
        let number = change(&mut open(&done)).unwrap();
        let new = open(&done).read(number).unwrap();
        let (mut cases, mut as_new) = (0, 0);

        for fault in cuts(&start, change) {
            let medium = start.fork();
            let mut store = open(&medium);
            medium.arm(fault);
            let result = change(&mut store);
            for aftermath in aftermaths(&medium) {
                let case = format!("{scene}: {fault:?}, {aftermath:?}");
                let restarted = medium.restart(aftermath);
                restarted.arm(Fault::None);
                let mut store = open(&restarted);
                assert_eq!(restarted.steps(), [], "{case}: opening wrote");
                assert_eq!(store.warnings(), [], "{case}");

                let active = store.active().map_or(0, |active| active.number);
                let found = everything(&store);
                if active == number {
                    as_new += 1;
                    assert_eq!(found[&number], new, "{case}");
                } else {
                    assert!(result.is_err(), "{case}: was committed, then lost");
                    assert_eq!(found, old, "{case}: neither the old nor the new state");
                }
                // Only pruning takes anything out of the history, from its old end, after the new generation is safe.
                for (number, generation) in &old {
                    let pruned = found.keys().all(|kept| kept > number) || active == new.number;
                    assert!(found.get(number).map_or(pruned, |kept| kept == generation), "{case}: history changed");
                }
                let next = commit(&mut store, 99).unwrap();
                assert_eq!(open(&restarted).active().unwrap().number, next, "{case}: the store is stuck");
                assert!(!restarted.names().iter().any(|name| name.ends_with(".tmp")), "{case}: leftovers stay");
                cases += 1;
            }
        }
        assert!(as_new > 0 && as_new < cases, "{scene}: {as_new} of {cases} ended as new");
        println!("{scene}: {cases} power cuts, {as_new} ended with the new generation");
    }
}

#[test]
fn after_a_commit_has_returned_no_power_cut_undoes_it() {
    for (scene, start, change) in scenes() {
        let medium = start.fork();
        let number = change(&mut open(&medium)).unwrap();
        for aftermath in aftermaths(&medium) {
            let store = open(&medium.restart(aftermath));
            assert_eq!(store.active().unwrap().number, number, "{scene}: {aftermath:?}");
            assert_eq!(store.warnings(), [], "{scene}: {aftermath:?}");
        }
    }
}

#[test]
fn a_full_or_failing_volume_leaves_the_old_generation_and_says_why() {
    for (scene, start, change) in scenes() {
        let old = everything(&open(&start));
        let whole = start.fork();
        let mut store = open(&whole);
        whole.arm(Fault::None);
        change(&mut store).unwrap();
        let steps = whole.steps();
        let renamed = steps.iter().position(|step| step.name == "rename").unwrap();
        for (at, step) in steps.iter().enumerate() {
            let half = step.bytes / 2;
            for fault in [
                Fault::Once { at, bytes: 0, kind: ErrorKind::StorageFull },
                Fault::Once { at, bytes: half, kind: ErrorKind::StorageFull },
                Fault::Once { at, bytes: step.bytes, kind: ErrorKind::Other },
                Fault::Full { at },
                Fault::Dead { at },
            ] {
                let case = format!("{scene}: {fault:?} in {}", step.name);
                let medium = start.fork();
                let mut store = open(&medium);
                medium.arm(fault);
                let result = change(&mut store);
                medium.arm(Fault::None);
                let reopened = open(&medium);
                assert_eq!(reopened.warnings(), [], "{case}");
                match result {
                    // Past the rename only the tidying may fail, and only with a warning; a full disk can still tidy.
                    Ok(number) => {
                        let full = matches!(fault, Fault::Full { .. });
                        assert!(at > renamed || (full && at == renamed), "{case}: the fault went unnoticed");
                        assert_eq!(store.warnings().is_empty(), full, "{case}");
                        assert_eq!(reopened.active().unwrap().number, number, "{case}");
                        continue;
                    }
                    Err(Error::File { path, doing, why }) => {
                        assert!(path.starts_with("medium") && !doing.is_empty() && !why.is_empty(), "{case}");
                    }
                    Err(error) => panic!("{case}: {error}"),
                }
                assert_eq!(store.active(), old.values().last(), "{case}");
                // One case alone cannot be undone: the folder's sync fails and so does taking the name away again.
                if matches!(fault, Fault::Dead { .. }) && at == renamed + 1 {
                    assert!(matches!(commit(&mut store, 99), Err(Error::StoreChanged { .. })), "{case}");
                    continue;
                }
                assert_eq!(everything(&reopened), old, "{case}");
                let next = commit(&mut store, 99).unwrap_or_else(|error| panic!("{case}: retry: {error}"));
                assert_eq!(open(&medium).active().unwrap().number, next, "{case}");
            }
        }
    }
}

#[test]
fn a_commit_takes_the_steps_of_the_specification() {
    let medium = Medium::default();
    let mut store = open(&medium).with_keep(NonZeroUsize::MIN);
    commit(&mut store, 1).unwrap();
    medium.arm(Fault::None);
    commit(&mut store, 2).unwrap();
    let steps: Vec<_> = medium.steps().iter().map(|step| step.name).collect();
    assert_eq!(steps, ["create", "append", "sync", "append", "sync", "rename", "sync_names", "remove"]);
    assert_eq!(medium.steps()[3].bytes, 4, "the commit word comes last, by itself");
}

#[test]
fn bytes_that_come_back_wrong_are_not_committed() {
    /// A medium whose reads of a temporary file differ from what was written.
    #[derive(Clone)]
    struct Worn(Medium);
    use hone_runtime::store::volume::{FileInfo, Volume};
    use std::io::Result;
    impl Volume for Worn {
        type Lock = medium::Lock;
        fn place(&self) -> String {
            self.0.place()
        }
        fn list(&self) -> Result<Vec<FileInfo>> {
            self.0.list()
        }
        fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
            let mut bytes = self.0.read(name, limit)?;
            bytes[50] ^= 1;
            Ok(bytes)
        }
        fn lock(&mut self) -> Result<Option<Self::Lock>> {
            self.0.lock()
        }
        fn create(&mut self, name: &str) -> Result<()> {
            self.0.create(name)
        }
        fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
            self.0.append(name, bytes)
        }
        fn sync(&mut self, name: &str) -> Result<()> {
            self.0.sync(name)
        }
        fn rename(&mut self, from: &str, to: &str) -> Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&mut self, name: &str) -> Result<()> {
            self.0.remove(name)
        }
        fn sync_names(&mut self) -> Result<()> {
            self.0.sync_names()
        }
    }
    let medium = Medium::default();
    let mut store = Store::open_on(Worn(medium.clone()), BACKBONE).unwrap();
    let error = store.commit(&Draft::new(Action::Tuned { provider: "native" }, b"head")).unwrap_err();
    assert!(error.to_string().contains("other bytes came back"), "{error}");
    assert_eq!(medium.names(), [""; 0]);
}

/// One thing that happens to a device.
#[derive(Debug, Clone)]
enum Event {
    Commit(u8),
    /// To the generation so many before the newest.
    Rollback(usize),
    Restart,
    /// The power fails in this step of the next change, at this part of its bytes, with this aftermath.
    Cut {
        at: usize,
        part: u8,
        bytes: u8,
        names: u32,
    },
    Full {
        at: usize,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        any::<u8>().prop_map(Event::Commit),
        (0usize..4).prop_map(Event::Rollback),
        Just(Event::Restart),
        (0usize..12, any::<u8>(), 0u8..6, any::<u32>()).prop_map(|(at, part, bytes, names)| Event::Cut {
            at,
            part,
            bytes,
            names
        }),
        (0usize..8).prop_map(|at| Event::Full { at }),
    ];
    prop::collection::vec(event, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Long lives with many faults, against a map from numbers to contents that knows nothing of files.
    #[test]
    fn a_long_life_with_many_faults_agrees_with_a_map(events in events()) {
        let mut medium = Medium::default();
        let mut store = open(&medium);
        let mut model: BTreeMap<u32, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        let mut cut = None;
        for event in events {
            let before = model.last_key_value().map_or(0, |(number, _)| *number);
            let (content, result) = match event {
                Event::Commit(seed) => {
                    let content = (vec![seed; 20 + usize::from(seed % 7)], vec![seed ^ 0x55; 18]);
                    (content, commit(&mut store, seed))
                }
                Event::Rollback(back) => {
                    let Some(to) = model.keys().rev().nth(back).copied() else { continue };
                    (model[&to].clone(), store.rollback(to, None))
                }
                Event::Restart => {
                    store = open(&medium);
                    continue;
                }
                Event::Cut { at, part, bytes, names } => {
                    medium.arm(Fault::Cut { at, bytes: usize::from(part) });
                    let bytes = match bytes {
                        0 => Bytes::Lost,
                        1 => Bytes::Kept,
                        2 => Bytes::Zeros,
                        3 => Bytes::Noise(part),
                        odd => Bytes::Blocks { odd: odd == 4 },
                    };
                    cut = Some(Aftermath { bytes, names });
                    continue;
                }
                Event::Full { at } => {
                    medium.arm(Fault::Full { at });
                    cut = None;
                    continue;
                }
            };
            let committed = match result {
                Ok(number) => {
                    prop_assert_eq!(number, before + 1);
                    true
                }
                Err(error) => {
                    prop_assert_eq!(error.code(), "file");
                    false
                }
            };
            if let Some(aftermath) = cut.take() {
                medium = medium.restart(aftermath);
                store = open(&medium);
            }
            medium.arm(Fault::None);
            let active = store.active().map_or(0, |active| active.number);
            prop_assert!(active == before + 1 || (!committed && active == before), "{} after {}", active, before);
            if active > before {
                model.insert(active, content);
            }
            while model.len() > KEEP.get() {
                model.pop_first();
            }
            prop_assert_eq!(store.warnings(), []);
            let found = everything(&store);
            for (number, (head, rows)) in &model {
                prop_assert_eq!((&found[number].head, &found[number].rows), (head, rows));
            }
        }
    }
}
