//! Output shapes per operator.

use super::{Fact, Item, LONGEST_SHAPE, dims};
use crate::graph::{
    DType, Dim, Node, Op, Tensor,
    eval::{Fault, Outcome, normalize_axis, resize_target, shape_range, slice_axis, split_sizes},
};

/// Facts about the outputs of a node; shapes that cannot be derived are `None`.
pub(super) fn infer_node(node: &Node, inputs: &[Option<&Fact>], constants: &[Option<&Tensor>]) -> Outcome<Vec<Fact>> {
    let cx = Context { node, inputs, constants };
    let dtype = cx.dtype();
    if let Op::Split { axis, sizes } = &node.op {
        return cx.split(*axis, sizes, dtype);
    }
    let (shape, items) = match &node.op {
        Op::Shape { start, end } => cx.shape_operator(*start, *end),
        _ => (cx.shape()?, cx.items()?),
    };
    let mut out = vec![Fact { dtype, shape, items }];
    // Further outputs (a pooling's indices, a normalisation's statistics) are not derived.
    out.resize(node.outputs.len().max(1), Fact::default());
    Ok(out)
}

struct Context<'a> {
    node: &'a Node,
    inputs: &'a [Option<&'a Fact>],
    constants: &'a [Option<&'a Tensor>],
}

type Shape = Option<Vec<Dim>>;

