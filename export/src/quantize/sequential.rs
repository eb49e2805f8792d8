//! The walk over the network with all calibration rows: measuring in float, then fitting layer by layer behind the quantized prefix.

use std::path::Path;

use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::equalize::{ChannelRanges, Factors};
use super::evaluate::{apply, arguments, borrow, bound, float_layer, quantized_layer};
use super::fit::{self, LayerMoments, Moments, Rounded};
use super::network::{Bounds, Network, Step as NetStep, Weighted};
use super::ranges::{Measured, left_over};
use super::spool::Spool;
use super::{Options, Rounding, Rows, Step};
use crate::calibrate::{Extremes, Histogram, RangeMethod};
use crate::graph::{Graph, Op, Tensor, ValueId, eval, text, window::Geometry};
use crate::{Error, Result};

/// Rows are worked on in this many interleaved parts, a fixed number so that sums do not depend on the machine. Even parts hold
/// the even rows, which is what the two folds of the cross validation need.
const PARTS: usize = 4;
/// Positions of a layer that its moments are taken from, over all rows.
const MAX_POSITIONS: usize = 200_000;
/// Multiply-accumulates that the second moments of all layers may cost together; fewer positions are taken where it would be more.
const MOMENTS_WORK: usize = 1 << 40;
/// Numbers of the columns of one row that are held at a time (128 MiB).
const MAX_COLUMNS: usize = 1 << 25;
/// Numbers of a layer's second moments (groups × inputs²; 192 MiB). A layer with more is rounded to nearest and its bias corrected.
const MAX_MOMENTS: usize = 24 << 20;

/// How well one step of the quantized network follows the float network, over the calibration rows.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LayerReport {
    /// Node name.
    pub name: String,
    /// ONNX operator.
    pub op: String,
    /// Signal to quantization noise in dB, with all earlier layers quantized too.
    pub sqnr_db: f64,
    /// Whether its output is stored quantized.
    pub quantized: bool,
    /// Ridge strength chosen for the weights; `None` for layers without weights and for original weights.
    pub strength: Option<f64>,
}

/// The calibration rows, spooled, with the shape of one.
pub(super) struct Walk<'a> {
    scratch: &'a Path,
    rows: usize,
    input: Spool,
    shape: Vec<usize>,
    /// Number of tokens, where the rows are texts: ids, then the mask.
    tokens: Option<usize>,
}

/// One value of all rows: the float network's and the quantized network's.
struct Pair {
    shape: Vec<usize>,
    float: Spool,
    quantized: Spool,
    /// The step of the codes; `None`: it is not stored quantized.
    step: Option<Step>,
    /// Whether `quantized` holds f32, also where there is a step, which is then applied for those who read codes.
    is_float: bool,
    /// Whether the values are int64 (ids of a text), which f32 holds exactly.
    is_integer: bool,
}

impl Pair {
    fn new(folder: &Path, shape: &[usize], step: Option<Step>, float_beside: bool) -> Result<Self> {
        let len: usize = shape.iter().product();
        let is_float = step.is_none() || float_beside;
        let quantized = Spool::new(folder, if is_float { 4 * len } else { len })?;
        Ok(Self {
            shape: shape.to_vec(),
            float: Spool::new(folder, 4 * len)?,
            quantized,
            step,
            is_float,
            is_integer: false,
        })
    }

    fn write_quantized(&self, row: usize, values: &[f32]) -> Result<()> {
        match self.step.filter(|_| !self.is_float) {
            Some(step) => {
                let codes: Vec<u8> = values.iter().map(|&v| step.quantize(v)).collect();
                self.quantized.write(row, &codes)
            }
            None => self.quantized.write_f32(row, values),
        }
    }

