//! Operators with a scale of their own: weights become blocks, real factors fixed-point multipliers.

use hone_runtime::QuantParams;
use hone_runtime::plan::{Code, OpParts, Requant, Window, writer};

use super::draft::{Stored, channels_last, row_major};
use super::walk::{Computed, Walk};
use super::{POINT, constant, dims, own_axis, unsupported, with_last};
use crate::Result;
use crate::graph::op::Window as OnnxWindow;
use crate::graph::window::Geometry;
use crate::graph::{Node, Op};

/// The operator of a node on the scale that the QuantizeLinear behind it gives; `name` is the graph's value that it makes.
pub(super) fn lower(walk: &mut Walk<'_>, computed: Computed, to: QuantParams, name: &str) -> Result<Stored> {
    let graph = walk.graph;
    let node = &graph.nodes[computed.node];
    match &node.op {
        Op::Conv { window, group } => conv(walk, node, window, *group, computed, to, name),
        Op::Gemm { .. } | Op::MatMul => {
            let dense = Dense::of(walk, node)?;
            let input = walk.draft.tensors[dense.input].quant;
            let layer = Layer::new(node, &dense.rows, &dense.scales, dense.bias, input)?;
            let (multipliers, requant) = layer.multipliers(node, to)?;
            let [rows, outputs] = [dense.positions, layer.outputs];
            let output = walk.draft.int8([1, rows, outputs], to);
            let code = if rows == 1 { Code::Dense } else { Code::Conv };
            let mut op = OpParts::new(code, &node.name, &[dense.input], output);
            op.bounds = computed.bounds(to);
            op.window = POINT;
            op.shifts = (requant.shift(), requant.left());
            op.weights = bytes(&writer::blocked(&layer.codes, outputs, layer.depth));
            op.bias = padded(&layer.bias);
            op.multipliers = padded(&multipliers);
            let dims = dims(graph, node.outputs[0])?;
            let order = row_major(dims.len());
            walk.draft.push(op, name, &order);
            Ok(Stored { tensor: output, order, dims })
        }
        Op::Add | Op::Sub | Op::Mul => elementwise(walk, node, computed, to, name),
        Op::AveragePool { .. } | Op::GlobalAveragePool | Op::ReduceMean { .. } => {
            average(walk, node, computed, to, name)
        }
        Op::Concat { axis } => concat(walk, node, *axis, to, name),
        Op::Softmax { axis } => softmax(walk, node, *axis, to, name),
        _ => Err(unsupported(node, "the native engine has no integer operator for it")),
    }
}

/// A window over one or two spatial axes, as a plan has it. `dims` are channels and sizes.
pub(super) fn plan_window(node: &Node, window: &OnnxWindow, dims: &[usize], ceil: bool) -> Result<Window> {
    let spatial = dims.get(1..).unwrap_or_default();
    let geometry = Geometry::new(window, spatial, ceil).map_err(|why| unsupported(node, why))?;
    let pair = |v: &[usize], lifted: usize| match *v {
        [x] => Ok([lifted, x]),
        [y, x] => Ok([y, x]),
        _ => Err(unsupported(node, "more than two spatial axes")),
    };
    let plan = Window {
        kernel: pair(&geometry.kernel, 1)?,
        stride: pair(&geometry.strides, 1)?,
        dilation: pair(&geometry.dilations, 1)?,
        pad: pair(&geometry.begin, 0)?,
    };
    let largest = [plan.kernel, plan.stride, plan.dilation, plan.pad].into_iter().flatten().max().unwrap_or(0);
    if largest > 255 {
        return Err(unsupported(node, format!("a window with a size of {largest}; at most 255 are run")));
    }
    Ok(plan)
}

/// The window of a mean over an input of `dims` (channels and sizes), and whether the border counts as values.
pub(super) fn mean_window(node: &Node, dims: &[usize]) -> Result<(Window, bool)> {
    let spatial = dims.get(1..).unwrap_or_default();
    let (window, count_all) = match &node.op {
        Op::AveragePool { window, ceil, count_include_pad } => {
            (plan_window(node, window, dims, *ceil)?, *count_include_pad)
        }
        Op::ReduceMean { axes, .. } => {
            let rank = dims.len() as i64 + 1;
            let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + rank } else { a }).collect();
            axes.sort_unstable();
            if axes != (2..rank).collect::<Vec<_>>() {
                return Err(unsupported(node, "only means over all spatial axes are run"));
            }
            (whole(node, spatial)?, false)
        }
        _ => (whole(node, spatial)?, false),
    };
    if window.dilation != [1, 1] {
        return Err(unsupported(node, "a mean over a dilated window"));
    }
    Ok((window, count_all))
}

