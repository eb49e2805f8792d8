//! Promise 7, for every reader: a sound file with a few bytes changed, cut out, put in or cut off is read or refused, without a
//! panic, within 100 MB, and in a time that a person would wait.
//!
//! Where a format has checksums they are made right again, so that the checks behind them are reached. The mutations are
//! drawn from fixed seeds: a failing line names the format and the round, which is all that is needed to see it again.
#![allow(unsafe_code, reason = "the allocator that measures")]
#![allow(clippy::ptr_arg, reason = "every format's seal is of one type")]

#[path = "support/onnx.rs"]
mod build;
#[path = "support/memory.rs"]
mod memory;

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hone_export::apply::{Applied, BundleFile};
use hone_export::data::{Options, Source, npy};
use hone_export::{Error, inspect, onnx};
use hone_runtime::bundle::{BundleParts, EmbeddingKind, EmbeddingSpec, Fingerprint, InputSpec, Precision};
use hone_runtime::head::{HeadParts, Kind, Weights};
use hone_runtime::store::{Action, Draft, Measures, Store};
use memory::{MEMORY_LIMIT_BYTES, alone, peak_of};

/// A reader that takes longer hangs. It is far from what any of them needs, so that a busy machine does not matter.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// One format.
struct Format {
    /// Name of the file: the readers go by its ending.
    file: &'static str,
    sound: Vec<u8>,
    /// Makes checksums right again.
    seal: fn(&mut Vec<u8>),
    read: fn(&Path) -> Result<(), Error>,
    rounds: u64,
}

/// Every row, as a command would go through them.
fn rows(path: &Path) -> Result<(), Error> {
    let mut source = Source::open(path, &Options::default())?;
    // Bounded by the file for all formats but those of text.
    for row in source.rows().take(100) {
        row?;
    }
    Ok(())
}

fn unsealed(_: &mut Vec<u8>) {}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % n.max(1)
    }
}

/// What goes wrong with files: bits flip, lengths lie, parts are missing, doubled or in another place.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    // Formats keep their sizes at the start: half of the hits go there.
    for _ in 0..=random.below(3) {
        let len = if random.below(2) == 0 { bytes.len().min(128) } else { bytes.len() };
        let at = random.below(len);
        let run = random.below(16.min(bytes.len() - at) + 1);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            // A length of nothing, of everything, or just beyond.
            2 => bytes[at..at + run].fill(0),
            3 => bytes[at..at + run].fill(0xff),
            4 => drop(bytes.drain(at..at + run)),
            5 => {
                let copy = bytes[at..at + run].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => bytes.truncate(at),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

/// Runs all rounds; gives how many files differed from the sound one, and how many of those were refused.
fn check(format: &Format) -> (u64, u64) {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format.file);
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    write(&format.sound);
    (format.read)(&path).unwrap_or_else(|error| panic!("{}: the sound file: {error}", format.file));

    let (mut changed, mut refused, mut largest, mut slowest) = (0, 0, 0, Duration::ZERO);
    for round in 0..format.rounds {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (round + 1).wrapping_mul(0xff51_afd7_ed55_8ccd));
        let mut bytes = format.sound.clone();
        mutate(&mut bytes, &mut random);
        (format.seal)(&mut bytes);
        if bytes == format.sound {
            continue;
        }
        changed += 1;
        write(&bytes);
        let start = Instant::now();
        let (done, hung) = mpsc::channel::<()>();
        let name = format.file;
        let watch = std::thread::spawn(move || {
            if hung.recv_timeout(HANGS_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{name}, round {round}: hangs");
                std::process::abort();
            }
        });
        let (result, memory) = peak_of(|| (format.read)(&path));
        drop(done);
        watch.join().unwrap();
        slowest = slowest.max(start.elapsed());
        largest = largest.max(memory);
        assert!(memory < MEMORY_LIMIT_BYTES, "{}, round {round}: {memory} bytes", format.file);
        refused += u64::from(result.is_err());
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
        }
    }
    println!(
        "{}: {refused} of {changed} refused, at most {largest} bytes, slowest {} ms",
        format.file,
        slowest.as_millis()
    );
    // A reader that takes anything has no checks.
    assert!(refused > changed / 10, "{}: {refused} of {changed} refused", format.file);
    (changed, refused)
}