    /// What a weighted layer reads.
    fn read_quantized(&self, row: usize) -> Result<Vec<f32>> {
        match self.step {
            Some(step) if self.is_float => {
                let values = self.quantized.read_f32(row)?;
                Ok(values.into_iter().map(|v| step.dequantize(step.quantize(v))).collect())
            }
            Some(step) => {
                let levels: Vec<f32> = (0..=255).map(|q| step.dequantize(q)).collect();
                Ok(self.quantized.read(row)?.into_iter().map(|q| levels[usize::from(q)]).collect())
            }
            None => self.quantized.read_f32(row),
        }
    }

    /// What any other step reads.
    fn read_beside(&self, row: usize) -> Result<Vec<f32>> {
        if self.is_float { self.quantized.read_f32(row) } else { self.read_quantized(row) }
    }
}

/// Which of the two networks a value is taken from.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Float,
    Quantized,
}

impl<'a> Walk<'a> {
    /// Reads every row once.
    pub fn new(network: &Network, rows: &mut dyn Rows, scratch: &'a Path) -> Result<Self> {
        let [input] = network.graph.inputs[..] else {
            return Err(Error::InvalidModel {
                model: network.graph.name.clone(),
                why: format!("{} inputs; calibration feeds exactly one", network.graph.inputs.len()),
            });
        };
        let mut spool: Option<(Spool, Vec<usize>)> = None;
        for i in 0..rows.len() {
            let tensor = rows.row(i)?;
            let name = &network.graph.value(input).name;
            let values = floats(&tensor, name)?;
            if let Some(index) = values.iter().position(|v| !v.is_finite()) {
                return Err(Error::NonFinite { what: format!("calibration row {i}"), value: values[index], index });
            }
            if spool.is_none() {
                spool = Some((Spool::new(scratch, 4 * values.len())?, tensor.shape().to_vec()));
            }
            let Some((file, shape)) = &spool else { continue };
            if shape != tensor.shape() {
                return Err(Error::Shape {
                    what: format!("calibration row {i}"),
                    expected: format!("{shape:?}"),
                    got: format!("{:?}", tensor.shape()),
                });
            }
            file.write_f32(i, &values)?;
        }
        let (spool, shape) =
            spool.ok_or_else(|| Error::Setting { name: "calibration rows".into(), why: "there are none".into() })?;
        Ok(Self { scratch, rows: rows.len(), input: spool, shape, tokens: text::tokens(&network.graph) })
    }

    fn input_row(&self, row: usize) -> Result<Tensor> {
        tensor(&self.shape, self.input.read_f32(row)?)
    }

    /// Which of the `positions` of a row count, where the row is a text that does not fill them and the layer has one for each token: what a
    /// layer gives behind the end of a text is read by nobody.
    fn places(&self, row: usize, positions: usize) -> Result<Option<Vec<usize>>> {
        let Some(tokens) = self.tokens.filter(|tokens| *tokens == positions) else { return Ok(None) };
        let mask = &self.input.read_f32(row)?[tokens..];
        Ok(Some((0..tokens).filter(|at| mask[*at] != 0.0).collect()))
    }

    /// Runs the float network on every row; `visit` sees each value once a row, in parts.
    pub(super) fn float_pass<T: Send>(
        &self,
        network: &Network,
        factors: Option<&Factors>,
        start: impl Fn() -> T + Sync,
        visit: impl Fn(&mut T, ValueId, &Tensor) -> Result<()> + Sync,
    ) -> Result<Vec<T>> {
        let layers: Vec<Option<(Tensor, Tensor)>> = network
            .steps
            .iter()
            .map(|step| step.weighted.as_ref().map(float_layer).transpose())
            .collect::<Result<_>>()?;
        (0..PARTS.min(self.rows))
            .into_par_iter()
            .map(|part| {
                let mut state = start();
                for row in (part..self.rows).step_by(PARTS) {
                    let mut env: Vec<Option<Tensor>> = vec![None; network.graph.values.len()];
                    let input = self.input_row(row)?;
                    visit(&mut state, network.graph.inputs[0], &input)?;
                    env[network.graph.inputs[0].0] = Some(input);
                    for (i, step) in network.steps.iter().enumerate() {
                        let args = arguments(network, step, |id| env[id.0].as_ref());
                        let mut outputs = apply(&network.graph, step, args, layers[i].as_ref())?;
                        for (id, tensor) in step.node.outputs.iter().zip(&mut outputs) {
                            bound(tensor, step.bounds, factors.map_or(&[], |f| &f[id.0]));
                            visit(&mut state, *id, tensor)?;
                        }
                        for (id, tensor) in step.node.outputs.iter().zip(outputs) {
                            env[id.0] = Some(tensor);
                        }
                        for id in step.node.inputs.iter().flatten() {
                            if network.readers[id.0].last() == Some(&i) {
                                env[id.0] = None;
                            }
                        }
                    }
                }
                Ok(state)
            })
            .collect()
    }

