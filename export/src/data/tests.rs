use std::fs;
use std::path::PathBuf;

use super::*;

/// The shared models and data directory; `None` (with a notice) where it is absent.
pub(super) fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("HONE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if path.join("data").is_dir() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is needed in CI", path.display());
    println!("skipped: {} is absent", path.display());
    None
}

fn source(path: &Path) -> Result<Source> {
    Source::open(path, &Options::default())
}

fn error(path: &Path, options: &Options) -> String {
    match Source::open(path, options) {
        Ok(mut source) => source.rows().find_map(Result::err).map_or_else(String::new, |e| e.to_string()),
        Err(e) => e.to_string(),
    }
}

fn png(path: &Path, side: u32, grey: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(side, side, image::Luma([grey])).save(path).unwrap();
}

#[test]
fn a_folder_of_classes_is_read_in_byte_order() {
    let folder = tempfile::tempdir().unwrap();
    for (name, grey) in [("b/2.png", 2), ("b/10.png", 10), ("a/x.PNG", 1), (".hidden/y.png", 9)] {
        png(&folder.path().join(name), 3, grey);
    }
    fs::write(folder.path().join("a/notes.txt"), "no picture").unwrap();
    let mut all = source(folder.path()).unwrap();
    assert_eq!((all.kind(), all.classes()), (Kind::Images, &["a".to_owned(), "b".to_owned()][..]));
    let rows: Vec<Row> = all.rows().collect::<Result<_>>().unwrap();
    let seen: Vec<_> = rows.iter().map(|r| (r.id.as_str(), r.label, r.index)).collect();
    assert_eq!(seen, [("a/x.PNG", Some(0), 0), ("b/10.png", Some(1), 1), ("b/2.png", Some(1), 2)]);
    assert!(matches!(&rows[1].values, RawRow::Image(p) if p.rgb == [10; 27]));

    let balanced = Options { balance: true, limit: Some(2), ..Options::default() };
    assert_eq!(Source::open(folder.path(), &balanced).unwrap().labels().unwrap(), [0, 1]);
    // A list decides which files, in which order, with which labels.
    fs::write(folder.path().join("list.csv"), "file,label\nb/2.png,dog\na/x.PNG,cat\n").unwrap();
    let listed = source(folder.path()).unwrap();
    assert_eq!((listed.labels().unwrap(), listed.classes()), (vec![1, 0], &["cat".to_owned(), "dog".to_owned()][..]));
    fs::write(folder.path().join("list.csv"), "file,label\n../b/2.png,dog\n").unwrap();
    assert!(error(folder.path(), &Options::default()).contains("not a path beneath"));
    fs::write(folder.path().join("list.csv"), "file,label\nb/3.png,dog\n").unwrap();
    assert!(error(folder.path(), &Options::default()).contains("3.png is not there"));
}