#[test]
fn arrays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    npy::write(&path, &[6, 4, 4], &[0.25_f32; 96]).unwrap();
    let array = std::fs::read(&path).unwrap();
    check(&Format { file: "a.npy", sound: array.clone(), seal: unsealed, read: rows, rounds: 2000 });

    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("x.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&array).unwrap();
    let archive = zip.finish().unwrap().into_inner();
    check(&Format { file: "a.npz", sound: archive, seal: unsealed, read: rows, rounds: 1000 });

    let mut idx = vec![0, 0, 8, 3];
    [5_u32, 4, 4].iter().for_each(|n| idx.extend(n.to_be_bytes()));
    idx.extend([7; 80]);
    check(&Format { file: "t-images-idx3-ubyte", sound: idx.clone(), seal: unsealed, read: rows, rounds: 1000 });
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&idx).unwrap();
    let packed = packed.finish().unwrap();
    check(&Format { file: "t-images-idx3-ubyte.gz", sound: packed, seal: unsealed, read: rows, rounds: 1000 });

    let table: String = (0..20).map(|i| format!("{i},0.5,-1e3,7\n")).collect();
    let table = format!("a,b,c,label\n{table}").into_bytes();
    check(&Format { file: "a.csv", sound: table, seal: unsealed, read: rows, rounds: 1000 });
}

#[test]
fn pictures_and_sound() {
    use image::{ImageFormat, RgbImage};
    let picture = RgbImage::from_fn(24, 17, |x, y| image::Rgb([x as u8 * 9, y as u8 * 13, (x * y) as u8]));
    for (file, format) in [("a.png", ImageFormat::Png), ("a.jpg", ImageFormat::Jpeg), ("a.bmp", ImageFormat::Bmp)] {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        check(&Format { file, sound: bytes.into_inner(), seal: unsealed, read: rows, rounds: 1500 });
    }
    let spec =
        hound::WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    (0..600_i16).for_each(|n| writer.write_sample(n * 50).unwrap());
    writer.finalize().unwrap();
    check(&Format { file: "a.wav", sound: bytes.into_inner(), seal: unsealed, read: rows, rounds: 2000 });
}

/// As far as `hone inspect` goes: reading, shapes, folding, fusing, cuts.
#[test]
fn models_of_onnx() {
    fn read(path: &Path) -> Result<(), Error> {
        inspect::inspect(path).map(drop)
    }
    let sound = std::fs::read(models().join("glyphs.onnx")).unwrap();
    check(&Format { file: "m.onnx", sound, seal: unsealed, read, rounds: 1500 });
}

/// CRC-32/ISO-HDLC bit by bit, from its definition.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

const FINGERPRINT: Fingerprint = Fingerprint([3; 16]);
const EMBEDDING: EmbeddingSpec = EmbeddingSpec { dim: 4, kind: EmbeddingKind::F16 };

fn head() -> Vec<u8> {
    let parts = HeadParts {
        kind: Kind::Softmax,
        unit: false,
        fingerprint: FINGERPRINT,
        embedding: EMBEDDING,
        labels: &["no", "yes"],
        bias: &[0.0, 0.5],
        weights: Weights::F32(&[1.0, 0.0, -1.0, 0.5, 0.25, 1.0, 0.0, -0.5]),
    };
    parts.to_bytes().unwrap()
}

/// A bundle whose backbone is a dense layer of sixteen inputs.
fn bundle() -> Vec<u8> {
    use hone_export::graph::{DType, Dim, Graph, Node, Tensor, Value};
    let mut graph = Graph { name: "dense".into(), opset: 13, ..Graph::default() };
    let shape = |n| Some(vec![Dim::Symbol("N".into()), Dim::Fixed(n)]);
    let value = |name: &str, n| Value { name: name.into(), dtype: Some(DType::F32), shape: shape(n), constant: None };
    let (x, y) = (graph.add_value(value("x", 16)), graph.add_value(value("y", 4)));
    let weights = graph.add_constant("w", Tensor::from_f32(&[16, 4], vec![0.125; 64]).unwrap());
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph.nodes.push(Node {
        name: "dense".into(),
        op: hone_export::graph::Op::MatMul,
        inputs: vec![Some(x), Some(weights)],
        outputs: vec![y],
    });
    let backbone = onnx::encode(&graph, &onnx::WriteOptions::default()).unwrap();
    let head = head();
    let parts = BundleParts {
        name: "dense",
        made_by: "tests",
        precision: Precision::Fp32,
        input: InputSpec::new("x", &[16]).unwrap(),
        embedding: EMBEDDING,
        head: Some(&head),
        ..BundleParts::new(&backbone, FINGERPRINT)
    };
    parts.to_bytes().unwrap()
}

