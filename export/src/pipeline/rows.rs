//! Which rows calibrate and which verify.

use std::path::Path;

use hone_runtime::bundle::Preprocess;
use hone_runtime::bundle::preprocess::TextPrep;

use super::{Request, open};
use crate::data::{Kind, Options as DataOptions, Preprocessor, Source, read_plain};
use crate::graph::{Dim, Graph, Tensor, show_shape, text};
use crate::quantize::Rows;
use crate::{Error, Result};

/// Rows that verification runs: fewer for models that take long.
const VERIFICATION_ROWS: usize = 256;
/// Multiply-accumulates that verification may cost, over all rows.
const VERIFICATION_MACS: u64 = 20_000_000_000;

/// The calibration rows: balanced over the classes where there are labels, evenly spread otherwise.
pub(super) struct Calibration {
    source: Source,
    preprocessor: Preprocessor,
    shape: Vec<usize>,
    /// Positions in the source.
    chosen: Vec<usize>,
    others: Vec<usize>,
    vocabulary: Option<String>,
}

impl Calibration {
    pub fn open(request: &Request, model: &Graph) -> Result<Self> {
        if request.calibration_rows == 0 {
            return Err(Error::Setting { name: "--calib-rows".into(), why: "at least 1 is needed".into() });
        }
        let mut source = open(&request.calibration, &request.data)?;
        if source.is_labelled() && !request.data.balance {
            // Also where `--limit` takes a part: the first rows of a folder of classes are all of one class.
            source = open(&request.calibration, &DataOptions { balance: true, ..request.data.clone() })?;
        }
        if source.len() == 0 {
            return Err(Error::data(&request.calibration, "no rows"));
        }
        let shape = input_shape(model)?;
        if request.preprocess == Preprocess::None
            && let Some(why) = asks_for_preprocessing(&source.kind(), &shape[1..])
        {
            return Err(Error::Setting { name: "--prep".into(), why: format!("{}: {why}", source.path().display()) });
        }
        let vocabulary = request.vocabulary.as_deref().map(read_vocabulary).transpose()?;
        let tokens = vocabulary.as_deref().zip(request.vocabulary.as_deref());
        let preprocessor = Preprocessor::with_vocabulary(&request.preprocess, &shape[1..], tokens)?;
        let limit = request.calibration_rows.min(source.len());
        let chosen: Vec<usize> = if source.is_labelled() {
            (0..limit).collect()
        } else {
            (0..limit).map(|i| i * source.len() / limit).collect()
        };
        let used: std::collections::HashSet<usize> = chosen.iter().copied().collect();
        let others = (0..source.len()).filter(|i| !used.contains(i)).collect();
        Ok(Self { source, preprocessor, shape, chosen, others, vocabulary })
    }

    /// Number of calibration rows.
    pub fn used(&self) -> usize {
        self.chosen.len()
    }

    fn tensor(&mut self, at: usize) -> Result<Tensor> {
        let row = self.source.row(at)?;
        let values = self.preprocessor.apply(&row)?;
        let got = values.len();
        Tensor::from_f32(&self.shape, values).ok_or_else(|| Error::Shape {
            what: row.id,
            expected: format!("{:?}", self.shape),
            got: format!("{got} values"),
        })
    }

    /// Rows to verify on, and whether calibration did not see them.
    pub fn verification(&mut self, macs: u64) -> Result<(Vec<Tensor>, bool)> {
        let affordable = (VERIFICATION_MACS / macs.max(1)) as usize;
        let limit = VERIFICATION_ROWS.min(affordable.max(16));
        // A handful of rows left over says less than the calibration rows themselves.
        let held_out = self.others.len() >= 16.min(self.chosen.len());
        let from = if held_out { self.others.clone() } else { self.chosen.clone() };
        let count = limit.min(from.len());
        let tensors = (0..count).map(|i| self.tensor(from[i * from.len() / count])).collect::<Result<_>>()?;
        Ok((tensors, held_out))
    }

    /// Words of the vocabulary and rows of the model's table of embeddings, where both are there.
    pub fn check_vocabulary(&self, request: &Request, model: &Graph) -> Result<Option<[usize; 2]>> {
        let (Some(vocabulary), Some(path), Some(rows)) =
            (&self.vocabulary, &request.vocabulary, text::embeddings(model))
        else {
            return Ok(None);
        };
        let words = vocabulary.trim_end().lines().count();
        if words > rows {
            return Err(Error::malformed(
                path,
                format!(
                    "vocabulary of {words} tokens, but {} has embeddings for {rows}: it is not this model's",
                    request.model.display()
                ),
            ));
        }
        Ok(Some([words, rows]))
    }