impl Context<'_> {
    fn input(&self, i: usize) -> Option<&Fact> {
        self.inputs.get(i).copied().flatten()
    }

    fn shape_of(&self, i: usize) -> Option<&[Dim]> {
        self.input(i)?.shape.as_deref()
    }

    fn items_of(&self, i: usize) -> Option<&[Item]> {
        self.input(i)?.items.as_deref()
    }

    /// Known integers of an input.
    fn ints(&self, i: usize) -> Option<Vec<i64>> {
        self.items_of(i)?.iter().map(|v| if let Item::Int(n) = v { Some(*n) } else { None }).collect()
    }

    fn dtype(&self) -> Option<DType> {
        let of = |i: usize| self.input(i).and_then(|f| f.dtype);
        match &self.node.op {
            Op::Cast { to } => Some(*to),
            Op::Shape { .. } => Some(DType::I64),
            Op::Equal => Some(DType::Bool),
            Op::Where => of(1),
            Op::ConstantOfShape { value } => Some(value.dtype()),
            Op::QuantizeLinear { .. } => Some(of(2).unwrap_or(DType::U8)),
            Op::DequantizeLinear { .. } => of(1),
            Op::Other { .. } => None,
            _ => of(0),
        }
    }

    fn shape(&self) -> Outcome<Shape> {
        let Some(x) = self.shape_of(0) else {
            return Ok(match &self.node.op {
                Op::Reshape { .. } | Op::ConstantOfShape { .. } => self.target_shape(),
                _ => None,
            });
        };
        let rank = x.len();
        Ok(Some(match &self.node.op {
            Op::Conv { window, .. } => {
                let Some(w) = self.shape_of(1) else { return Ok(None) };
                if rank < 3 || w.len() != rank {
                    return Err(Fault::Invalid(format!("data with {rank} axes, weights with {}", w.len())));
                }
                let mut out = vec![x[0].clone(), w[0].clone()];
                out.extend(dims::windowed(window, &x[2..], false)?);
                out
            }
            Op::MaxPool { window, ceil } | Op::AveragePool { window, ceil, .. } => {
                if rank < 3 {
                    return Err(Fault::Invalid(format!("data with {rank} axes")));
                }
                let mut out = x[..2].to_vec();
                out.extend(dims::windowed(window, &x[2..], *ceil)?);
                out
            }
            Op::GlobalAveragePool | Op::GlobalMaxPool => {
                let one = |(i, d): (usize, &Dim)| if i < 2 { d.clone() } else { Dim::Fixed(1) };
                x.iter().enumerate().map(one).collect()
            }
            Op::Gemm { trans_a, trans_b, .. } => {
                let Some(b) = self.shape_of(1) else { return Ok(None) };
                let ([a0, a1], [b0, b1]) = (x, b) else {
                    return Err(Fault::Invalid(format!("matrices are expected, got {rank} and {} axes", b.len())));
                };
                let (m, k) = if *trans_a { (a1, a0) } else { (a0, a1) };
                let (k2, n) = if *trans_b { (b1, b0) } else { (b0, b1) };
                same(k, k2)?;
                vec![m.clone(), n.clone()]
            }
            Op::MatMul => {
                let Some(b) = self.shape_of(1) else { return Ok(None) };
                matmul(x, b)?
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow | Op::Max | Op::Min | Op::Equal | Op::Where => {
                let mut out = x.to_vec();
                for i in 1..self.inputs.len() {
                    let Some(b) = self.shape_of(i) else { return Ok(None) };
                    out = dims::broadcast_shapes(&out, b)?;
                }
                out
            }
            Op::ReduceMean { axes, keepdims } | Op::ReduceSum { axes, keepdims } | Op::ReduceMax { axes, keepdims } => {
                let mut reduced = vec![axes.is_empty(); rank];
                for &axis in axes {
                    reduced[normalize_axis(axis, rank)?] = true;
                }
                let size = |(d, r): (&Dim, bool)| match (r, keepdims) {
                    (false, _) => Some(d.clone()),
                    (true, true) => Some(Dim::Fixed(1)),
                    (true, false) => None,
                };
                x.iter().zip(reduced).filter_map(size).collect()
            }
            Op::Reshape { allow_zero } => return self.reshape(x, *allow_zero),
            Op::ConstantOfShape { .. } => return Ok(self.items_of(0).and_then(to_dims)),
            Op::Flatten { axis } => {
                let axis = if *axis == rank as i64 { rank } else { normalize_axis(*axis, rank.max(1))? };
                vec![dims::Product::of(&x[..axis]).into_dim(), dims::Product::of(&x[axis..]).into_dim()]
            }
            Op::Transpose { perm } => {
                let perm: Vec<usize> = if perm.is_empty() { (0..rank).rev().collect() } else { perm.clone() };
                if perm.len() != rank || perm.iter().any(|&p| p >= rank) {
                    return Err(Fault::Invalid(format!("permutation {perm:?} of {rank} axes")));
                }
                perm.iter().map(|&p| x[p].clone()).collect()
            }
            Op::Squeeze { axes } => {
                let mut drop: Vec<bool> = x.iter().map(|d| axes.is_empty() && *d == Dim::Fixed(1)).collect();
                for &axis in axes {
                    drop[normalize_axis(axis, rank)?] = true;
                }
                x.iter().zip(drop).filter(|(_, drop)| !drop).map(|(d, _)| d.clone()).collect()
            }
            Op::Unsqueeze { axes } => {
                let rank = rank + axes.len();
                let mut new = vec![false; rank];
                for &axis in axes {
                    new[normalize_axis(axis, rank)?] = true;
                }
                let mut old = x.iter();
                let size = |&new: &bool| if new { Some(Dim::Fixed(1)) } else { old.next().cloned() };
                new.iter().filter_map(size).collect()
            }
            Op::Concat { axis } => {
                let axis = normalize_axis(*axis, rank)?;
                let mut parts = Vec::with_capacity(self.inputs.len());
                for i in 0..self.inputs.len() {
                    let Some(part) = self.shape_of(i) else { return Ok(None) };
                    let Some(size) = part.get(axis).filter(|_| part.len() == rank) else {
                        return Err(Fault::Invalid(format!("parts with {rank} and {} axes", part.len())));
                    };
                    parts.push(size.clone());
                }
                let mut out = x.to_vec();
                out[axis] = dims::sum(&parts);
                out
            }
            Op::Slice => return self.slice(x),
            Op::Gather { axis } => {
                let axis = normalize_axis(*axis, rank)?;
                let Some(indices) = self.shape_of(1) else { return Ok(None) };
                [&x[..axis], indices, &x[axis + 1..]].concat()
            }
            Op::Expand => match self.items_of(1).and_then(to_dims) {
                Some(target) => dims::broadcast_shapes(x, &target)?,
                None => return Ok(None),
            },
            Op::Pad { amounts, .. } | Op::PadMode { amounts, .. } => {
                if amounts.len() != 2 * rank {
                    return Err(Fault::Invalid(format!("{} padding amounts for {rank} axes", amounts.len())));
                }
                let size = |(i, d): (usize, &Dim)| {
                    dims::sum(&[d.clone(), Dim::Fixed(amounts[i].saturating_add(amounts[i + rank]))])
                };
                x.iter().enumerate().map(size).collect()
            }
            Op::Resize(_) => return self.resize(x),
            Op::Range => return Ok(self.range()),
            Op::Other { .. } | Op::Split { .. } | Op::Shape { .. } => return Ok(None),
            _ => x.to_vec(),
        }))
    }

    /// The rank of a Reshape's result whose data or target is not known.
    fn target_shape(&self) -> Shape {
        let i = usize::from(matches!(self.node.op, Op::Reshape { .. }));
        match self.shape_of(i)? {
            [Dim::Fixed(rank)] if *rank <= LONGEST_SHAPE => Some((0..*rank).map(|axis| self.unknown(axis)).collect()),
            _ => None,
        }
    }

    fn unknown(&self, axis: usize) -> Dim {
        Dim::Symbol(format!("({}:{axis})", self.node.name))
    }

    fn reshape(&self, x: &[Dim], allow_zero: bool) -> Outcome<Shape> {
        let Some(target) = self.items_of(1) else { return Ok(self.target_shape()) };
        let fault = || Fault::Invalid(format!("{} cannot take the shape {target:?}", crate::graph::show_shape(x)));
        let mut out = Vec::with_capacity(target.len());
        let mut open = None;
        for (i, item) in target.iter().enumerate() {
            out.push(match item {
                Item::Int(-1) if open.is_none() => {
                    open = Some(i);
                    Dim::Fixed(1)
                }
                Item::Int(0) if !allow_zero => x.get(i).ok_or_else(fault)?.clone(),
                Item::Int(n) => Dim::Fixed(usize::try_from(*n).map_err(|_| fault())?),
                Item::Symbol(s) => Dim::Symbol(s.clone()),
            });
        }
        let (total, known) = (dims::Product::of(x), dims::Product::of(&out));
        let symbolic = |d: &Dim| d.fixed().is_none();
        let all_fixed = !x.iter().chain(&out).any(symbolic);
        match open {
            Some(i) => match total.divide(&known) {
                Some(rest) => out[i] = rest.into_dim(),
                None if all_fixed => return Err(fault()),
                None => out[i] = self.unknown(i),
            },
            None if all_fixed && total != known => return Err(fault()),
            None => {}
        }
        Ok(Some(out))
    }

    fn slice(&self, x: &[Dim]) -> Outcome<Shape> {
        let (Some(starts), Some(ends)) = (self.ints(1), self.ints(2)) else {
            return Ok(Some((0..x.len()).map(|axis| self.unknown(axis)).collect()));
        };
        let axes = match self.input(3) {
            Some(_) => self.ints(3),
            None => Some((0..starts.len() as i64).collect()),
        };
        let steps = match self.input(4) {
            Some(_) => self.ints(4),
            None => Some(vec![1; starts.len()]),
        };
        let (Some(axes), Some(steps)) = (axes, steps) else { return Ok(None) };
        if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
            return Err(Fault::Invalid("starts, ends, axes and steps differ in length".to_owned()));
        }
        let mut out = x.to_vec();
        for (i, &axis) in axes.iter().enumerate() {
            let axis = normalize_axis(axis, x.len())?;
            let (start, end, step) = (starts[i], ends[i], steps[i]);
            out[axis] = match &out[axis] {
                Dim::Fixed(n) => Dim::Fixed(slice_axis(*n, start, end, step)?.1),
                Dim::Symbol(s) if start == 0 && end >= i64::from(i32::MAX) && step == 1 => Dim::Symbol(s.clone()),
                Dim::Symbol(s) => Dim::Symbol(format!("{s}[{start}:{end}:{step}]")),
            };
        }
        Ok(Some(out))
    }

    fn resize(&self, x: &[Dim]) -> Outcome<Shape> {
        let scales = match self.constants.get(2).copied().flatten() {
            Some(Tensor::F32(a)) => Some(a.iter().copied().collect::<Vec<f32>>()),
            _ => None,
        };
        let sizes = self.items_of(3).and_then(to_dims);
        if let Some(sizes) = sizes.filter(|s| !s.is_empty()) {
            return Ok(Some(sizes));
        }
        let Some(scales) = scales.filter(|s| s.len() == x.len()) else { return Ok(None) };
        let size = |(d, &scale): (&Dim, &f32)| match d {
            Dim::Fixed(n) => Ok(Dim::Fixed(resize_target(&[*n], Some(&[scale]), None)?[0])),
            Dim::Symbol(s) if scale == 1.0 => Ok(Dim::Symbol(s.clone())),
            Dim::Symbol(s) => Ok(Dim::Symbol(format!("({s}*{scale})"))),
        };
        x.iter().zip(&scales).map(size).collect::<Outcome<Vec<Dim>>>().map(Some)
    }

    fn range(&self) -> Shape {
        let one = |i: usize| match self.ints(i)?[..] {
            [n] => Some(i128::from(n)),
            _ => None,
        };
        let (Some(start), Some(limit), Some(delta)) = (one(0), one(1), one(2)) else {
            return Some(vec![self.unknown(0)]);
        };
        if delta == 0 {
            return None;
        }
        let gap = if delta > 0 { limit - start } else { start - limit };
        let count = if gap <= 0 { 0 } else { (gap - 1) / delta.abs() + 1 };
        Some(vec![Dim::Fixed(usize::try_from(count).unwrap_or(usize::MAX))])
    }

    fn split(&self, axis: i64, sizes: &[usize], dtype: Option<DType>) -> Outcome<Vec<Fact>> {
        let outputs = self.node.outputs.len();
        let fact = |shape: Shape| Fact { dtype, shape, items: None };
        let Some(x) = self.shape_of(0) else { return Ok(vec![fact(None); outputs]) };
        let axis = normalize_axis(axis, x.len())?;
        let sizes = match &x[axis] {
            Dim::Fixed(n) => split_sizes(*n, sizes, outputs)?.into_iter().map(Dim::Fixed).collect(),
            Dim::Symbol(_) if sizes.len() == outputs => sizes.iter().map(|&n| Dim::Fixed(n)).collect(),
            Dim::Symbol(_) => vec![self.unknown(axis); outputs],
        };
        let part = |size: Dim| {
            let mut out = x.to_vec();
            out[axis] = size;
            fact(Some(out))
        };
        Ok(sizes.into_iter().map(part).collect::<Vec<Fact>>())
    }

    fn shape_operator(&self, start: i64, end: Option<i64>) -> (Shape, Option<Vec<Item>>) {
        let Some(x) = self.shape_of(0) else { return (None, None) };
        let range = shape_range(x.len(), start, end);
        let items = x[range].iter().map(Item::from_dim).collect::<Vec<Item>>();
        (Some(vec![Dim::Fixed(items.len())]), Some(items))
    }

    /// The numbers of the output, for operators that occur in shape arithmetic.
    fn items(&self) -> Outcome<Option<Vec<Item>>> {
        let Some(x) = self.items_of(0) else { return Ok(None) };
        Ok(match &self.node.op {
            Op::Identity | Op::Squeeze { .. } | Op::Unsqueeze { .. } => Some(x.to_vec()),
            Op::Reshape { .. } => Some(x.to_vec()),
            Op::Cast { to: DType::I64 | DType::I32 } => Some(x.to_vec()),
            Op::Concat { .. } => {
                let mut out = Vec::new();
                for i in 0..self.inputs.len() {
                    let Some(part) = self.items_of(i) else { return Ok(None) };
                    out.extend_from_slice(part);
                }
                (out.len() <= LONGEST_SHAPE).then_some(out)
            }
            Op::Gather { .. } => {
                let Some(indices) = self.ints(1) else { return Ok(None) };
                let n = x.len() as i64;
                let pick = |&i: &i64| {
                    usize::try_from(if i < 0 { i.saturating_add(n) } else { i }).ok().and_then(|i| x.get(i).cloned())
                };
                indices.iter().map(pick).collect()
            }
            Op::Slice => {
                let (Some(starts), Some(ends)) = (self.ints(1), self.ints(2)) else { return Ok(None) };
                let steps = if self.input(4).is_some() { self.ints(4) } else { Some(vec![1]) };
                let ([start], [end], Some([step])) = (&starts[..], &ends[..], steps.as_deref()) else {
                    return Ok(None);
                };
                let (first, count, step) = slice_axis(x.len(), *start, *end, *step)?;
                let pick =
                    |i: usize| usize::try_from(first as i64 + i as i64 * step).ok().and_then(|i| x.get(i).cloned());
                (0..count).map(pick).collect()
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div => {
                let Some(b) = self.items_of(1) else { return Ok(None) };
                let n = if x.len() == 1 { b.len() } else { x.len() };
                if b.len() != n && b.len() != 1 {
                    return Ok(None);
                }
                (0..n).map(|i| arithmetic(&self.node.op, &x[i % x.len()], &b[i % b.len()])).collect()
            }
            _ => None,
        })
    }
}

