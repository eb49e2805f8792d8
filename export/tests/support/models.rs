//! The shared models' folder, and rows of its sample files.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use hone_export::graph::Tensor;
use ndarray::{ArrayD, IxDyn};

/// The folder with models; absent, the test says so and passes, except on CI.
pub fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("HONE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder.join("models"));
    }
    assert!(std::env::var_os("CI").is_none(), "{} is absent", folder.display());
    println!("skipped: {} is absent", folder.display());
    None
}

/// Rows of a float32 `.npy` file of version 1, each with a batch of one in front.
pub fn rows(path: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(path).expect("sample inputs");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..10 + header]).expect("a header");
    let shape = text.split("'shape': (").nth(1).and_then(|t| t.split(')').next()).expect("a shape");
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let data: Vec<f32> =
        bytes[10 + header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut one = shape.clone();
    one[0] = 1;
    let count: usize = one.iter().product();
    data.chunks_exact(count)
        .map(|row| Tensor::F32(ArrayD::from_shape_vec(IxDyn(&one), row.to_vec()).unwrap()))
        .collect()
}
