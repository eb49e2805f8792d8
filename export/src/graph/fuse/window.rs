//! Padding into the window after it; poolings over everything into global ones.

use super::rewrite::Rewriter;
use crate::graph::{Dim, Op, op::Padding, op::Window};

/// Constant padding of spatial axes into the Conv or pooling that reads it, where that gives the same numbers.
pub(super) fn pad_into_window(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let Op::Pad { amounts, value } = &r.node(i).op else { return None };
    let (amounts, value) = (amounts.clone(), *value);
    let x = r.input(i, 0)?;
    let output = r.output(i)?;
    let next = r.only_reader(output)?;
    if r.input(next, 0)? != output {
        return None;
    }
    let rank = amounts.len() / 2;
    let spatial = rank.checked_sub(2)?;
    if [0, 1, rank, rank + 1].iter().any(|&k| amounts.get(k) != Some(&0)) {
        return None;
    }
    let added: Vec<usize> = amounts[2..rank].iter().chain(&amounts[rank + 2..]).copied().collect();
    let op = match r.node(next).op.clone() {
        Op::Conv { window, group } if value == 0.0 => Op::Conv { window: widened(&window, &added)?, group },
        Op::AveragePool { window, ceil: false, count_include_pad } if value == 0.0 => {
            // The padding counted as data; the pool's own may only join it when it counts as well.
            let own = matches!(&window.padding, Padding::Explicit(p) if p.iter().any(|&n| n > 0));
            if own && !count_include_pad {
                return None;
            }
            small_enough(&window, &added, spatial)?;
            Op::AveragePool { window: widened(&window, &added)?, ceil: false, count_include_pad: true }
        }
        Op::MaxPool { window, ceil } => {
            // Padding of a pool never wins; zeros never win over what is not negative.
            let never_wins = value == f32::NEG_INFINITY || (value == 0.0 && is_not_negative(r, x));
            if !never_wins {
                return None;
            }
            small_enough(&window, &added, spatial)?;
            Op::MaxPool { window: widened(&window, &added)?, ceil }
        }
        _ => return None,
    };
    r.graph.nodes[next].op = op;
    r.absorb_earlier(i, next, x);
    Some("Pad into the next layer")
}

fn widened(window: &Window, added: &[usize]) -> Option<Window> {
    let Padding::Explicit(own) = &window.padding else { return None };
    if own.len() != added.len() {
        return None;
    }
    let sum = own.iter().zip(added).map(|(a, b)| a.checked_add(*b)).collect::<Option<Vec<usize>>>()?;
    Some(Window { padding: Padding::Explicit(sum), ..window.clone() })
}

/// Every window of a pool must still touch data: less padding than the window is long, on both sides.
fn small_enough(window: &Window, added: &[usize], spatial: usize) -> Option<()> {
    let sum = widened(window, added)?;
    let Padding::Explicit(amounts) = &sum.padding else { return None };
    let plain = window.dilations.iter().all(|&d| d == 1);
    let short = amounts.iter().enumerate().all(|(k, &n)| n < window.kernel[k % spatial.max(1)]);
    (plain && short).then_some(())
}

fn is_not_negative(r: &Rewriter<'_>, x: crate::graph::ValueId) -> bool {
    r.maker(x).is_some_and(|p| match r.node(p).op {
        Op::Relu | Op::Sigmoid | Op::HardSigmoid { .. } | Op::Softmax { .. } => true,
        Op::Clip { min, .. } => min >= 0.0,
        _ => false,
    })
}

/// Means over all spatial axes become GlobalAveragePool.
pub(super) fn global_pooling(r: &mut Rewriter<'_>, i: usize) -> Option<&'static str> {
    let x = r.input(i, 0)?;
    match r.node(i).op.clone() {
        Op::ReduceMean { axes, keepdims } => {
            let shape = r.shape(x)?;
            let rank = shape.len();
            let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + rank as i64 } else { a }).collect();
            axes.sort_unstable();
            if !(3..=4).contains(&rank) || axes != (2..rank as i64).collect::<Vec<i64>>() {
                return None;
            }
            if keepdims {
                r.replace(i, Op::GlobalAveragePool, vec![Some(x)]);
            } else {
                let mut pooled = shape[..2].to_vec();
                pooled.resize(rank, Dim::Fixed(1));
                let name = format!("{}_pooled", r.node(i).name);
                let pooled = r.insert_before(i, &name, Op::GlobalAveragePool, x, pooled);
                r.replace(i, Op::Flatten { axis: 1 }, vec![Some(pooled)]);
            }
            Some("ReduceMean to GlobalAveragePool")
        }
        Op::AveragePool { window, .. } => {
            let spatial = r.shape(x)?.get(2..)?;
            let whole = spatial.iter().zip(&window.kernel).all(|(d, k)| *d == Dim::Fixed(*k));
            let plain = window.dilations.iter().all(|&d| d == 1);
            let one = r.shape(r.output(i)?)?.get(2..)?.iter().all(|d| *d == Dim::Fixed(1));
            let unpadded = match &window.padding {
                Padding::Explicit(p) => p.iter().all(|&n| n == 0),
                _ => window.kernel.iter().zip(&window.strides).all(|(k, s)| k == s),
            };
            if !(whole && plain && one && unpadded) {
                return None;
            }
            r.replace(i, Op::GlobalAveragePool, vec![Some(x)]);
            Some("AveragePool to GlobalAveragePool")
        }
        _ => None,
    }
}