    /// The tokens of a text, one a line.
    pub fn vocabulary(&self) -> Option<&str> {
        self.vocabulary.as_deref()
    }

    /// Names of the data's classes; none where it has no labels.
    pub fn class_names(&self) -> &[String] {
        self.source.classes()
    }

    /// Class of calibration row `index`, by name, where the data has labels.
    pub fn class_name(&self, index: usize) -> Option<String> {
        let labels = self.source.labels().ok()?;
        let label = *labels.get(*self.chosen.get(index)?)?;
        self.source.classes().get(label).cloned()
    }
}

impl Rows for Calibration {
    fn len(&self) -> usize {
        self.chosen.len()
    }

    fn row(&mut self, index: usize) -> Result<Tensor> {
        self.tensor(self.chosen[index])
    }
}

/// Whether text and model belong together: `tokens` is what `--prep` states, `merged` what the model's inputs became.
pub(super) fn check_text(request: &Request, model: &Graph, tokens: Option<usize>, merged: Option<usize>) -> Result<()> {
    let why = match (tokens, merged) {
        (Some(given), Some(own)) if given != own => format!("the model takes {own} tokens at a time: len={own}"),
        (Some(_), None) => {
            let inputs = model.inputs.iter().map(|id| {
                let value = model.value(*id);
                format!("{} {}", value.name, value.shape.as_deref().map_or_else(String::new, show_shape))
            });
            format!(
                "a model of text has the inputs input_ids, attention_mask and maybe token_type_ids, integers of one shape [N, len]; {} has {}",
                request.model.display(),
                inputs.collect::<Vec<_>>().join(", ")
            )
        }
        (None, None) if text::is_named_like_an_encoder(model) => {
            "the model takes texts, of any length: --prep text:vocab=vocab.txt,len=64, with the model's own list of word pieces and the most tokens of a text".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::Setting { name: "--prep".into(), why })
}

fn read_vocabulary(path: &Path) -> Result<String> {
    let bytes = read_plain(path, "a vocabulary", TextPrep::MAX_VOCABULARY_BYTES as u64)?;
    String::from_utf8(bytes).map_err(|_| Error::malformed(path, "not UTF-8: a vocabulary has one token a line"))
}

/// What to state for pictures, texts and sound, which are no input by themselves. How the pixels are scaled and what the front end
/// is cannot be told from the model: a guess would cost accuracy silently.
fn asks_for_preprocessing(kind: &Kind, shape: &[usize]) -> Option<String> {
    match kind {
        Kind::Array { .. } => None,
        Kind::Images => {
            let keys = match *shape {
                [3, h, w] => Some(format!("size={w}x{h},norm=unit")),
                [h, w, 3] => Some(format!("size={w}x{h},norm=unit,layout=nhwc")),
                [1, h, w] | [h, w, 1] => Some(format!("size={w}x{h},channels=gray,norm=unit")),
                _ => None,
            };
            let example = keys.map_or_else(
                || "a model of pictures has an input of 1 or 3 channels".to_owned(),
                |keys| format!("for example --prep image:{keys} where it was trained on pixels in 0..1 (norm=raw: 0..255; tf: -1..1; imagenet, caffe: with their means)"),
            );
            Some(format!("say how pictures become the model's input {shape:?}; {example}"))
        }
        Kind::Text => Some(match *shape {
            [2, tokens] => format!(
                "say how texts become the model's input: --prep text:vocab=vocab.txt,len={tokens}, with the model's own list of word pieces"
            ),
            _ => format!(
                "the data is text, the model's input is {shape:?}; a model of text takes input_ids and attention_mask"
            ),
        }),
        Kind::Audio => Some(format!(
            "say how sound becomes the model's input {shape:?}: --prep raw:…, mfcc:… or logmel:…, with the settings that the model was trained with"
        )),
    }
}

/// Shape of the model's one input, the batch as 1.
pub(super) fn input_shape(model: &Graph) -> Result<Vec<usize>> {
    let invalid = |why: String| Error::InvalidModel { model: model.name.clone(), why };
    let [input] = model.inputs[..] else {
        return Err(invalid(format!("{} inputs; export needs exactly one", model.inputs.len())));
    };
    let value = model.value(input);
    let dims = value.shape.as_ref().ok_or_else(|| invalid(format!("input '{}' has no shape", value.name)))?;
    let mut shape = vec![1];
    for dim in dims.iter().skip(1) {
        match dim {
            Dim::Fixed(n) => shape.push(*n),
            Dim::Symbol(s) => {
                return Err(invalid(format!("input '{}' has an open dimension '{s}' beside the batch", value.name)));
            }
        }
    }
    Ok(shape)
}