    /// Ranges of every value, per channel and over all, after absorbed activations.
    pub fn channel_ranges(&self, network: &Network) -> Result<ChannelRanges> {
        // Per value: the channels, then the whole.
        let empty = || vec![(Vec::<Extremes>::new(), Extremes::NONE); network.graph.values.len()];
        let parts = self.float_pass(network, None, empty, |ranges, id, tensor| {
            let Some(data) = tensor.as_f32() else { return Ok(()) };
            let shape = data.shape();
            let (channels, inner) = match shape.len() {
                0 => (1, 1),
                1 => (1, shape[0]),
                2.. => (shape[1], shape[2..].iter().product::<usize>()),
            };
            let (seen, whole) = &mut ranges[id.0];
            seen.resize(channels, Extremes::NONE);
            let Some(flat) = data.as_slice() else { return Ok(()) };
            let mut total = (f32::INFINITY, f32::NEG_INFINITY);
            for (i, chunk) in flat.chunks(inner.max(1)).enumerate() {
                let mut range = (f32::INFINITY, f32::NEG_INFINITY);
                for &v in chunk {
                    if !v.is_finite() {
                        let what = format!("value '{}' on the calibration rows", network.graph.value(id).name);
                        return Err(Error::NonFinite { what, value: v, index: i });
                    }
                    range = (range.0.min(v), range.1.max(v));
                }
                total = (total.0.min(range.0), total.1.max(range.1));
                seen[i % channels.max(1)].add_row(range.0, range.1);
            }
            whole.add_row(total.0, total.1);
            Ok(())
        })?;
        let merged = parts.into_iter().reduce(|mut a, b| {
            for ((channels, whole), (other, other_whole)) in a.iter_mut().zip(&b) {
                channels.resize(channels.len().max(other.len()), Extremes::NONE);
                channels.iter_mut().zip(other).for_each(|(a, b)| a.merge(b));
                whole.merge(other_whole);
            }
            a
        });
        let mut out = ChannelRanges::default();
        for (v, (channels, whole)) in merged.unwrap_or_default().into_iter().enumerate() {
            // The model's input is known exactly; everything else may go beyond what was seen, within its activation.
            let range = |e: &Extremes| match network.maker[v] {
                None => e.seen(),
                Some(maker) => {
                    let bounds = network.steps[maker].bounds;
                    e.extrapolated().map(|(low, high)| (low.max(bounds.low), high.min(bounds.high)))
                }
            };
            out.values.push(channels.iter().map(|e| range(e).unwrap_or((0.0, 0.0))).collect());
            out.whole.push(range(&whole));
        }
        Ok(out)
    }

