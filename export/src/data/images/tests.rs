use image::{ImageBuffer, ImageFormat, Rgb};
use proptest::prelude::*;

use super::*;

/// The same picture as in the Pillow script that gave the figures below.
fn pattern(width: usize, height: usize) -> Picture {
    let rgb = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [(x * 37 + y * 11) % 256, (x * x + 3 * y) % 256, (x * y * 5) % 256]))
        .map(|v| v as u8)
        .collect();
    Picture { width, height, rgb }
}

fn encode(format: ImageFormat) -> Vec<u8> {
    let picture = pattern(9, 7);
    let buffer: ImageBuffer<Rgb<u8>, _> = ImageBuffer::from_raw(9, 7, picture.rgb).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    buffer.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn open(bytes: &[u8]) -> Result<Picture> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Picture::open(file.path())
}

#[test]
fn lossless_formats_come_back_whole() {
    for format in [ImageFormat::Png, ImageFormat::Bmp] {
        assert_eq!(open(&encode(format)).unwrap(), pattern(9, 7));
    }
    assert_eq!(open(&encode(ImageFormat::Jpeg)).unwrap().rgb.len(), 9 * 7 * 3);
}

#[test]
fn an_image_bomb_is_refused_by_its_header() {
    let mut bytes = encode(ImageFormat::Bmp);
    bytes[18..26].copy_from_slice(&[0, 0x80, 0, 0, 0, 0x80, 0, 0]); // 32768 x 32768
    assert!(matches!(open(&bytes), Err(Error::TooLarge { .. })));
    assert!(open(b"GIF89a").unwrap_err().to_string().contains("JPEG, PNG, BMP"));
    assert!(open(b"").is_err());
}

#[test]
fn resizing_gives_the_bytes_of_pillow() {
    // zlib.crc32 of np.asarray(Image.fromarray(pattern).resize((W, H), Image.BILINEAR)), Pillow.
    for ((w, h), (to_w, to_h), crc) in [
        ((40, 30), (17, 13), 0x775e_8764),
        ((40, 30), (61, 50), 0x87dc_368c),
        ((40, 30), (40, 7), 0xf65c_35ff),
        ((200, 3), (31, 9), 0x5e1b_4083),
    ] {
        let mut sum = flate2::Crc::new();
        sum.update(&pattern(w, h).resize(to_w, to_h).rgb);
        assert_eq!(sum.sum(), crc, "{w} x {h} to {to_w} x {to_h}");
    }
}

#[test]
fn the_centre_is_cut_out() {
    let cut = pattern(9, 7).center_crop(4, 3).unwrap();
    assert_eq!(cut.rgb[..3], pattern(9, 7).rgb[(2 * 9 + 2) * 3..][..3]);
    assert!(pattern(9, 7).center_crop(10, 3).is_none());
    let shorter = pattern(9, 7).resize_shorter(14);
    assert_eq!((shorter.width, shorter.height), (18, 14));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn mutated_pictures_never_panic(edits in proptest::collection::vec((0..4096_usize, any::<u8>()), 1..6), kind in 0..3_usize, cut: Option<u16>) {
        let mut bytes = encode([ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Jpeg][kind]);
        let length = bytes.len();
        for (at, value) in edits {
            bytes[at % length] = value;
        }
        if let Some(cut) = cut { bytes.truncate(usize::from(cut) % length); }
        if let Ok(picture) = open(&bytes) {
            prop_assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat(value: u8, w in 1..40_usize, h in 1..40_usize, to_w in 1..40_usize, to_h in 1..40_usize) {
        let picture = Picture { width: w, height: h, rgb: vec![value; w * h * 3] };
        prop_assert_eq!(picture.resize(to_w, to_h).rgb, vec![value; to_w * to_h * 3]);
    }
}
