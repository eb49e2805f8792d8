//! Taking a class out of a head.

#[allow(unused_imports, reason = "Vec")]
use crate::prelude::*;

use crate::error::{Error, Result};
use crate::head::{HeadView, MAX_CLASSES};

/// The record of `head` without the class of this label (all of them, should several share it). Scores of softmax heads
/// are shared among the classes that stay. Refuses to take out the last class.
pub(super) fn without_class(head: &HeadView<'_>, gone: &str) -> Result<Vec<u8>> {
    let stay: Vec<usize> = (0..head.classes()).filter(|class| head.label(*class) != Some(gone)).collect();
    if stay.is_empty() {
        return Err(Error::Bounds { what: "classes that would stay", value: 0, min: 1, max: MAX_CLASSES as u64 });
    }
    let bias: Vec<f32> = stay.iter().filter_map(|class| head.bias(*class)).collect();
    head.rebuilt(&stay, &bias)
}