/// A window over everything.
pub(super) fn whole(node: &Node, spatial: &[usize]) -> Result<Window> {
    let kernel = match *spatial {
        [w] => [1, w],
        [h, w] => [h, w],
        _ => return Err(unsupported(node, "a window over other than one or two spatial axes")),
    };
    if kernel.into_iter().any(|size| size > 255) {
        return Err(unsupported(node, format!("a window of {kernel:?}; at most 255 are run")));
    }
    Ok(Window { kernel, ..POINT })
}

/// Weights, bias and scales of a layer as integers.
struct Layer {
    outputs: usize,
    depth: usize,
    /// `[outputs, depth]`, row by row.
    codes: Vec<i8>,
    /// With the input's zero point taken off.
    bias: Vec<i32>,
    /// Real value of one accumulator step, per output.
    units: Vec<f64>,
}

impl Layer {
    /// `rows`: integer weights `[outputs][depth]`; `scales`: per output; `bias`: real.
    fn new(node: &Node, rows: &[Vec<i32>], scales: &[f32], bias: Option<Vec<f32>>, input: QuantParams) -> Result<Self> {
        let depth = rows.first().map_or(0, Vec::len);
        let bias = bias.unwrap_or_else(|| vec![0.0; rows.len()]);
        if bias.len() != rows.len() || scales.len() != rows.len() {
            return Err(unsupported(node, format!("{} bias values for {} outputs", bias.len(), rows.len())));
        }
        let mut layer = Self { outputs: rows.len(), depth, codes: Vec::new(), bias: Vec::new(), units: Vec::new() };
        for ((row, &scale), &bias) in rows.iter().zip(scales).zip(&bias) {
            let bias = f64::from(bias);
            let unit = f64::from(input.scale) * f64::from(scale);
            // A row of zeros may come with any scale: its bias still counts.
            let all_zero = row.iter().all(|&w| w == 0);
            let unit = if all_zero && (unit <= 0.0 || bias.abs() / unit > f64::from(1 << 30)) {
                bias.abs().max(f64::MIN_POSITIVE) / f64::from(1 << 20)
            } else {
                unit
            };
            if !(unit > 0.0 && unit.is_finite()) {
                return Err(unsupported(node, "a weight scale that is not positive"));
            }
            let sum: i64 = row.iter().map(|&w| i64::from(w)).sum();
            let size: i64 = row.iter().map(|&w| i64::from(w).abs()).sum();
            let steps = (bias / unit).round();
            let folded = steps - (i64::from(input.zero_point) * sum) as f64;
            if folded.abs() + (128 * size) as f64 > f64::from(i32::MAX) {
                return Err(unsupported(node, "its sums do not fit 32 bits"));
            }
            for &w in row {
                let code = i8::try_from(w).map_err(|_| unsupported(node, "weights that are not symmetric int8"))?;
                layer.codes.push(code);
            }
            layer.bias.push(folded as i32);
            layer.units.push(unit);
        }
        Ok(layer)
    }

    fn multipliers(&self, node: &Node, to: QuantParams) -> Result<(Vec<i32>, Requant)> {
        let factors: Vec<f64> = self.units.iter().map(|unit| unit / f64::from(to.scale)).collect();
        fit(node, &factors)
    }
}

fn fit(node: &Node, factors: &[f64]) -> Result<(Vec<i32>, Requant)> {
    let mut multipliers = vec![0; factors.len()];
    let requant = Requant::fit(factors, &mut multipliers).map_err(|e| unsupported(node, e.to_string()))?;
    Ok((multipliers, requant))
}

