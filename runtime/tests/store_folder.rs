//! The store on a real folder: damage, other writers, other backbones, folders that cannot be written.
#![cfg(feature = "std")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use hone_runtime::store::{Action, Draft, Measures, Store};
use hone_runtime::tune::gate::LeftOut;
use hone_runtime::{Error, Fingerprint};

const BACKBONE: Fingerprint = Fingerprint([7; 16]);

fn commit(store: &mut Store, head: &[u8]) -> u32 {
    store.commit(&Draft::new(Action::Tuned { provider: "native" }, head)).unwrap()
}

/// Names and contents of a folder's files, except the lock.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "store.lock")
        .collect();
    files.sort();
    files
}

#[test]
fn a_missing_folder_is_an_empty_store_that_the_first_commit_makes() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep").join("er");
    let mut store = Store::open(&path, BACKBONE).unwrap();
    assert!(store.active().is_none() && store.history().is_empty() && store.warnings().is_empty());
    assert!(!home.path().join("deep").exists(), "opening wrote");
    assert_eq!(commit(&mut store, b"first"), 1);
    assert_eq!(files(&path)[0].0, "gen-00000001.hgen");
    assert_eq!(Store::open(&path, BACKBONE).unwrap().active().unwrap().head, b"first");
}

#[test]
fn everything_that_was_given_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let measures = Measures {
        method: 3,
        l2: Some(1e-3),
        loo_accuracy: Some(0.9375),
        canary_before: None,
        canary_after: Some(0.0),
    };
    let draft = Draft {
        action: Action::Forgot { label: "hönd", shots: 2 },
        time: Some(u64::MAX),
        measures,
        head: b"head",
        labels: &["a", "ünï", "c"],
        classes: &[2, 0, 2],
        left_out: &[LeftOut::Wrong, LeftOut::New, LeftOut::Unjudged],
        row_bytes: 5,
        rows: b"aaaaabbbbbccccc",
        canaries: &[LeftOut::Right],
    };
    Store::open(home.path(), BACKBONE).unwrap().commit(&draft).unwrap();
    let store = Store::open(home.path(), BACKBONE).unwrap();
    let [entry] = store.history() else { panic!("one entry") };
    assert_eq!(entry.action.borrowed(), draft.action);
    assert_eq!((entry.number, entry.parent, entry.time, entry.shots), (1, 0, draft.time, 3));
    assert_eq!(entry.measures, measures);
    let shots: Vec<_> = store.active().unwrap().shots().map(|shot| (shot.label, shot.left_out, shot.row)).collect();
    assert_eq!(
        shots,
        [("c", LeftOut::Wrong, b"aaaaa".as_slice()), ("a", LeftOut::New, b"bbbbb"), ("c", LeftOut::Unjudged, b"ccccc")]
    );
}

#[test]
fn a_damaged_newest_generation_is_reported_skipped_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(home.path(), BACKBONE).unwrap();
    commit(&mut store, b"good");
    commit(&mut store, b"newest");
    let newest = home.path().join("gen-00000002.hgen");
    let whole = fs::read(&newest).unwrap();

    let damage: Vec<Vec<u8>> = (0..whole.len())
        .flat_map(|i| {
            let mut flipped = whole.clone();
            flipped[i] ^= 1 << (i % 8);
            [flipped, whole[..i].to_vec()]
        })
        .chain([[whole.clone(), vec![0]].concat()])
        .collect();
    for bytes in damage {
        fs::write(&newest, &bytes).unwrap();
        let before = files(home.path());
        let store = Store::open(home.path(), BACKBONE).unwrap();
        assert_eq!(store.active().unwrap().head, b"good");
        let [warning] = store.warnings() else { panic!("{:?}", store.warnings()) };
        assert!(warning.to_string().contains("gen-00000002.hgen"), "{warning}");
        assert_eq!(files(home.path()), before);
    }

    // The damaged number is not used again, and its file outlives commits and pruning, unless nothing but the newest is to be left.
    let mut store = Store::open(home.path(), BACKBONE).unwrap().with_keep(NonZeroUsize::new(2).unwrap());
    assert_eq!((commit(&mut store, b"after"), commit(&mut store, b"later")), (3, 4));
    assert_eq!(store.history()[0].parent, 1);
    let names = |home: &Path| files(home).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(home.path()), ["gen-00000002.hgen", "gen-00000003.hgen", "gen-00000004.hgen"]);
    let mut store = Store::open(home.path(), BACKBONE).unwrap().with_keep(NonZeroUsize::MIN);
    assert!(store.prunes_others());
    assert_eq!(commit(&mut store, b"alone"), 5);
    assert_eq!(names(home.path()), ["gen-00000005.hgen"]);
    assert!(!store.prunes_others());
}

