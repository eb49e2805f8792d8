use proptest::prelude::*;

use super::*;

/// A file as numpy writes it: header text given, then data.
fn raw(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    if version == 1 {
        bytes.extend((header.len() as u16).to_le_bytes());
    } else {
        bytes.extend((header.len() as u32).to_le_bytes());
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn open(bytes: &[u8]) -> Result<ArrayFile> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ArrayFile::from_file(file, Path::new("test.npy"))
}

#[test]
fn versions_orders_and_types_are_read() {
    for version in 1..=3 {
        let mut array = open(&raw(
            version,
            "{'descr': '>i2', 'fortran_order': False, 'shape': (2, 2), }\n",
            &[0, 1, 255, 254, 1, 0, 127, 255],
        ))
        .unwrap();
        assert_eq!(array.row(0).unwrap(), Values::I16(vec![1, -2]));
        assert_eq!(array.row(1).unwrap(), Values::I16(vec![256, 32767]));
    }
    let mut half = open(&raw(1, "{'shape': (1,), 'fortran_order': False, 'descr': '<f2'}", &[0x00, 0x3c])).unwrap();
    assert_eq!(half.row(0).unwrap().to_f32(), [1.0]);
    let mut long =
        open(&raw(1, "{'shape': (1,), 'fortran_order': False, 'descr': '<i8'}", &(-5_i64).to_le_bytes())).unwrap();
    assert_eq!(long.all().unwrap().to_i64(), Some(vec![-5]));
}

#[test]
fn fortran_order_gives_the_same_rows_as_c_order() {
    // numpy: np.arange(24).reshape(2,3,4) stored with order='F': element (i,j,k) at i + 2 j + 6 k.
    let mut data = vec![0; 24];
    for i in 0..2 {
        for j in 0..3 {
            for k in 0..4 {
                data[i + 2 * j + 6 * k] = (i * 12 + j * 4 + k) as u8;
            }
        }
    }
    let mut array = open(&raw(1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }", &data)).unwrap();
    assert_eq!(array.row(1).unwrap(), Values::U8((12..24).collect()));
    assert_eq!(array.all().unwrap(), Values::U8((0..24).collect()));
}

#[test]
fn fortran_order_with_many_rows_reads_single_elements() {
    let rows = 1_100_000;
    let data: Vec<u8> = (0..2 * rows).map(|i| (i % rows % 251 + i / rows) as u8).collect();
    let mut array =
        open(&raw(1, &format!("{{'descr': '|u1', 'fortran_order': True, 'shape': ({rows}, 2), }}"), &data)).unwrap();
    let at = rows - 3;
    assert_eq!(array.row(at).unwrap(), Values::U8(vec![(at % 251) as u8, (at % 251 + 1) as u8]));
}

#[test]
fn what_write_writes_is_read_back_and_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for shape in [vec![6], vec![2, 3], vec![1, 2, 3]] {
        write(&path, &shape, &[1_i32, -2, 3, i32::MAX, i32::MIN, 0]).unwrap();
        assert_eq!((std::fs::metadata(&path).unwrap().len() - 24) % 64, 0);
        let mut array = ArrayFile::open(&path).unwrap();
        assert_eq!(array.shape(), shape);
        assert_eq!(array.all().unwrap(), Values::I32(vec![1, -2, 3, i32::MAX, i32::MIN, 0]));
    }
    assert!(matches!(write(&path, &[7], &[1_u8; 6]), Err(Error::Shape { .. })));
}

#[test]
fn hostile_headers_are_refused_with_a_reason() {
    let refused = |header: &str, why: &str| {
        let error = open(&raw(1, header, &[0; 64])).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("test.npy"), "{error}");
    };
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }", "cut short");
    refused(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 18446744073709551615), }",
        "larger than any file",
    );
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }", "'-1' is not a size");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", "empty");
    refused("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "pickle");
    refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "named fields");
    refused("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "'c8' is not supported");
    refused("{'descr': '<f4', 'shape': (1,), }", "fortran_order");
    refused("[]", "not a dictionary");
    assert!(open(b"PK\x03\x04rubbish").unwrap_err().to_string().contains("not a .npy"));
    assert!(open(b"\x93NU").unwrap_err().to_string().contains("cut short"));
    assert!(open(&raw(9, "{}", &[])).unwrap_err().to_string().contains("version 9"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn mutated_files_give_an_answer_or_an_error(
        at in proptest::collection::vec((0..192_usize, any::<u8>()), 0..6), cut in 1..=192_usize, truncate: bool,
    ) {
        let mut bytes = header::encode("<f4", &[4, 4]);
        bytes.extend([63; 64]);
        for (place, value) in at {
            bytes[place] = value;
        }
        if truncate { bytes.truncate(cut); }
        if let Ok(mut array) = open(&bytes) {
            prop_assert!(array.shape().iter().product::<usize>() <= bytes.len());
            let last = array.rows() - 1;
            prop_assert!(array.row(last).is_ok());
            prop_assert!(array.all().is_ok());
        }
    }

    #[test]
    fn truncated_files_are_refused(cut in 0..191_usize) {
        let mut bytes = header::encode("<f4", &[4, 4]);
        bytes.extend([63; 64]);
        prop_assert!(open(&bytes[..cut]).is_err());
    }
}
