//! Accuracy: the data's classes are matched with the head's by name, then answers are counted.

use std::path::Path;

use hone_runtime::HeadView;
use hone_runtime::head::Kind;
use serde::Serialize;

use super::Embedded;
use crate::{Error, Result};

/// How a class of the data is found among the head's labels. Equal names always match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matching {
    /// A name of one character also matches the one label that contains it (the glyph class `0Oo` holds the digit `0`).
    pub contained: bool,
    /// Rows of classes that the head does not know are left out; otherwise they are an error.
    pub known_only: bool,
}

/// Accuracy of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// Name of the class in the data.
    pub name: String,
    /// Rows that were answered right.
    pub correct: usize,
    /// Rows.
    pub n: usize,
    /// Their share.
    pub top1: f64,
}

/// How often the best class is the right one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Share of rows that were answered right, 0..=1.
    pub top1: f64,
    /// Rows counted.
    pub n: usize,
    /// Rows left out because the head does not know their class.
    pub skipped: usize,
    /// The data's classes that have rows, in their order.
    pub per_class: Vec<ClassAccuracy>,
    /// Answers by class.
    pub confusion: Confusion,
}

/// Rows by their class and the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confusion {
    /// The data's classes that have rows.
    pub classes: Vec<String>,
    /// `counts[i][j]`: rows of class i that were answered with class j; the last column is every other answer.
    pub counts: Vec<Vec<usize>>,
}

/// Counts the head's answers over all of its classes.
///
/// # Errors
/// [`Error::Data`] without labels or rows, [`Error::Label`] for a class that the head does not know, and what the head says.
pub fn evaluate(head: &HeadView<'_>, embedded: &Embedded, matching: Matching) -> Result<Evaluation> {
    judge(embedded, head, matching)?.count(false, |row| logits(head, embedded, row))
}

/// As [`evaluate`], the best being sought among the data's classes alone.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_restricted(head: &HeadView<'_>, embedded: &Embedded, matching: Matching) -> Result<Evaluation> {
    judge(embedded, head, matching)?.count(true, |row| logits(head, embedded, row))
}

/// The head's best class for every row.
///
/// # Errors
/// What [`HeadView::predict`] says.
pub fn answers(head: &HeadView<'_>, embedded: &Embedded) -> Result<Vec<usize>> {
    (0..embedded.len()).map(|row| Ok(head.predict(embedded.row(row))?.class)).collect()
}

/// Refuses a head whose outputs are values: the largest of them answers nothing.
///
/// # Errors
/// [`Error::Data`], naming the data.
pub fn check_classifies(head: &HeadView<'_>, path: &Path) -> Result<()> {
    if head.kind() == Kind::Regression {
        let why = "class labels say nothing to this head: its outputs are values (a regression, or a reconstruction of the input), not classes";
        return Err(Error::data(path, why));
    }
    Ok(())
}

/// Place of the largest score, the first of several; none of none.
#[must_use]
pub fn best_class(scores: &[f32]) -> Option<usize> {
    (0..scores.len()).reduce(|best, at| if scores[at] > scores[best] { at } else { best })
}

/// Whether the classes of `head` have no names but their numbers.
fn is_unnamed(head: &HeadView<'_>) -> bool {
    head.labels().iter().enumerate().all(|(class, label)| label == class.to_string())
}

/// What to say where class numbers of the data were matched with numbers that stand for the missing names of the head's classes.
#[must_use]
pub fn unnamed_notice(head: &HeadView<'_>, taught: &[&str]) -> Option<String> {
    let matched = taught.iter().find(|label| head.labels().position(label).is_some());
    matched.filter(|_| is_unnamed(head)).map(|label| {
        format!(
            "the model's classes have no names, so '{label}' is taken for its class number {label}; if it means something else, \
             name the classes at export with --model-classes"
        )
    })
}

fn judge<'a>(embedded: &'a Embedded, head: &HeadView<'a>, matching: Matching) -> Result<Judge<'a>> {
    check_classifies(head, &embedded.path)?;
    let labels: Vec<&str> = head.labels().iter().collect();
    let truths = embedded.labels()?;
    Judge::new(truths, &embedded.classes, &labels, matching)
        .map_err(|why| Error::Label { path: embedded.path.clone(), why })
}

fn logits(head: &HeadView<'_>, embedded: &Embedded, row: usize) -> Result<Vec<f32>> {
    let mut logits = vec![0.0; head.classes()];
    head.logits(embedded.row(row), &mut logits).map_err(Error::place(&embedded.ids[row]))?;
    Ok(logits)
}

/// What counts as a right answer.
pub(crate) struct Judge<'a> {
    truths: &'a [usize],
    /// The data's classes that have rows and that the head knows.
    classes: Vec<(usize, &'a str)>,
    /// For every class of the head its place in `classes`.
    of_head: Vec<Option<usize>>,
}