#[test]
fn a_store_of_which_nothing_is_whole_is_refused_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    commit(&mut Store::open(home.path(), BACKBONE).unwrap(), b"only");
    let file = home.path().join("gen-00000001.hgen");
    fs::write(&file, b"noise").unwrap();
    let error = Store::open(home.path(), BACKBONE).unwrap_err();
    assert!(error.to_string().contains("gen-00000001.hgen"), "{error}");
    assert_eq!((error.code(), fs::read(&file).unwrap()), ("store-damaged", b"noise".to_vec()));
}

#[test]
fn files_that_are_not_what_their_name_says_are_reported_or_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(home.path(), BACKBONE).unwrap();
    commit(&mut store, b"good");
    fs::copy(home.path().join("gen-00000001.hgen"), home.path().join("gen-00000005.hgen")).unwrap();
    fs::create_dir(home.path().join("gen-00000006.hgen")).unwrap();
    for stranger in ["gen-1.hgen", "gen-00000000.hgen", "gen-99999999999.hgen", "gen-+0000007.hgen", "photo.jpg"] {
        fs::write(home.path().join(stranger), b"mine").unwrap();
    }
    let mut store = Store::open(home.path(), BACKBONE).unwrap();
    let warned: Vec<_> = store.warnings().iter().map(|warning| warning.cause.to_string()).collect();
    assert_eq!(warned, ["generation: its number is not that of its file's name", "generation: not a plain file"]);
    assert_eq!(commit(&mut store, b"next"), 7);
    assert_eq!(fs::read(home.path().join("photo.jpg")).unwrap(), b"mine");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    commit(&mut Store::open(elsewhere.path(), BACKBONE).unwrap(), b"theirs");
    let link = home.path().join("gen-00000001.hgen");
    std::os::unix::fs::symlink(elsewhere.path().join("gen-00000001.hgen"), &link).unwrap();
    let error = Store::open(home.path(), BACKBONE).unwrap_err().to_string();
    assert!(error.contains("gen-00000001.hgen") && error.contains("not a plain file"), "{error}");
}

#[test]
fn rollback_appends_and_history_stays() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(home.path(), BACKBONE).unwrap();
    for head in [b"one", b"two", b"thr"] {
        commit(&mut store, head);
    }
    let before = files(home.path());
    assert_eq!(store.rollback(2, None).unwrap(), 4);
    assert_eq!(files(home.path())[..3], before);
    let store = Store::open(home.path(), BACKBONE).unwrap();
    assert_eq!(store.active().unwrap().head, b"two");
    let last = store.history().last().unwrap();
    assert_eq!((last.parent, last.action.name()), (3, "rolled-back"));
    let unknown = |generation| Error::UnknownGeneration { generation, oldest: 1, newest: 4 };
    assert_eq!(store.read(5).unwrap_err(), unknown(5));
    assert_eq!(store.read(0).unwrap_err(), unknown(0));
}