#[test]
fn arrays_with_labels_names_and_rows_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    npy::write(at("x_train.npy"), &[4, 2], &[0_f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).unwrap();
    npy::write(at("y_train.npy"), &[4], &[1_u8, 0, 1, 0]).unwrap();
    npy::write(at("rows.npy"), &[2, 2], &[3_i32, 2, 0, 1]).unwrap();
    fs::write(at("labels.txt"), "no\nyes\n").unwrap();
    let options = Options { rows: Some("rows.npy#0".parse().unwrap()), ..Options::default() };
    let mut chosen = Source::open(folder.path(), &options).unwrap();
    assert_eq!((chosen.labels().unwrap(), chosen.classes()), (vec![0, 1], &["no".to_owned(), "yes".to_owned()][..]));
    let row = chosen.row(0).unwrap();
    assert_eq!((row.id.as_str(), row.index), ("x_train.npy#3", 3));
    assert_eq!(row.values, RawRow::Array { shape: vec![2], values: Values::F32(vec![6.0, 7.0]) });
    assert!(chosen.row(2).unwrap_err().to_string().contains("there are 2"));

    fs::write(at("other.csv"), "name,who,label\na,ann,1\nb,bob,1\nc,ann,1\nd,bob,1\n").unwrap();
    fs::write(at("people.txt"), "bob\nann\n").unwrap();
    let by_name =
        Options { labels: Some("other.csv#who".into()), classes: Some("people.txt".into()), ..Options::default() };
    assert_eq!(Source::open(folder.path(), &by_name).unwrap().labels().unwrap(), [1, 0, 1, 0]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let options = Options::default;
    assert!(error(folder.path(), &options()).contains("no rows"));
    assert!(matches!(source(&at("absent")), Err(Error::Io { .. })));
    npy::write(at("features.npy"), &[2, 2], &[0_f32, f32::NAN, 1.0, f32::INFINITY]).unwrap();
    assert!(error(folder.path(), &options()).contains("say which holds the rows (features.npy)"));
    fs::rename(at("features.npy"), at("x.npy")).unwrap();
    let nan = error(folder.path(), &options());
    assert!(nan.contains("x.npy, row 0,") && nan.contains("NaN at index 1"), "{nan}");
    assert!(source(folder.path()).unwrap().labels().unwrap_err().to_string().contains("labels are needed"));
    assert!(error(folder.path(), &Options { balance: true, ..options() }).contains("needs labels"));
    assert!(error(folder.path(), &Options { limit: Some(0), ..options() }).contains("no rows are left"));
    npy::write(at("y.npy"), &[3], &[0_i32, 1, 5]).unwrap();
    assert!(error(folder.path(), &options()).contains("3 labels for the 2 rows"));
    npy::write(at("y.npy"), &[2], &[0_i32, 5]).unwrap();
    fs::write(at("labels.txt"), "a\nb\n").unwrap();
    assert!(error(folder.path(), &options()).contains("label 5 is out of range, there are 2 classes"));
    npy::write(at("y.npy"), &[2], &[0_i32, -1]).unwrap();
    assert!(error(folder.path(), &options()).contains("label -1"));
    npy::write(at("y.npy"), &[2], &[0.0_f32, 1.0]).unwrap();
    assert!(error(folder.path(), &options()).contains("whole numbers"));
    npy::write(at("y.npy"), &[2, 2], &[0_i32; 4]).unwrap();
    assert!(error(folder.path(), &options()).contains("one label a row"));
    npy::write(at("y.npy"), &[2], &[0_i64, i64::MAX]).unwrap();
    fs::remove_file(at("labels.txt")).unwrap();
    assert!(error(folder.path(), &options()).contains("out of range"));
    fs::write(at("labels.txt"), "a\na\n").unwrap();
    assert!(error(folder.path(), &Options { labels: Some("labels.txt".into()), ..options() }).contains("repeated"));
    fs::write(at("notes.md"), "").unwrap();
    assert!(error(&at("notes.md"), &options()).contains("not a kind of data"));
}

#[test]
fn what_was_meant_as_texts_is_met_with_where_they_go() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hint = "to classify a text, write it to a .txt file, one a line";
    let long = "so it is ".repeat(100);
    for text in ["please turn the light on", "yes", "it is. or not", "yes/no questions", &long] {
        let absent = source(&at(text)).unwrap_err();
        assert!(matches!(absent, Error::Io { .. }) && absent.to_string().contains(hint), "{absent}");
    }
    assert!(!error(&at("my pictures/one.png"), &Options::default()).contains(hint));

    fs::create_dir(at("good")).unwrap();
    fs::write(at("good/1.txt"), "so it is").unwrap();
    assert!(
        error(folder.path(), &Options::default()).contains("one .tsv file, a line each, with columns called label")
    );
    let one = error(&at("good"), &Options::default());
    assert!(one.contains("a file of texts is named itself") && one.contains("1.txt"), "{one}");
}