    /// The range of every value that is stored, by the method.
    pub fn value_ranges(
        &self,
        network: &Network,
        channels: &ChannelRanges,
        factors: &Factors,
        method: RangeMethod,
    ) -> Result<Measured> {
        let mut measured: Measured = (0..network.graph.values.len())
            .map(|v| match &network.graph.values[v].constant {
                Some(Tensor::F32(c)) if network.stored[v] => {
                    Some(c.iter().fold((0.0f32, 0.0f32), |(a, b), &x| (a.min(x), b.max(x))))
                }
                _ if factors[v].iter().any(|&f| f != 1.0) => {
                    channels.values[v].iter().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
                }
                _ => channels.whole[v],
            })
            .collect();
        if method == RangeMethod::MinMax {
            return Ok(measured);
        }
        let start = || -> Vec<Option<Histogram>> {
            let histogram = |(v, range): (usize, &Option<(f32, f32)>)| {
                let range = range.filter(|_| network.stored[v] && network.maker[v].is_some())?;
                Some(Histogram::new(range.0.min(0.0), range.1.max(0.0)))
            };
            measured.iter().enumerate().map(histogram).collect()
        };
        let parts = self.float_pass(network, Some(factors), start, |histograms, id, tensor| {
            if let (Some(h), Some(data)) = (&mut histograms[id.0], tensor.as_f32().and_then(|d| d.as_slice())) {
                h.add(data);
            }
            Ok(())
        })?;
        let whole = parts.into_iter().reduce(|mut a, b| {
            for (a, b) in a.iter_mut().zip(&b) {
                if let (Some(a), Some(b)) = (a, b) {
                    a.merge(b);
                }
            }
            a
        });
        for (range, histogram) in measured.iter_mut().zip(whole.unwrap_or_default()) {
            if let (Some(range), Some(histogram)) = (range, histogram) {
                *range = histogram.range(method);
            }
        }
        Ok(measured)
    }

    /// Fits every layer behind the quantized prefix.
    pub fn fit(
        &self,
        network: &Network,
        steps: &[Option<Step>],
        factors: &Factors,
        options: &Options,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Vec<LayerReport>, Vec<Option<Rounded>>)> {
        let mut frontier: Vec<Option<Pair>> = network.graph.values.iter().map(|_| None).collect();
        let input = network.graph.inputs[0];
        let pair = Pair::new(self.scratch, &self.shape, steps[input.0], network.float_beside[input.0])?;
        for row in 0..self.rows {
            let values = self.input.read_f32(row)?;
            pair.float.write_f32(row, &values)?;
            pair.write_quantized(row, &values)?;
        }
        frontier[input.0] = Some(pair);
        let (mut reports, mut rounded) = (Vec::new(), Vec::new());
        for (i, step) in network.steps.iter().enumerate() {
            progress(i, network.steps.len());
            let layer = match &step.weighted {
                Some(weighted) => {
                    let targets = Targets { network, steps, factors, index: i, step, weighted };
                    Some(self.fit_layer(&targets, &frontier, options)?)
                }
                None => None,
            };
            let noise = self.advance(network, steps, factors, i, layer.as_ref(), &mut frontier)?;
            reports.push(LayerReport {
                name: step.node.name.clone(),
                op: step.node.op.name(),
                sqnr_db: noise,
                quantized: steps[step.node.outputs[0].0].is_some(),
                strength: layer.as_ref().map(|l| l.strength).filter(|s| s.is_finite()),
            });
            rounded.push(layer);
            for id in step.node.inputs.iter().flatten() {
                let is_last = network.readers[id.0].last() == Some(&i);
                if is_last && !network.graph.outputs.contains(id) {
                    frontier[id.0] = None;
                }
            }
        }
        progress(network.steps.len(), network.steps.len());
        Ok((reports, rounded))
    }

