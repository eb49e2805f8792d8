//! Stands for `tokens` in a build that has no tokenizer: texts are refused.

use std::path::Path;

use hone_runtime::bundle::preprocess::TextPrep;

use crate::error::{Error, Result};

/// Never made.
pub(super) enum Tokenizer {}

impl Tokenizer {
    pub fn new(_: TextPrep, _: &str, place: &Path) -> Result<Self> {
        let why = "the model takes text, and this build has no tokenizer: use a build with the feature `text` (a default one of the full program)";
        Err(Error::data(place, why))
    }

    pub fn apply(&self, _: &str, _: &str) -> Result<Vec<f32>> {
        match *self {}
    }
}