impl<'a> Judge<'a> {
    /// `truths` index `classes`; the error says which class the head does not know.
    pub(crate) fn new(
        truths: &'a [usize],
        classes: &'a [String],
        head: &[&str],
        matching: Matching,
    ) -> Result<Self, String> {
        let mut used = vec![false; classes.len()];
        truths.iter().for_each(|&truth| used[truth] = true);
        // The model's own list of classes may hold a name twice (ImageNet has two cranes): then places decide.
        let same_list = head.len() == classes.len() && head.iter().zip(classes).all(|(a, b)| a == b);
        let mut of_head = vec![None; head.len()];
        let mut kept: Vec<(usize, &str)> = Vec::new();
        for (class, name) in classes.iter().enumerate().filter(|(class, _)| used[*class]) {
            let known = if same_list { vec![class] } else { find(name, head, matching.contained) };
            if known.is_empty() {
                if matching.known_only {
                    continue;
                }
                return Err(format!(
                    "class '{name}' is not one of the {} that the head knows: {}",
                    head.len(),
                    list(head)
                ));
            }
            for at in known {
                if let Some(taken) = of_head[at].replace(kept.len()) {
                    return Err(format!(
                        "classes '{}' and '{name}' both match the head's '{}'",
                        kept[taken].1, head[at]
                    ));
                }
            }
            kept.push((class, name));
        }
        if kept.is_empty() {
            return Err(format!("no class of the data is one that the head knows: {}", list(head)));
        }
        Ok(Self { truths, classes: kept, of_head })
    }

    /// Counts the answers: the largest of `logits(row)`, the first of equals; `restricted`: among the data's classes alone.
    pub(crate) fn count(
        &self,
        restricted: bool,
        mut logits: impl FnMut(usize) -> Result<Vec<f32>>,
    ) -> Result<Evaluation> {
        let place = |truth: usize| self.classes.iter().position(|(class, _)| *class == truth);
        let mut counts = vec![vec![0; self.classes.len() + 1]; self.classes.len()];
        let mut skipped = 0;
        for (row, &truth) in self.truths.iter().enumerate() {
            let Some(truth) = place(truth) else {
                skipped += 1;
                continue;
            };
            let answer =
                self.answer(&logits(row)?, restricted).and_then(|best| self.of_head.get(best).copied().flatten());
            counts[truth][answer.unwrap_or(self.classes.len())] += 1;
        }
        let per_class: Vec<ClassAccuracy> = self
            .classes
            .iter()
            .zip(&counts)
            .enumerate()
            .map(|(i, ((_, name), row))| {
                let (correct, n) = (row[i], row.iter().sum());
                ClassAccuracy { name: (*name).to_owned(), correct, n, top1: correct as f64 / n as f64 }
            })
            .collect();
        let (correct, n) = per_class.iter().fold((0, 0), |(c, n), class| (c + class.correct, n + class.n));
        let classes = self.classes.iter().map(|(_, name)| (*name).to_owned()).collect();
        Ok(Evaluation {
            top1: correct as f64 / n as f64,
            n,
            skipped,
            per_class,
            confusion: Confusion { classes, counts },
        })
    }

    fn answer(&self, logits: &[f32], restricted: bool) -> Option<usize> {
        let allowed = |class: &usize| !restricted || self.of_head.get(*class).copied().flatten().is_some();
        (0..logits.len()).filter(allowed).reduce(|best, class| if logits[class] > logits[best] { class } else { best })
    }
}

/// The head's classes of this name.
fn find(name: &str, head: &[&str], contained: bool) -> Vec<usize> {
    let equal: Vec<usize> = (0..head.len()).filter(|&at| head[at] == name).collect();
    if !equal.is_empty() || !contained || name.chars().count() != 1 {
        return equal;
    }
    let holding: Vec<usize> = (0..head.len()).filter(|&at| head[at].contains(name)).collect();
    if holding.len() == 1 { holding } else { Vec::new() }
}