/// Padded with zeros to a multiple of four.
fn padded(numbers: &[i32]) -> Vec<i32> {
    let mut out = numbers.to_vec();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn bytes(codes: &[i8]) -> Vec<u8> {
    codes.iter().map(|code| code.cast_unsigned()).collect()
}

#[allow(clippy::too_many_arguments, reason = "a node, taken apart")]
fn conv(
    walk: &mut Walk<'_>,
    node: &Node,
    window: &OnnxWindow,
    groups: usize,
    computed: Computed,
    to: QuantParams,
    name: &str,
) -> Result<Stored> {
    let graph = walk.graph;
    let input = walk.stored(node, 0)?;
    let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), name)?;
    let window = plan_window(node, window, &input.dims, false)?;
    let shape = input.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let quant = walk.draft.tensors[input.tensor].quant;

    let weights = weights(walk, node)?;
    let (Some(&outputs), Some(&group_inputs)) = (weights.shape.first(), weights.shape.get(1)) else {
        return Err(unsupported(node, "weights of less than two axes"));
    };
    let taps: usize = window.taps();
    if weights.codes.len() != outputs * group_inputs * taps || !outputs.is_multiple_of(groups) {
        return Err(unsupported(node, "weights that do not fit its window and groups"));
    }
    // ONNX has [output, input channel, tap]; a patch has the channels of a tap side by side.
    let at = |o: usize, tap: usize, c: usize| weights.codes[(o * group_inputs + c) * taps + tap];
    let rows: Vec<Vec<i32>> = (0..outputs)
        .map(|o| {
            (0..taps).flat_map(|tap| (0..group_inputs).map(move |c| (tap, c))).map(|(tap, c)| at(o, tap, c)).collect()
        })
        .collect();
    let scales = (0..outputs).map(|o| weights.scale(0, o)).collect::<Result<Vec<f32>, _>>();
    let scales = scales.map_err(|why| unsupported(node, why))?;
    let layer = Layer::new(node, &rows, &scales, bias(walk, node)?, quant)?;
    let (multipliers, requant) = layer.multipliers(node, to)?;

    let out_dims = dims(graph, node.outputs[0])?;
    let mut output = Stored { tensor: 0, order: channels_last(out_dims.len()), dims: out_dims };
    let out_shape = output.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let tensor = walk.shaped(input.tensor, shape, name);
    output.tensor = walk.draft.int8(out_shape, to);
    let depthwise = groups == shape[2] && outputs == groups && groups > 1;
    let code = if depthwise { Code::Depthwise } else { Code::Conv };
    let mut op = OpParts::new(code, &node.name, &[tensor], output.tensor);
    op.window = window;
    op.groups = groups;
    op.bounds = computed.bounds(to);
    op.shifts = (requant.shift(), requant.left());
    if depthwise {
        let by_tap: Vec<i8> = (0..taps).flat_map(|tap| layer.codes.chunks(taps).map(move |row| row[tap])).collect();
        op.weights = bytes(&writer::blocked_depthwise(&by_tap, taps, outputs));
        op.bias = padded(&layer.bias);
        op.multipliers = padded(&multipliers);
    } else {
        let per_group = outputs / groups;
        for group in layer.codes.chunks(per_group * layer.depth) {
            op.weights.extend(bytes(&writer::blocked(group, per_group, layer.depth)));
        }
        op.bias = layer.bias.chunks(per_group).flat_map(padded).collect();
        op.multipliers = multipliers.chunks(per_group).flat_map(padded).collect();
        if !op.window.is_pointwise() || groups > 1 {
            op.scratch = (0, 4 * layer.depth.next_multiple_of(4));
        }
    }
    walk.draft.push(op, name, &output.order);
    Ok(output)
}

/// The second input of a layer, which a DequantizeLinear makes.
fn weights(walk: &Walk<'_>, node: &Node) -> Result<constant::Weights> {
    let maker = node.inputs.get(1).copied().flatten().and_then(|id| walk.maker(id));
    let maker = maker.filter(|maker| matches!(maker.op, Op::DequantizeLinear { .. }));
    let maker = maker.ok_or_else(|| unsupported(node, "its weights are not quantized"))?;
    constant::dequantized(walk.graph, maker)
}

/// The third input as real numbers.
fn bias(walk: &Walk<'_>, node: &Node) -> Result<Option<Vec<f32>>> {
    let Some(id) = node.inputs.get(2).copied().flatten() else { return Ok(None) };
    let values = constant::floats(walk.graph, id, walk.maker(id))?;
    values.map(Some).ok_or_else(|| unsupported(node, "a bias that is no constant"))
}