fn arithmetic(op: &Op, a: &Item, b: &Item) -> Option<Item> {
    use Item::{Int, Symbol};
    Some(match (op, a, b) {
        (Op::Add, Int(a), Int(b)) => Int(a.checked_add(*b)?),
        (Op::Sub, Int(a), Int(b)) => Int(a.checked_sub(*b)?),
        (Op::Mul, Int(a), Int(b)) => Int(a.checked_mul(*b)?),
        (Op::Div, Int(a), Int(b)) => Int(a.checked_div(*b)?),
        (Op::Mul, Int(1), other) | (Op::Mul | Op::Div, other, Int(1)) => other.clone(),
        (Op::Add, Int(0), other) | (Op::Add | Op::Sub, other, Int(0)) => other.clone(),
        (Op::Mul, Int(n), Symbol(s)) | (Op::Mul, Symbol(s), Int(n)) => {
            let n = usize::try_from(*n).ok()?;
            Item::from_dim(&dims::Product::of(&[Dim::Fixed(n), Dim::Symbol(s.clone())]).into_dim())
        }
        _ => return None,
    })
}

fn to_dims(items: &[Item]) -> Option<Vec<Dim>> {
    let dim = |item: &Item| match item {
        Item::Int(n) => usize::try_from(*n).ok().map(Dim::Fixed),
        Item::Symbol(s) => Some(Dim::Symbol(s.clone())),
    };
    items.iter().map(dim).collect()
}

fn same(a: &Dim, b: &Dim) -> Outcome<()> {
    match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) if a != b => Err(Fault::Invalid(format!("sizes {a} and {b} do not fit"))),
        _ => Ok(()),
    }
}

fn matmul(a: &[Dim], b: &[Dim]) -> Outcome<Vec<Dim>> {
    if a.is_empty() || b.is_empty() {
        return Err(Fault::Invalid("MatMul of a scalar".to_owned()));
    }
    let one = [Dim::Fixed(1)];
    let (left, right) = (a.len() == 1, b.len() == 1);
    let a = if left { [&one[..], a].concat() } else { a.to_vec() };
    let b = if right { [b, &one[..]].concat() } else { b.to_vec() };
    let (a_lead, a_dims) = a.split_at(a.len() - 2);
    let (b_lead, b_dims) = b.split_at(b.len() - 2);
    same(&a_dims[1], &b_dims[0])?;
    let mut out = dims::broadcast_shapes(a_lead, b_lead)?;
    if !left {
        out.push(a_dims[0].clone());
    }
    if !right {
        out.push(b_dims[1].clone());
    }
    Ok(out)
}