#[test]
fn damaged_files_in_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    png(&folder.path().join("a/1.png"), 4, 7);
    let bytes = fs::read(folder.path().join("a/1.png")).unwrap();
    fs::write(folder.path().join("a/2.png"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(error(folder.path(), &Options::default()).contains("2.png"));
    fs::write(folder.path().join("a/2.wav"), b"RIFF").unwrap();
    assert!(error(folder.path(), &Options::default()).contains("one kind is needed"));
    fs::create_dir_all(folder.path().join("train/dog")).unwrap();
    assert!(error(folder.path(), &Options::default()).contains("its sub-folders may be the classes"));
}

#[cfg(unix)]
#[test]
fn links_in_circles_and_strange_names_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    png(&folder.path().join("a/1.png"), 4, 7);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
    assert_eq!(source(folder.path()).unwrap().len(), 1);
    std::os::unix::fs::symlink("self.png", folder.path().join("a/self.png")).unwrap();
    assert!(error(folder.path(), &Options::default()).contains("self.png"));
    fs::remove_file(folder.path().join("a/self.png")).unwrap();
    if fs::write(folder.path().join("a").join(std::ffi::OsStr::from_bytes(b"\xff.png")), b"").is_ok() {
        assert!(error(folder.path(), &Options::default()).contains("not UTF-8"));
    }
}

#[test]
fn the_shared_data_sets_open() {
    let Some(data) = shared().map(|s| s.join("data")) else { return };
    let mut digits = source(&data.join("mnist")).unwrap();
    assert_eq!((digits.len(), digits.classes().len()), (10_000, 10));
    assert_eq!(digits.row(0).unwrap().label, Some(7)); // the first test digit is a 7
    assert_eq!(digits.kind(), Kind::Array { shape: vec![28, 28], element: ElementType::U8 });
    let words = Options { x: Some("x_int8.npy".into()), labels: Some("y.npy".into()), ..Options::default() };
    let words = Source::open(data.join("kws01"), &words).unwrap();
    assert_eq!((words.len(), words.classes()[0].as_str(), words.classes().len()), (1000, "Down", 12));
    let gestures = Options { x: Some("x_test.npy".into()), ..Options::default() };
    assert_eq!(Source::open(data.join("wand_imu"), &gestures).unwrap().labels().unwrap().len(), 25);
    let flowers = Options {
        labels: Some("../list.csv".into()),
        rows: Some("../k5.npy#2".parse().unwrap()),
        classes: Some("../labels.txt".into()),
        ..Options::default()
    };
    let mut shots = Source::open(data.join("flowers5/128"), &flowers).unwrap();
    let mut per_class = [0; 5];
    shots.labels().unwrap().into_iter().for_each(|label| per_class[label] += 1);
    assert_eq!(per_class, [5; 5]);
    for row in shots.rows() {
        let row = row.unwrap();
        assert!(
            row.id.contains(&format!(
                "/{}/",
                ["daisy", "dandelion", "roses", "sunflowers", "tulips"][row.label.unwrap()]
            ))
        );
    }
    let calibration = Options { labels: Some("../list.csv".into()), label_offset: 1, ..Options::default() };
    assert_eq!(Source::open(data.join("imagenet_calib100/128"), &calibration).unwrap().labels().unwrap()[..2], [1, 11]);
}

/// What is under such a name would never end, or never begin.
#[cfg(unix)]
#[test]
fn devices_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.npy", "x.npz", "x.csv", "x.tsv", "x.txt", "x-images-idx3-ubyte", "x.png", "x.wav"] {
        let path = folder.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = match name {
            "x.png" => Picture::open(&path).err(),
            "x.wav" => Clip::open(&path).err(),
            _ => source(&path).err(),
        };
        let error = error.unwrap();
        assert_eq!(error.code(), "malformed", "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let rows = folder.path().join("rows.npy");
    npy::write(&rows, &[2, 1], &[0_u8, 1]).unwrap();
    for options in [
        Options { labels: Some("/dev/zero".into()), ..Options::default() },
        Options { classes: Some("/dev/zero".into()), ..Options::default() },
    ] {
        assert_eq!(Source::open(&rows, &options).err().unwrap().code(), "malformed");
    }
}