/// A matrix product with constant weights.
struct Dense {
    input: usize,
    /// Rows of the input, each multiplied alone.
    positions: usize,
    rows: Vec<Vec<i32>>,
    scales: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Dense {
    fn of(walk: &mut Walk<'_>, node: &Node) -> Result<Self> {
        let (transposed, alpha, beta) = match node.op {
            Op::Gemm { trans_a: false, trans_b, alpha, beta } => (trans_b, alpha, beta),
            Op::MatMul => (false, 1.0, 1.0),
            _ => return Err(unsupported(node, "transA = 1")),
        };
        let stored = walk.stored(node, 0)?;
        let order = row_major(stored.dims.len());
        let stored = walk.reordered(stored, &order, &node.name)?;
        let weights = weights(walk, node)?;
        let [a, b] = weights.shape[..] else { return Err(unsupported(node, "weights that are no matrix")) };
        let (outputs, depth) = if transposed { (a, b) } else { (b, a) };
        if stored.dims.last() != Some(&depth) {
            return Err(unsupported(node, format!("{depth} weights an output on an input of {:?}", stored.dims)));
        }
        let positions = stored.dims[..stored.dims.len() - 1].iter().product();
        let at = |o: usize, k: usize| weights.codes[if transposed { o * b + k } else { k * b + o }];
        let rows = (0..outputs).map(|o| (0..depth).map(|k| at(o, k)).collect()).collect();
        let axis = usize::from(!transposed);
        let scales = (0..outputs).map(|o| weights.scale(axis, o).map(|s| s * alpha)).collect::<Result<Vec<f32>, _>>();
        let scales = scales.map_err(|why| unsupported(node, why))?;
        let bias = bias(walk, node)?.map(|bias| {
            let bias: Vec<f32> = bias.iter().map(|b| b * beta).collect();
            if bias.len() == 1 { vec![bias[0]; outputs] } else { bias }
        });
        let input =
            if positions == 1 { stored.tensor } else { walk.shaped(stored.tensor, [1, positions, depth], &node.name) };
        Ok(Self { input, positions, rows, scales, bias })
    }
}

/// Scores that leave as f32: a dense layer that nothing quantizes, and the softmax behind it.
pub(super) fn float_output(walk: &mut Walk<'_>, computed: Computed, name: &str) -> Result<usize> {
    let graph = walk.graph;
    let node = &graph.nodes[computed.node];
    match &node.op {
        Op::Softmax { axis } => {
            let rank = dims(graph, node.outputs[0])?.len() as i64 + 1;
            if *axis != -1 && *axis != rank - 1 {
                return Err(unsupported(node, "a softmax over another axis than the last"));
            }
            let Some(input) = node.inputs[0] else { return Err(unsupported(node, "no input")) };
            let scores = match walk.sources.get(&input).cloned() {
                Some(super::walk::Source::Computed(before)) => float_output(walk, before, name)?,
                _ => {
                    let stored = walk.stored(node, 0)?;
                    let shape = stored.shape().ok_or_else(|| unsupported(node, "more than three axes"))?;
                    let output = walk.draft.float(shape);
                    walk.draft.push_helper(OpParts::new(Code::Dequantize, &node.name, &[stored.tensor], output));
                    output
                }
            };
            let output = walk.draft.float(walk.draft.tensors[scores].shape);
            let mut op = OpParts::new(Code::SoftmaxFloat, &node.name, &[scores], output);
            op.in_place = true;
            walk.draft.push_helper(op);
            Ok(output)
        }
        // One row of scores by another shape.
        Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Identity => {
            let input = node.inputs[0].and_then(|id| walk.sources.get(&id).cloned());
            let Some(super::walk::Source::Computed(before)) = input else {
                return Err(unsupported(node, "no float input"));
            };
            let output = float_output(walk, before, name)?;
            let shape = walk.draft.tensors[output].shape;
            if shape[..2] != [1, 1] {
                return Err(unsupported(node, "float scores of more than one row"));
            }
            Ok(output)
        }
        Op::GlobalAveragePool if computed.is_plain() => {
            let input = walk.stored(node, 0)?;
            let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), name)?;
            let shape = input.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
            let tensor = walk.shaped(input.tensor, shape, name);
            let scale = f64::from(walk.draft.tensors[tensor].quant.scale) / (shape[0] * shape[1]) as f64;
            let output = walk.draft.float([1, 1, shape[2]]);
            let mut op = OpParts::new(Code::MeanFloat, &node.name, &[tensor], output);
            op.multipliers = vec![(scale as f32).to_bits().cast_signed()];
            walk.draft.push_helper(op);
            Ok(output)
        }
        Op::Gemm { .. } | Op::MatMul if computed.is_plain() => {
            let dense = Dense::of(walk, node)?;
            if dense.positions != 1 {
                return Err(unsupported(node, "float scores of more than one row"));
            }
            let input = walk.draft.tensors[dense.input].quant;
            let layer = Layer::new(node, &dense.rows, &dense.scales, dense.bias, input)?;
            let output = walk.draft.float([1, 1, layer.outputs]);
            let mut op = OpParts::new(Code::DenseFloat, &node.name, &[dense.input], output);
            op.weights = bytes(&writer::blocked(&layer.codes, layer.outputs, layer.depth));
            op.bias = padded(&layer.bias);
            let units: Vec<i32> = layer.units.iter().map(|&unit| (unit as f32).to_bits().cast_signed()).collect();
            op.multipliers = padded(&units);
            walk.draft.push_helper(op);
            Ok(output)
        }
        _ => Err(unsupported(node, "a float output that is neither a dense layer nor a softmax")),
    }
}

