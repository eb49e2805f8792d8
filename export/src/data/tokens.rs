//! Texts to the tokens of a BERT-like model: the record's meaning stands with
//! [`TextPrep`](hone_runtime::bundle::preprocess::TextPrep). The pieces are made by the crate `tokenizers`.

use std::path::Path;

use ahash::AHashMap;
use hone_runtime::bundle::preprocess::TextPrep;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    Model as _, NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _,
};

use crate::error::{Error, Result};

/// Longest token in bytes.
const MAX_TOKEN_BYTES: usize = 512;

/// A vocabulary, ready to split texts.
pub(super) struct Tokenizer {
    normalizer: BertNormalizer,
    pieces: WordPiece,
    tokens: usize,
    pad: u32,
    start: u32,
    end: u32,
}

impl Tokenizer {
    /// `vocabulary` has a token a line (a byte order mark in front and empty lines at the end are passed over); `place` is what errors name.
    pub fn new(prep: TextPrep, vocabulary: &str, place: &Path) -> Result<Self> {
        let bad = |why: String| Error::malformed(place, format!("vocabulary: {why}"));
        if vocabulary.len() > TextPrep::MAX_VOCABULARY_BYTES {
            return Err(Error::TooLarge {
                path: place.to_path_buf(),
                what: "a vocabulary".into(),
                needs: format!("{} bytes", vocabulary.len()),
                limit: format!("{} bytes", TextPrep::MAX_VOCABULARY_BYTES),
            });
        }
        let vocabulary = vocabulary.strip_prefix('\u{feff}').unwrap_or(vocabulary);
        let mut ids: AHashMap<String, u32> = AHashMap::new();
        let mut lines: Vec<&str> = vocabulary.lines().collect();
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
        if vocabulary.trim_start().starts_with('{') && !lines.contains(&"[PAD]") {
            return Err(bad(
                "this is JSON, as tokenizer.json is: name the model's vocab.txt, which has one token a line".into(),
            ));
        }
        for (id, token) in (0u32..).zip(&lines) {
            if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
                return Err(bad(format!(
                    "line {} has {} bytes, 1 to {MAX_TOKEN_BYTES} are expected",
                    id + 1,
                    token.len()
                )));
            }
            if let Some(first) = ids.insert((*token).to_owned(), id) {
                return Err(bad(format!("line {}: token '{token}' stands on line {} already", id + 1, first + 1)));
            }
        }
        let special = |token: &str| {
            let missing = || {
                bad(format!(
                    "it has no {token}: a WordPiece vocabulary has one token a line, among them [PAD], [UNK], [CLS] and [SEP]"
                ))
            };
            ids.get(token).copied().ok_or_else(missing)
        };
        let (pad, start, end) = (special("[PAD]")?, special("[CLS]")?, special("[SEP]")?);
        special("[UNK]")?;
        let pieces = WordPiece::builder().vocab(ids).build();
        Ok(Self {
            normalizer: BertNormalizer::new(true, true, None, prep.lower),
            pieces: pieces.map_err(|why| bad(why.to_string()))?,
            tokens: prep.tokens as usize,
            pad,
            start,
            end,
        })
    }

    /// [ids, mask], each as long as there may be tokens.
    pub fn apply(&self, text: &str, id: &str) -> Result<Vec<f32>> {
        let ids = self.ids(text).map_err(|why| Error::data(id, format!("the text cannot be split: {why}")))?;
        let mut out = vec![self.pad as f32; self.tokens];
        out.resize(2 * self.tokens, 0.0);
        for (at, id) in ids.iter().enumerate() {
            // Ids are below 2^23, as a vocabulary has at most 2^24 bytes and a line at least two: exact in f32.
            out[at] = *id as f32;
            out[self.tokens + at] = 1.0;
        }
        Ok(out)
    }

    /// Ids of the tokens with those of start and end, as many as there is room for.
    fn ids(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        let mut ids = vec![self.start];
        for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if ids.len() >= self.tokens {
                break;
            }
            ids.extend(self.pieces.tokenize(word)?.into_iter().map(|token| token.id));
        }
        ids.truncate(self.tokens - 1);
        ids.push(self.end);
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::shared;
    use crate::data::{Options, RawRow, Source, npy};

    const TOKENS: [&str; 12] =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##want", "##ed", "run", "##ning", ",", "\u{4e2d}"];

    fn ids(tokens: u32, lower: bool, text: &str) -> Vec<f32> {
        let tokenizer = Tokenizer::new(TextPrep { tokens, lower }, &TOKENS.join("\n"), Path::new("vocab.txt")).unwrap();
        tokenizer.apply(text, "row").unwrap()
    }

    /// BERT's own example ("unwanted running" of `tokenization_test.py`), between the marks of start and end.
    #[test]
    fn words_are_split_into_the_longest_pieces() {
        let expected = [2, 5, 6, 7, 10, 8, 9, 3, 0, 0].map(|id| id as f32);
        let given = ids(10, true, "UNwant\u{c9}d,running");
        assert_eq!(given[..10], expected);
        assert_eq!(given[10..], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        // With capitals kept, and with a piece that the list lacks, a word is unknown as a whole.
        assert_eq!(ids(6, false, "UNwanted running")[..6], [2.0, 1.0, 8.0, 9.0, 3.0, 0.0]);
        assert_eq!(ids(6, true, "unwantedX \u{4e2d}run")[..6], [2.0, 1.0, 11.0, 8.0, 3.0, 0.0]);
        // Marks are no marks where somebody writes them, and nothing is a text, too.
        assert_eq!(ids(6, true, "[SEP]")[..6], [2.0, 1.0, 1.0, 1.0, 3.0, 0.0]);
        assert_eq!(ids(3, true, " \t\u{0} "), [2.0, 3.0, 0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn what_is_too_long_is_cut_before_the_end_mark() {
        assert_eq!(ids(4, true, "run unwanted")[..4], [2.0, 8.0, 5.0, 3.0]);
        assert_eq!(ids(4, true, &"a".repeat(60_000))[..4], [2.0, 1.0, 3.0, 0.0]);
        assert_eq!(ids(4, true, &"run ".repeat(15_000))[..4], [2.0, 8.0, 8.0, 3.0]);
    }

    #[test]
    fn a_vocabulary_that_is_none_is_refused() {
        let error = |vocabulary: &str| {
            let prep = TextPrep { tokens: 8, lower: true };
            Tokenizer::new(prep, vocabulary, Path::new("v.txt")).err().unwrap().to_string()
        };
        assert!(error("").contains("it has no [PAD]"), "{}", error(""));
        assert!(error("[PAD]\n[CLS]\n[SEP]\nrun").contains("it has no [UNK]"));
        assert!(error("[PAD]\nrun\nrun").contains("line 3: token 'run' stands on line 2 already"));
        assert!(error("[PAD]\n\nrun").contains("line 2 has 0 bytes"));
        assert!(error(&format!("[PAD]\n{}", "x".repeat(600))).contains("line 2 has 600 bytes"));
        assert!(error("[PAD]").starts_with("v.txt: "));
        for json in ["{\"version\": \"1.0\"}", "\u{feff}{\n  \"model\": {\n  }\n}\n"] {
            assert!(error(json).contains("vocab.txt, which has one token a line"), "{}", error(json));
        }
        assert!(error(&"a\n".repeat(TextPrep::MAX_VOCABULARY_BYTES / 2 + 1)).contains("the limit is 16777216 bytes"));
    }

    /// As editors of some systems leave it.
    #[test]
    fn marks_and_empty_lines_around_a_vocabulary_are_passed_over() {
        let marked = format!("\u{feff}{}\r\n\r\n \t\r\n", TOKENS.join("\r\n"));
        let tokenizer = Tokenizer::new(TextPrep { tokens: 6, lower: true }, &marked, Path::new("vocab.txt")).unwrap();
        assert_eq!(tokenizer.apply("running", "row").unwrap(), ids(6, true, "running"));
    }

    /// The ids beside the data were made by the models' authors' own tokenizer, cut to the vocabulary.
    #[test]
    fn texts_give_the_ids_that_are_kept_beside_them() {
        let Some(shared) = shared() else { return };
        let place = shared.join("models/text/vocab.txt");
        let vocabulary = std::fs::read_to_string(&place).unwrap();
        let tokenizer = Tokenizer::new(TextPrep { tokens: 64, lower: true }, &vocabulary, &place).unwrap();
        for (set, rows) in [("sentiment", 2919), ("clinc_home", 1300)] {
            let folder = shared.join("data").join(set);
            let mut expected = npy::ArrayFile::open(folder.join("input_ids.npy")).unwrap();
            let mut source = Source::open(folder.join("text.tsv"), &Options::default()).unwrap();
            assert_eq!(source.len(), rows);
            for at in 0..rows {
                let row = source.row(at).unwrap();
                let RawRow::Text(text) = &row.values else { panic!("no text") };
                let given = tokenizer.apply(text, &row.id).unwrap();
                let ids = expected.row(at).unwrap().to_f32();
                let mask: Vec<f32> = ids.iter().map(|id| f32::from(u8::from(*id != 0.0))).collect();
                assert_eq!((&given[..64], &given[64..]), (&ids[..], &mask[..]), "{}: {text}", row.id);
            }
        }
    }
}
