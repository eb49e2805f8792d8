//! The built-in model and data: what `hone quickstart` runs on. How each was made, its licence and its figures are in `README.md` beside this crate.
//!
//! Arrays are in NumPy's `.npy` format.

/// A file of this crate.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its name, as under `models/`.
    pub name: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

macro_rules! file {
    ($(#[$doc:meta])* $constant:ident, $name:literal) => {
        $(#[$doc])*
        pub const $constant: File = File { name: $name, bytes: include_bytes!(concat!("../", $name)) };
    };
}

file!(
    /// Small CNN pretrained on rendered font glyphs.
    GLYPHS_MODEL, "glyphs.onnx"
);
file!(
    /// Class names of [`GLYPHS_MODEL`], one a line.
    GLYPHS_LABELS, "glyphs-labels.txt"
);
file!(
    /// Rendered glyphs for calibration: uint8 `[n, 8, 8]`, 0..=16.
    GLYPHS_CALIB, "glyphs-calib.npy"
);
file!(
    /// Classes of [`GLYPHS_CALIB`]: uint8 `[n]`.
    GLYPHS_CALIB_LABELS, "glyphs-calib-y.npy"
);
file!(
    /// Real handwriting: uint8 `[1797, 8, 8]`, 0..=16.
    DIGITS, "digits-x.npy"
);
file!(
    /// The digit of each row of [`DIGITS`]: uint8 `[1797]`.
    DIGITS_LABELS, "digits-y.npy"
);
file!(
    /// Class names of the digits, one a line.
    DIGITS_CLASSES, "digits-labels.txt"
);
file!(
    /// Rows of [`DIGITS`] to evaluate on: int32.
    DIGITS_TEST, "digits-test.npy"
);
file!(
    /// 1 shot a class: rows of [`DIGITS`], int32 `[5 seeds, 10]`.
    DIGITS_K1, "digits-k1.npy"
);
file!(
    /// 5 shots a class: int32 `[5 seeds, 50]`.
    DIGITS_K5, "digits-k5.npy"
);
file!(
    /// 20 shots a class: int32 `[5 seeds, 200]`.
    DIGITS_K20, "digits-k20.npy"
);

/// What the quickstart works on.
pub const QUICKSTART: [File; 11] = [
    GLYPHS_MODEL,
    GLYPHS_LABELS,
    GLYPHS_CALIB,
    GLYPHS_CALIB_LABELS,
    DIGITS,
    DIGITS_LABELS,
    DIGITS_CLASSES,
    DIGITS_TEST,
    DIGITS_K1,
    DIGITS_K5,
    DIGITS_K20,
];