    /// The layer's moments over all rows, and the fit.
    fn fit_layer(&self, t: &Targets<'_>, frontier: &[Option<Pair>], options: &Options) -> Result<Rounded> {
        let layer = float_layer(t.weighted)?;
        let compensate = options.rounding == Rounding::Compensated && t.moments() <= MAX_MOMENTS;
        let offsets = self.observe(t, frontier, &layer, 0, None)?;
        let parts: Vec<Observed> = (0..PARTS.min(self.rows))
            .into_par_iter()
            .map(|part| {
                let mut sum: Option<Vec<Moments>> = None;
                for row in (part..self.rows).step_by(PARTS) {
                    let seen = self.observe(t, frontier, &layer, row, Some((&offsets, sum.take(), compensate)))?;
                    sum = Some(seen.moments);
                }
                Ok(Observed { moments: sum.unwrap_or_default(), ..Observed::default() })
            })
            .collect::<Result<_>>()?;
        let group_count = t.weighted.groups;
        let groups = (0..group_count)
            .map(|g| {
                let empty = || {
                    let (o, k) = (t.weighted.matrix.nrows() / group_count, t.weighted.matrix.ncols());
                    Moments::zeros(o, k, compensate)
                };
                let fold = |parity: usize| {
                    parts
                        .iter()
                        .skip(parity)
                        .step_by(2)
                        .filter_map(|p| p.moments.get(g))
                        .fold(empty(), |sum, m| sum.merge(m))
                };
                [fold(0), fold(1)]
            })
            .collect();
        let moments = LayerMoments { groups, x_offset: offsets.x_offset, t_offset: offsets.t_offset };
        let input = t.step.node.inputs[0].ok_or_else(|| missing(&t.network.graph, t.step))?;
        let scale = t.steps[input.0].ok_or_else(|| missing(&t.network.graph, t.step))?.scale;
        let how = fit::How {
            input_scale: scale,
            compensate,
            weight_max: options.weight_max(),
            one_scale: options.weights.is_shared(t.weighted.window.is_some()),
        };
        Ok(fit::fit(&t.weighted.matrix, &t.weighted.bias, &moments, how))
    }

    /// One row's columns and targets: their means per group when `into` is `None`, otherwise added to its moments (the second ones
    /// too where that is true).
    fn observe(
        &self,
        t: &Targets<'_>,
        frontier: &[Option<Pair>],
        layer: &(Tensor, Tensor),
        row: usize,
        into: Option<(&Observed, Option<Vec<Moments>>, bool)>,
    ) -> Result<Observed> {
        let graph = &t.network.graph;
        let float = self.row_arguments(t.network, t.step, frontier, row, Side::Float)?;
        let mut target = take_f32(apply(graph, t.step, borrow(&float), Some(layer))?)?;
        if let Some((other, own)) = t.repaired_addition() {
            let pair = frontier[other.0].as_ref().ok_or_else(|| missing(graph, own))?;
            let difference = pair.float.read_f32(row)?.into_iter().zip(pair.read_beside(row)?).map(|(f, x)| f - x);
            for (t, d) in target.iter_mut().zip(difference) {
                *t += d;
            }
        }
        let input = t.step.node.inputs[0].and_then(|x| frontier[x.0].as_ref()).ok_or_else(|| missing(graph, t.step))?;
        let x = input.read_quantized(row)?;
        let (groups, outputs) = (t.weighted.groups, t.weighted.matrix.nrows());
        let k = t.weighted.matrix.ncols();
        let positions = target.len() / outputs;
        let step = t.position_step(positions, self.rows);
        // From another start in every row.
        let phase = row % step;
        // A convolution gives its channels one after the other, a dense layer its positions.
        let target = match t.weighted.window {
            Some(_) => Array2::from_shape_vec((outputs, positions), target),
            None => Array2::from_shape_vec((positions, outputs), target).map(|t| t.reversed_axes()),
        };
        let target = target.map_err(|e| shape_error(graph, t.step, &e))?;
        let places = if t.weighted.window.is_none() { self.places(row, positions)? } else { None };
        let mut seen = Observed::default();
        let (offsets, mut sums, second) = match into {
            Some((offsets, sums, second)) => (Some(offsets), sums.unwrap_or_default(), second),
            None => (None, Vec::new(), false),
        };
        for g in 0..groups {
            let mut columns = t.columns(&x, &input.shape, g, (phase, step))?;
            let rows = g * (outputs / groups)..(g + 1) * (outputs / groups);
            let mut target = target.slice(s![rows, phase..;step]).to_owned();
            if let Some(places) = &places {
                let kept: Vec<usize> = places
                    .iter()
                    .filter(|at| **at >= phase && (**at - phase).is_multiple_of(step))
                    .map(|at| (at - phase) / step)
                    .collect();
                (columns, target) = (columns.select(Axis(1), &kept), target.select(Axis(1), &kept));
            }
            match offsets {
                None => {
                    seen.x_offset.push(row_means(&columns.view()));
                    seen.t_offset.push(row_means(&target.view()));
                }
                Some(offsets) => {
                    subtract(&mut columns, &offsets.x_offset[g]);
                    subtract(&mut target, &offsets.t_offset[g]);
                    if sums.len() <= g {
                        sums.push(Moments::zeros(outputs / groups, k, second));
                    }
                    sums[g].add(&columns.view(), &target.view());
                }
            }
        }
        seen.moments = sums;
        Ok(seen)
    }