fn elementwise(walk: &mut Walk<'_>, node: &Node, computed: Computed, to: QuantParams, name: &str) -> Result<Stored> {
    let (larger, [first, second], shape, swapped) = walk.operands(node, name)?;
    let (qa, qb) = (walk.draft.tensors[first].quant, walk.draft.tensors[second].quant);
    let output = walk.draft.int8(shape, to);
    let subtracts = node.op == Op::Sub;
    let code = if node.op == Op::Mul { Code::Mul } else { Code::Add };
    let mut op = OpParts::new(code, &node.name, &[first, second], output);
    op.bounds = computed.bounds(to);
    if code == Code::Mul {
        let factor = f64::from(qa.scale) * f64::from(qb.scale) / f64::from(to.scale);
        let (multipliers, requant) = fit(node, &[factor])?;
        op.multipliers = multipliers;
        op.shifts = (requant.shift(), requant.left());
    } else {
        let sign = |second: bool| if subtracts && second != swapped { -1.0 } else { 1.0 };
        let factor = |q: QuantParams, second: bool| sign(second) * f64::from(q.scale) / f64::from(to.scale);
        let sum = Sum::new([factor(qa, false), factor(qb, true)], [qa, qb], to);
        let sum = sum.ok_or_else(|| unsupported(node, "scales too far apart for one sum"))?;
        let [ma, mb] = sum.multipliers.map(|m| u32::from(m.cast_unsigned()));
        op.shifts = (sum.shift, 0);
        op.numbers = ((ma | (mb << 16)).cast_signed(), sum.constant);
    }
    walk.draft.push(op, name, &larger.order);
    Ok(Stored { tensor: output, ..larger })
}

/// The numbers of an Add: (a·m₀ + b·m₁ + constant) >> shift.
struct Sum {
    multipliers: [i16; 2],
    constant: i32,
    shift: u8,
}

impl Sum {
    /// The larger factor gets 15 bits, as far as the constant's 31 bits allow.
    fn new(factors: [f64; 2], from: [QuantParams; 2], to: QuantParams) -> Option<Self> {
        let largest = factors[0].abs().max(factors[1].abs());
        for shift in (1..=22u8).rev() {
            let unit = f64::from(1u32 << shift);
            if (largest * unit).round() > f64::from(i16::MAX) {
                continue;
            }
            let multipliers = factors.map(|f| (f * unit).round() as i16);
            let zeros: i64 = multipliers.iter().zip(from).map(|(&m, q)| i64::from(m) * i64::from(q.zero_point)).sum();
            let constant = (1i64 << (shift - 1)) + (i64::from(to.zero_point) << shift) - zeros;
            // Neither the constant nor its sum with the products may leave 32 bits.
            let products: i64 = multipliers.iter().map(|&m| 128 * i64::from(m).abs()).sum();
            if constant.abs() + products <= i64::from(i32::MAX) {
                return Some(Self { multipliers, constant: constant as i32, shift });
            }
        }
        None
    }
}