#[test]
fn the_newest_sixteen_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(home.path(), BACKBONE).unwrap();
    for i in 0..20u8 {
        commit(&mut store, &[i]);
    }
    for store in [store, Store::open(home.path(), BACKBONE).unwrap()] {
        let numbers: Vec<_> = store.history().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (5..=20).collect::<Vec<u32>>());
        assert_eq!(store.read(5).unwrap().head, [4]);
        assert!(matches!(store.read(4), Err(Error::UnknownGeneration { generation: 4, oldest: 5, newest: 20 })));
    }
}

#[test]
fn a_store_of_another_backbone_is_refused_naming_both() {
    let home = tempfile::tempdir().unwrap();
    commit(&mut Store::open(home.path(), BACKBONE).unwrap(), b"head");
    let other = Fingerprint([9; 16]);
    let error = Store::open(home.path(), other).unwrap_err();
    assert_eq!(error, Error::FingerprintMismatch { head: BACKBONE, backbone: other });
    let text = error.to_string();
    assert!(text.contains(&BACKBONE.to_string()) && text.contains(&other.to_string()), "{text}");
}

#[test]
fn two_writers_cannot_lose_each_others_generations() {
    let home = tempfile::tempdir().unwrap();
    let mut ours = Store::open(home.path(), BACKBONE).unwrap();
    let mut theirs = Store::open(home.path(), BACKBONE).unwrap();
    assert_eq!(commit(&mut ours, b"ours"), 1);
    let error = theirs.commit(&Draft::new(Action::Tuned { provider: "native" }, b"theirs")).unwrap_err();
    assert!(matches!(error, Error::StoreChanged { found: 1, .. }), "{error}");

    let lock = fs::File::open(home.path().join("store.lock")).unwrap();
    lock.try_lock().unwrap();
    let error = ours.commit(&Draft::new(Action::Tuned { provider: "native" }, b"again")).unwrap_err();
    assert!(matches!(error, Error::StoreBusy { .. }), "{error}");
    drop(lock);
    assert_eq!(commit(&mut ours, b"again"), 2);
}

#[test]
fn many_writers_at_once_commit_every_generation_exactly_once() {
    let home = tempfile::tempdir().unwrap();
    let write = |writer: u8| {
        let mut numbers = Vec::new();
        while numbers.len() < 10 {
            let mut store = Store::open(home.path(), BACKBONE).unwrap().with_keep(NonZeroUsize::MAX);
            assert_eq!(store.warnings(), []);
            match store.commit(&Draft::new(Action::Tuned { provider: "native" }, &[writer])) {
                Ok(number) => numbers.push((number, writer)),
                Err(Error::StoreBusy { .. } | Error::StoreChanged { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        numbers
    };
    let mut committed: Vec<(u32, u8)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    committed.sort_unstable();
    let store = Store::open(home.path(), BACKBONE).unwrap();
    let found: Vec<_> =
        store.history().iter().map(|entry| (entry.number, store.read(entry.number).unwrap().head[0])).collect();
    assert_eq!(found, committed);
    assert_eq!(found.len(), 30);
}

#[test]
fn a_folder_that_cannot_be_is_a_clear_error() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    for path in [file.clone(), file.join("store")] {
        let result = Store::open(&path, BACKBONE)
            .and_then(|mut store| store.commit(&Draft::new(Action::Tuned { provider: "native" }, b"h")));
        let error = result.unwrap_err();
        assert_eq!(error.code(), "file");
        assert!(error.to_string().contains("file"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a folder");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_opens_and_refuses_to_commit() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    commit(&mut Store::open(home.path(), BACKBONE).unwrap(), b"head");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut store = Store::open(home.path(), BACKBONE).unwrap();
    assert_eq!(store.active().unwrap().head, b"head");
    // Root may write anywhere; tests/store_power.rs refuses every write for all users.
    if fs::write(home.path().join("probe"), b"").is_err() {
        let error = store.commit(&Draft::new(Action::Tuned { provider: "native" }, b"more")).unwrap_err();
        assert_eq!(error.code(), "file");
        assert_eq!(store.active().unwrap().head, b"head");
    }
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