    /// Computes the step on all rows, both sides, and stores its outputs. Gives the signal-to-noise ratio of the first output.
    fn advance(
        &self,
        network: &Network,
        steps: &[Option<Step>],
        factors: &Factors,
        index: usize,
        layer: Option<&Rounded>,
        frontier: &mut [Option<Pair>],
    ) -> Result<f64> {
        let step = &network.steps[index];
        let float = step.weighted.as_ref().map(float_layer).transpose()?;
        let input_step = step.node.inputs.first().copied().flatten().and_then(|x| steps[x.0]);
        let quantized = match (layer, &step.weighted) {
            (Some(rounded), Some(weighted)) => {
                Some(quantized_layer(weighted, rounded, input_step, step.node.op == Op::MatMul)?)
            }
            _ => None,
        };
        let compute = |row: usize| -> Result<(Vec<Tensor>, Vec<Tensor>)> {
            let run = |side: Side, layer: Option<&(Tensor, Tensor)>| -> Result<Vec<Tensor>> {
                let args = self.row_arguments(network, step, frontier, row, side)?;
                apply(&network.graph, step, borrow(&args), layer)
            };
            let (mut f, mut x) = (run(Side::Float, float.as_ref())?, run(Side::Quantized, quantized.as_ref())?);
            for (o, id) in step.node.outputs.iter().enumerate() {
                bound(&mut f[o], step.bounds, &factors[id.0]);
                let rest = left_over(step.bounds, steps[id.0], &factors[id.0]);
                bound(&mut x[o], rest, &[]);
            }
            Ok((f, x))
        };
        let (first, _) = compute(0)?;
        let mut pairs = Vec::new();
        for (id, tensor) in step.node.outputs.iter().zip(&first) {
            pairs.push(match tensor {
                Tensor::F32(data) => {
                    Some(Pair::new(self.scratch, data.shape(), steps[id.0], network.float_beside[id.0])?)
                }
                Tensor::I64(data) => {
                    let pair = Pair::new(self.scratch, data.shape(), None, false)?;
                    Some(Pair { is_integer: true, ..pair })
                }
                _ => None,
            });
        }
        let noise: Vec<(f64, f64)> = (0..PARTS.min(self.rows))
            .into_par_iter()
            .map(|part| {
                let mut power = (0.0, 0.0);
                for row in (part..self.rows).step_by(PARTS) {
                    let (f, x) = compute(row)?;
                    for (o, ((f, x), pair)) in f.iter().zip(&x).zip(&pairs).enumerate() {
                        if let (Some(pair), Tensor::I64(ids)) = (pair, f) {
                            let ids: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
                            pair.float.write_f32(row, &ids)?;
                            pair.write_quantized(row, &ids)?;
                            continue;
                        }
                        let (Some(pair), Some(f), Some(x)) = (pair, slice(f), slice(x)) else { continue };
                        pair.float.write_f32(row, f)?;
                        pair.write_quantized(row, x)?;
                        if o == 0 {
                            for (&f, &x) in f.iter().zip(x) {
                                let x = pair.step.map_or(x, |s| s.dequantize(s.quantize(x)));
                                power.0 += f64::from(f) * f64::from(f);
                                power.1 += f64::from(f - x) * f64::from(f - x);
                            }
                        }
                    }
                }
                Ok(power)
            })
            .collect::<Result<_>>()?;
        for (id, pair) in step.node.outputs.iter().zip(pairs) {
            frontier[id.0] = pair;
        }
        let (signal, error) = noise.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Ok(if error > 0.0 { 10.0 * (signal / error).log10() } else { f64::INFINITY })
    }