fn average(walk: &mut Walk<'_>, node: &Node, computed: Computed, to: QuantParams, name: &str) -> Result<Stored> {
    let input = walk.stored(node, 0)?;
    let (window, count_all) = mean_window(node, &input.dims)?;
    let input = walk.reordered(input.clone(), &channels_last(input.dims.len()), name)?;
    let out_dims = dims(walk.graph, node.outputs[0])?;
    let shape = input.shape().ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let spatial = input.dims.len() - 1;
    // Without kept axes the channels are all that is left.
    let order =
        if out_dims.len() == input.dims.len() { channels_last(out_dims.len()) } else { row_major(out_dims.len()) };
    let mut output = Stored { tensor: 0, dims: out_dims, order };
    let out_shape =
        output.shape().filter(|_| spatial <= 2).ok_or_else(|| unsupported(node, "more than two spatial axes"))?;
    let tensor = walk.shaped(input.tensor, shape, name);
    let from = walk.draft.tensors[tensor].quant;
    let ratio = f64::from(from.scale) / f64::from(to.scale);
    let inside = |axis: usize| {
        window.pad[axis] == 0 && (out_shape[axis] - 1) * window.stride[axis] + window.kernel[axis] <= shape[axis]
    };
    let taps = window.taps();
    let factors: Vec<f64> = if inside(0) && inside(1) {
        vec![ratio / taps as f64]
    } else {
        (1..=taps).map(|n| ratio / if count_all { taps } else { n } as f64).collect()
    };
    let (multipliers, requant) = fit(node, &factors)?;
    output.tensor = walk.draft.int8(out_shape, to);
    let mut op = OpParts::new(Code::AveragePool, &node.name, &[tensor], output.tensor);
    op.window = window;
    op.bounds = computed.bounds(to);
    op.multipliers = multipliers;
    op.shifts = (requant.shift(), requant.left());
    walk.draft.push(op, name, &output.order);
    Ok(output)
}

fn concat(walk: &mut Walk<'_>, node: &Node, axis: i64, to: QuantParams, name: &str) -> Result<Stored> {
    let out_dims = dims(walk.graph, node.outputs[0])?;
    let rank = out_dims.len();
    // The joined axis goes last in memory.
    let order = with_last(&row_major(rank), own_axis(node, axis, rank)?);
    if node.inputs.len() > hone_runtime::plan::MAX_INPUTS {
        return Err(unsupported(node, "more than six parts"));
    }
    let mut parts = Vec::new();
    for slot in 0..node.inputs.len() {
        let part = walk.stored(node, slot)?;
        let mut part = walk.reordered(part, &order, name)?;
        let shape = part.shape().ok_or_else(|| unsupported(node, "more than three axes"))?;
        part.tensor = walk.shaped(part.tensor, shape, name);
        let from = walk.draft.tensors[part.tensor].quant;
        if from != to {
            let output = walk.draft.int8(shape, to);
            let mut op = OpParts::new(Code::Table, &node.name, &[part.tensor], output);
            op.weights = (0..=255u8).map(|q| to.quantize(from.dequantize(q.cast_signed())).cast_unsigned()).collect();
            walk.draft.push_helper(op);
            part.tensor = output;
        }
        parts.push(part.tensor);
    }
    let mut output = Stored { tensor: 0, dims: out_dims, order };
    // Parts keep the joined axis even where it has one element, so the whole is shaped alike.
    let sizes: Vec<usize> = output.order.iter().map(|&a| output.dims[a]).collect();
    let shape = super::draft::three(&sizes).ok_or_else(|| unsupported(node, "more than three axes"))?;
    output.tensor = walk.draft.int8(shape, to);
    walk.draft.push(OpParts::new(Code::Concat, &node.name, &parts, output.tensor), name, &output.order);
    Ok(output)
}

/// See `docs/plan-format.md`, code 9.
fn softmax(walk: &mut Walk<'_>, node: &Node, axis: i64, to: QuantParams, name: &str) -> Result<Stored> {
    let stored = walk.stored(node, 0)?;
    let rank = stored.dims.len();
    let order = with_last(&row_major(rank), own_axis(node, axis, rank)?);
    let stored = walk.reordered(stored, &order, name)?;
    let shape = stored.shape().ok_or_else(|| unsupported(node, "more than three axes"))?;
    let input = walk.shaped(stored.tensor, shape, name);
    let scale = f64::from(walk.draft.tensors[input].quant.scale);
    let output = walk.draft.int8(shape, to);
    let mut op = OpParts::new(Code::Softmax, &node.name, &[input], output);
    let exp = |d: u32| (f64::from(1 << 20) * (-scale * f64::from(d)).exp()).round() as u32;
    op.weights = (0..256).flat_map(|d| exp(d).to_le_bytes()).collect();
    let ratio = (1.0 / f64::from(to.scale)).round();
    if !(1.0..=65_535.0).contains(&ratio) {
        return Err(unsupported(node, format!("an output scale of {}", to.scale)));
    }
    op.numbers = (ratio as i32, 0);
    walk.draft.push(op, name, &stored.order);
    Ok(Stored { tensor: output, ..stored })
}