fn list(labels: &[&str]) -> String {
    const LISTED: usize = 8;
    let shown: Vec<String> = labels.iter().take(LISTED).map(|label| format!("'{label}'")).collect();
    let more = if labels.len() > LISTED { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: Kind, labels: &[&str]) -> Vec<u8> {
        use hone_runtime::quant::{EmbeddingKind, EmbeddingSpec};
        let parts = hone_runtime::head::HeadParts {
            kind,
            unit: false,
            fingerprint: hone_runtime::bundle::Fingerprint([1; 16]),
            embedding: EmbeddingSpec { dim: 1, kind: EmbeddingKind::F16 },
            labels,
            bias: &vec![0.0; labels.len()],
            weights: hone_runtime::head::Weights::F32(&vec![1.0; labels.len()]),
        };
        parts.to_bytes().unwrap()
    }

    #[test]
    fn values_are_no_classes() {
        let (values, classes) = (head(Kind::Regression, &["0", "1"]), head(Kind::Softmax, &["0", "1"]));
        let refused = check_classifies(&HeadView::parse(&values).unwrap(), Path::new("data.npy")).unwrap_err();
        assert!(refused.to_string().contains("data.npy") && refused.to_string().contains("values"), "{refused}");
        check_classifies(&HeadView::parse(&classes).unwrap(), Path::new("data.npy")).unwrap();
    }

    #[test]
    fn numbers_that_meet_classes_without_names_are_noticed() {
        let (unnamed, named) = (head(Kind::Softmax, &["0", "1"]), head(Kind::Softmax, &["no", "1"]));
        let notice = |record: &[u8], taught: &[&str]| unnamed_notice(&HeadView::parse(record).unwrap(), taught);
        assert!(notice(&unnamed, &["7", "1"]).unwrap().contains("--model-classes"));
        assert_eq!(notice(&unnamed, &["7", "cat"]), None);
        assert_eq!(notice(&named, &["1"]), None);
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn equal_names_match_whatever_their_order() {
        let classes = names(&["yes", "no"]);
        let judge = Judge::new(&[0, 1, 1], &classes, &["no", "up", "yes"], Matching::default()).unwrap();
        assert_eq!(judge.of_head, [Some(1), None, Some(0)]);
    }

    #[test]
    fn an_unknown_class_is_named_unless_it_may_be_left_out() {
        let classes = names(&["yes", "maybe"]);
        let head = ["yes", "no"];
        let why = Judge::new(&[0, 1], &classes, &head, Matching::default()).err().unwrap();
        assert!(why.contains("'maybe'") && why.contains("'no'"), "{why}");
        // A class without rows need not be known.
        assert!(Judge::new(&[0, 0], &classes, &head, Matching::default()).is_ok());
        let known_only = Matching { known_only: true, ..Matching::default() };
        let judge = Judge::new(&[0, 1, 1], &classes, &head, known_only).unwrap();
        let e = judge.count(false, |_| Ok(vec![1.0, 0.0])).unwrap();
        assert_eq!((e.n, e.skipped, e.top1), (1, 2, 1.0));
        assert!(Judge::new(&[1], &classes, &head, known_only).is_err());
    }

    #[test]
    fn a_character_matches_the_label_that_contains_it_only_when_asked() {
        let classes = names(&["0", "2", "l"]);
        let head = ["0Oo", "2", "1Il"];
        assert!(Judge::new(&[0, 1, 2], &classes, &head, Matching::default()).is_err());
        let contained = Matching { contained: true, ..Matching::default() };
        let judge = Judge::new(&[0, 1, 2], &classes, &head, contained).unwrap();
        assert_eq!(judge.of_head, [Some(0), Some(1), Some(2)]);
        assert!(Judge::new(&[0], &names(&["a"]), &["ab", "ac"], contained).is_err(), "two labels contain it");
        assert!(Judge::new(&[0, 1], &names(&["0", "O"]), &head, contained).is_err(), "two classes in one label");
    }

    #[test]
    fn names_that_repeat_in_the_models_own_list_count_by_place() {
        let classes = names(&["crane", "dog", "crane"]);
        let judge = Judge::new(&[0, 2], &classes, &["crane", "dog", "crane"], Matching::default()).unwrap();
        let e = judge.count(false, |_| Ok(vec![0.0, 0.0, 1.0])).unwrap();
        assert_eq!(e.top1, 0.5);
    }

    /// Four rows by hand: one right, one taken for the other class, one for a class that the data lacks, one tie.
    #[test]
    fn counts_by_class_and_answer() {
        let classes = names(&["a", "b"]);
        let judge = Judge::new(&[0, 0, 1, 1], &classes, &["b", "x", "a"], Matching::default()).unwrap();
        let logits = [[0.0, 0.0, 2.0], [1.0, 0.0, 0.5], [0.5, 3.0, 0.0], [1.0, 1.0, 1.0]];
        let all = judge.count(false, |row| Ok(logits[row].to_vec())).unwrap();
        assert_eq!(all.confusion.counts, [[1, 1, 0], [0, 1, 1]]);
        assert_eq!((all.top1, all.n), (0.5, 4));
        assert_eq!((all.per_class[1].correct, all.per_class[1].n), (1, 2));
        let among = judge.count(true, |row| Ok(logits[row].to_vec())).unwrap();
        assert_eq!(among.confusion.counts, [[1, 1, 0], [0, 2, 0]]);
        assert_eq!(among.top1, 0.75);
    }
}