    /// The step's inputs of one row, owned; constants in the quantized network are on their grid.
    fn row_arguments(
        &self,
        network: &Network,
        step: &NetStep,
        frontier: &[Option<Pair>],
        row: usize,
        side: Side,
    ) -> Result<Vec<Option<Tensor>>> {
        let data_inputs = if step.weighted.is_some() { 1 } else { step.node.inputs.len() };
        step.node.inputs[..data_inputs]
            .iter()
            .map(|id| {
                let Some(id) = id else { return Ok(None) };
                if let Some(pair) = &frontier[id.0] {
                    let values = match side {
                        Side::Float => pair.float.read_f32(row)?,
                        Side::Quantized if step.weighted.is_some() => pair.read_quantized(row)?,
                        Side::Quantized => pair.read_beside(row)?,
                    };
                    let values = tensor(&pair.shape, values)?;
                    return Ok(Some(match values {
                        Tensor::F32(ids) if pair.is_integer => Tensor::I64(ids.mapv(|id| id as i64)),
                        values => values,
                    }));
                }
                match &network.graph.value(*id).constant {
                    Some(Tensor::F32(c)) if side == Side::Quantized && network.stored[id.0] => {
                        let (low, high) = c.iter().fold((0.0f32, 0.0f32), |(a, b), &v| (a.min(v), b.max(v)));
                        let step = Step::covering(low, high);
                        Ok(Some(Tensor::F32(c.mapv(|v| step.dequantize(step.quantize(v))))))
                    }
                    Some(constant) => Ok(Some(constant.clone())),
                    None => Err(missing(&network.graph, step)),
                }
            })
            .collect()
    }
}

#[derive(Default)]
struct Observed {
    moments: Vec<Moments>,
    x_offset: Vec<Vec<f32>>,
    t_offset: Vec<Vec<f32>>,
}

/// A weighted layer in its place.
struct Targets<'a> {
    network: &'a Network,
    steps: &'a [Option<Step>],
    factors: &'a Factors,
    index: usize,
    step: &'a NetStep,
    weighted: &'a Weighted,
}