/// The checksums of `docs/bundle-format.md`: one a section in the table, one of the header and the table.
fn seal_bundle(bytes: &mut Vec<u8>) {
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes(b.try_into().unwrap()) as usize);
    let sections = word(bytes, 12).unwrap_or(0).min(64);
    for entry in (0..sections).map(|i| 32 + 24 * i) {
        let (Some(offset), Some(len)) = (word(bytes, entry + 8), word(bytes, entry + 16)) else { return };
        if let Some(section) = bytes.get(offset..offset.saturating_add(len)) {
            let crc = crc32(section);
            bytes[entry + 4..entry + 8].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let table = 32 + 24 * sections;
    if bytes.len() >= table {
        let crc = crc32(&[&bytes[..24], &bytes[32..table]].concat());
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn bundles() {
    fn read(path: &Path) -> Result<(), Error> {
        let file = BundleFile::read(path)?;
        let applied = Applied::open(&file)?;
        let mut source = Source::open(path.with_file_name("rows.npy"), &Options::default());
        if let Ok(source) = &mut source {
            applied.embed(source, &mut |_, _| ())?;
        }
        applied.head_in_force(None).map(drop)
    }
    check(&Format { file: "b.hone", sound: bundle(), seal: seal_bundle, read, rounds: 1500 });
    // As it comes: the checksums notice all of it.
    let (changed, refused) = check(&Format { file: "b.hone", sound: bundle(), seal: unsealed, read, rounds: 500 });
    assert_eq!(changed, refused);
}

#[test]
fn stores() {
    fn read(path: &Path) -> Result<(), Error> {
        let store = Store::open(path.parent().unwrap(), FINGERPRINT)?;
        // A damaged generation is a warning, not an error: the others are still good.
        match store.warnings().first() {
            Some(warning) => Err(warning.cause.clone().into()),
            None => Ok(()),
        }
    }
    /// docs/store-format.md: the last eight bytes are the CRC of all before, and the commit word.
    fn seal(bytes: &mut Vec<u8>) {
        if let Some(body) = bytes.len().checked_sub(8) {
            let crc = crc32(&bytes[..body]);
            bytes[body..body + 4].copy_from_slice(&crc.to_le_bytes());
            bytes[body + 4..].copy_from_slice(b"KEPT");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let head = head();
    let draft = Draft {
        action: Action::Tuned { provider: "native" },
        time: None,
        measures: Measures::default(),
        head: &head,
        labels: &["no", "yes"],
        classes: &[0, 1, 1],
        left_out: &[],
        row_bytes: 8,
        rows: &[5; 24],
        canaries: &[],
    };
    Store::open(folder.path(), FINGERPRINT).unwrap().commit(&draft).unwrap();
    let sound = std::fs::read(folder.path().join("gen-00000001.hgen")).unwrap();
    let file = "gen-00000001.hgen";
    check(&Format { file, sound: sound.clone(), seal, read, rounds: 2000 });
    let (changed, refused) = check(&Format { file, sound, seal: unsealed, read, rounds: 500 });
    assert_eq!(changed, refused);
}

/// A bundle whose checksums are right, and whose backbone asks for what no machine has: tract would try.
#[test]
fn a_backbone_that_asks_for_terabytes() {
    use build::{int_tensor, model, node, tensor};
    let _alone = alone();
    let side = 1 << 20;
    let fill = node("ConstantOfShape", &["size"], &["big"], vec![]);
    let expand = node("Expand", &["one", "size"], &["big"], vec![]);
    let tile = node("Tile", &["x", "size"], &["big"], vec![]);
    let computed = node("Expand", &["one", "twice"], &["big"], vec![]);
    let twice = node("Mul", &["size", "size"], &["twice"], vec![]);
    let doubling: Vec<_> = (0..40)
        .map(|i| {
            let from = if i == 0 { "x".to_owned() } else { format!("d{i}") };
            let to = if i == 39 { "big".to_owned() } else { format!("d{}", i + 1) };
            node("Concat", &[&from, &from], &[&to], vec![build::int("axis", 1)])
        })
        .collect();
    for (case, mut nodes) in [
        ("fill", vec![fill]),
        ("expand", vec![expand]),
        ("tile", vec![tile]),
        ("computed", vec![twice, computed]),
        ("doubling", doubling),
    ] {
        nodes.push(node("ReduceMean", &["big"], &["mean"], vec![build::ints("axes", &[1]), build::int("keepdims", 1)]));
        nodes.push(node("MatMul", &["mean", "w"], &["y"], vec![]));
        let constants =
            vec![int_tensor("size", &[side, side]), tensor("one", &[1, 1], &[1.0]), tensor("w", &[1, 4], &[0.5; 4])];
        let backbone = prost::Message::encode_to_vec(&model(13, &[0, 16], nodes, constants));
        let head = head();
        let parts = BundleParts {
            name: case,
            made_by: "tests",
            precision: Precision::Fp32,
            input: InputSpec::new("x", &[16]).unwrap(),
            embedding: EMBEDDING,
            head: Some(&head),
            ..BundleParts::new(&backbone, FINGERPRINT)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.hone");
        std::fs::write(&path, parts.to_bytes().unwrap()).unwrap();
        let file = BundleFile::read(&path).unwrap();
        let (result, memory) = peak_of(|| Applied::open(&file).map(drop));
        let error = result.expect_err(case).to_string();
        println!("{case}: {memory} bytes: {error}");
        assert!(memory < MEMORY_LIMIT_BYTES, "{case}: {memory} bytes");
        assert!(error.contains("b.hone"), "{case}: '{error}' does not name the file");
    }
}