impl Targets<'_> {
    /// The other operand of the addition that alone reads this layer, when it is there already: this layer's target then
    /// includes what that operand lost.
    fn repaired_addition(&self) -> Option<(ValueId, &NetStep)> {
        let out = self.network.output(self.index);
        let unequalized = self.step.bounds == Bounds::NONE && !self.network.graph.outputs.contains(&out);
        let [reader] = self.network.readers[out.0][..] else { return None };
        let addition = &self.network.steps[reader];
        if !unequalized || addition.node.op != Op::Add {
            return None;
        }
        let other = addition.node.inputs.iter().flatten().copied().find(|&id| id != out)?;
        let is_there = match self.network.maker[other.0] {
            Some(maker) => maker < self.index,
            None => self.network.graph.inputs.contains(&other),
        };
        // An operand that is equalized otherwise cannot be: additions tie their operands' channels.
        let same_shape = self.network.graph.value(other).shape == self.network.graph.value(out).shape;
        (is_there && same_shape && self.factors[other.0].len() == self.factors[out.0].len())
            .then_some((other, addition))
    }

    /// Numbers of the layer's second moments.
    fn moments(&self) -> usize {
        let k = self.weighted.matrix.ncols();
        k.saturating_mul(k).saturating_mul(self.weighted.groups)
    }

    /// Every how many-th of a row's positions is taken, so that time and memory stay bounded.
    fn position_step(&self, positions: usize, rows: usize) -> usize {
        let layers = self.network.steps.iter().filter(|s| s.weighted.is_some()).count();
        let affordable = (MOMENTS_WORK / layers.max(1) / self.moments().max(1)).clamp(1, MAX_POSITIONS);
        let of_a_row = (MAX_COLUMNS / self.weighted.matrix.ncols().max(1)).max(1);
        positions.saturating_mul(rows).div_ceil(affordable).max(positions.div_ceil(of_a_row)).clamp(1, positions.max(1))
    }

    /// Columns of one row for group `g`: [K, positions], every `step`-th position from `start` on.
    fn columns(&self, x: &[f32], shape: &[usize], g: usize, (start, step): (usize, usize)) -> Result<Array2<f32>> {
        let graph = &self.network.graph;
        let Some(window) = &self.weighted.window else {
            let k = self.weighted.matrix.ncols();
            let columns = ArrayView2::from_shape((x.len() / k, k), x).map_err(|e| shape_error(graph, self.step, &e))?;
            return Ok(columns.t().slice(s![.., start..;step]).to_owned());
        };
        let geometry = Geometry::new(window, &shape[2..], false).map_err(|why| Error::InvalidModel {
            model: graph.name.clone(),
            why: format!("node '{}': {why}", self.step.node.name),
        })?;
        let depth = shape[1] / self.weighted.groups;
        let area: usize = shape[2..].iter().product();
        eval::im2col(&x[g * depth * area..][..depth * area], depth, &geometry, (start, step))
    }
}

fn row_means(m: &ArrayView2<'_, f32>) -> Vec<f32> {
    m.rows().into_iter().map(|row| row.mean().unwrap_or(0.0)).collect()
}

fn subtract(m: &mut Array2<f32>, offsets: &[f32]) {
    for (mut row, &offset) in m.axis_iter_mut(Axis(0)).zip(offsets) {
        row -= offset;
    }
}

pub(super) fn tensor(shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
    let len = values.len();
    Tensor::from_f32(shape, values).ok_or_else(|| Error::Shape {
        what: "tensor".into(),
        expected: format!("{shape:?}"),
        got: format!("{len} values"),
    })
}

fn slice(tensor: &Tensor) -> Option<&[f32]> {
    tensor.as_f32().and_then(|d| d.as_slice())
}

pub(super) fn take_f32(mut outputs: Vec<Tensor>) -> Result<Vec<f32>> {
    match outputs.pop() {
        Some(Tensor::F32(data)) => Ok(data.iter().copied().collect()),
        _ => Err(Error::InvalidModel { model: String::new(), why: "a layer's output is not float32".into() }),
    }
}

fn floats(tensor: &Tensor, name: &str) -> Result<Vec<f32>> {
    match tensor {
        Tensor::F32(data) => Ok(data.iter().copied().collect()),
        other => Err(Error::Shape {
            what: format!("input '{name}'"),
            expected: "float32".into(),
            got: format!("{:?}", other.dtype()),
        }),
    }
}

fn missing(graph: &Graph, step: &NetStep) -> Error {
    Error::InvalidModel {
        model: graph.name.clone(),
        why: format!("node '{}' reads a value that nothing makes", step.node.name),
    }
}

fn shape_error(graph: &Graph, step: &NetStep, e: &ndarray::ShapeError) -> Error {
    Error::InvalidModel { model: graph.name.clone(), why: format!("node '{}': {e}", step.node.name) }
}
