//! Where a sliding window lands: output sizes and resolved padding of convolutions and poolings.
//!
//! ```
//! use hone_export::graph::{op::{Padding, Window}, window::Geometry};
//! let window = Window { kernel: vec![3, 3], strides: vec![2, 2], dilations: vec![1, 1], padding: Padding::SameUpper };
//! let g = Geometry::new(&window, &[32, 32], false)?;
//! assert_eq!((g.output, g.begin, g.end), (vec![16, 16], vec![0, 0], vec![1, 1]));
//! # Ok::<(), String>(())
//! ```

use super::op::{Padding, Window};

/// A window over an input of known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Spatial sizes of the input.
    pub input: Vec<usize>,
    /// Spatial sizes of the output.
    pub output: Vec<usize>,
    /// Window size per axis.
    pub kernel: Vec<usize>,
    /// Step per axis.
    pub strides: Vec<usize>,
    /// Dilation per axis.
    pub dilations: Vec<usize>,
    /// Padding before the data, per axis.
    pub begin: Vec<usize>,
    /// Padding after the data, per axis.
    pub end: Vec<usize>,
}

impl Geometry {
    /// Resolves automatic padding and the output sizes. `ceil` is the pooling operators' `ceil_mode`.
    ///
    /// # Errors
    /// Says what does not fit: ranks, a window larger than the padded input, a zero step.
    pub fn new(window: &Window, spatial: &[usize], ceil: bool) -> Result<Self, String> {
        let rank = spatial.len();
        let fits = [&window.kernel, &window.strides, &window.dilations].iter().all(|v| v.len() == rank);
        if !fits {
            return Err(format!("a window of rank {} on an input with {rank} spatial axes", window.kernel.len()));
        }
        if let Padding::Explicit(p) = &window.padding
            && p.len() != 2 * rank
        {
            return Err(format!("{} padding amounts for {rank} spatial axes", p.len()));
        }
        let mut g = Self {
            input: spatial.to_vec(),
            output: Vec::with_capacity(rank),
            kernel: window.kernel.clone(),
            strides: window.strides.clone(),
            dilations: window.dilations.clone(),
            begin: Vec::with_capacity(rank),
            end: Vec::with_capacity(rank),
        };
        for (axis, &size) in spatial.iter().enumerate() {
            let (output, begin, end) = resolve(window, axis, size, ceil)?;
            g.output.push(output);
            g.begin.push(begin);
            g.end.push(end);
        }
        Ok(g)
    }

    /// Number of window positions.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.output.iter().product()
    }

    /// Elements of one window.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Whether the output at a position depends on the input at the same position alone.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        let all = |v: &[usize], n: usize| v.iter().all(|&x| x == n);
        all(&self.kernel, 1) && all(&self.strides, 1) && all(&self.begin, 0) && all(&self.end, 0)
    }

    /// The same window over two axes: one-dimensional data becomes a single line.
    pub(crate) fn planar(&self) -> Option<Planar> {
        let pick = |v: &[usize], lifted: usize| match *v {
            [x] => Some((lifted, x)),
            [y, x] => Some((y, x)),
            _ => None,
        };
        Some(Planar {
            input: pick(&self.input, 1)?,
            output: pick(&self.output, 1)?,
            kernel: pick(&self.kernel, 1)?,
            strides: pick(&self.strides, 1)?,
            dilations: pick(&self.dilations, 1)?,
            begin: pick(&self.begin, 0)?,
        })
    }
}

/// Output size, padding before, padding after, of one axis.
fn resolve(window: &Window, axis: usize, size: usize, ceil: bool) -> Result<(usize, usize, usize), String> {
    let (kernel, stride, dilation) = (window.kernel[axis], window.strides[axis], window.dilations[axis]);
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err("kernel, stride and dilation must be positive".to_owned());
    }
    let too_large = || format!("a window of {kernel} elements, {dilation} apart, overflows");
    let extent = (kernel - 1).checked_mul(dilation).and_then(|n| n.checked_add(1)).ok_or_else(too_large)?;
    let same = || {
        let output = size.div_ceil(stride);
        let covered = output.saturating_sub(1).saturating_mul(stride).saturating_add(extent);
        (output, covered.saturating_sub(size))
    };
    match &window.padding {
        Padding::SameUpper => {
            let (output, total) = same();
            Ok((output, total / 2, total - total / 2))
        }
        Padding::SameLower => {
            let (output, total) = same();
            Ok((output, total - total / 2, total / 2))
        }
        Padding::Explicit(amounts) => {
            let (begin, end) = (amounts[axis], amounts[axis + amounts.len() / 2]);
            let padded = size.checked_add(begin).and_then(|n| n.checked_add(end)).ok_or_else(too_large)?;
            let Some(room) = padded.checked_sub(extent) else {
                return Err(format!("a window of {extent} does not fit into {padded} (padding included)"));
            };
            let mut output = room / stride + 1;
            // In ceil mode a last window may start inside the data and reach beyond the padding.
            if ceil && room % stride != 0 && output * stride < size + begin {
                output += 1;
            }
            Ok((output, begin, end))
        }
    }
}

/// A [`Geometry`] of two axes, (y, x).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planar {
    pub input: (usize, usize),
    pub output: (usize, usize),
    pub kernel: (usize, usize),
    pub strides: (usize, usize),
    pub dilations: (usize, usize),
    pub begin: (usize, usize),
}

impl Planar {
    /// The input line that a window's line `ky` reads at output line `oy`; `None` in the padding.
    pub fn line(&self, oy: usize, ky: usize) -> Option<usize> {
        let y = (oy * self.strides.0 + ky * self.dilations.0).checked_sub(self.begin.0)?;
        (y < self.input.0).then_some(y)
    }

    /// For column `kx` of the window: the outputs `lo..hi` that read data rather than padding, and the input column that `lo` reads.
    pub fn columns(&self, kx: usize) -> (usize, usize, usize) {
        let (stride, offset, begin) = (self.strides.1, kx * self.dilations.1, self.begin.1);
        let lo = begin.saturating_sub(offset).div_ceil(stride).min(self.output.1);
        let hi = (self.input.1 + begin).saturating_sub(offset).div_ceil(stride).min(self.output.1);
        if lo >= hi { (0, 0, 0) } else { (lo, hi, lo * stride + offset - begin) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, padding: Padding) -> Window {
        Window { kernel: vec![kernel], strides: vec![stride], dilations: vec![dilation], padding }
    }

    /// Output sizes as the ONNX operator specification states them.
    #[test]
    fn output_sizes() {
        for (w, size, ceil, expected) in [
            (window(3, 2, 1, Padding::Explicit(vec![0, 1])), 224, false, (112, 0, 1)),
            (window(3, 2, 1, Padding::SameUpper), 224, false, (112, 0, 1)),
            (window(3, 2, 1, Padding::SameLower), 224, false, (112, 1, 0)),
            (window(3, 1, 2, Padding::SameUpper), 10, false, (10, 2, 2)),
            (window(3, 2, 1, Padding::Explicit(vec![0, 0])), 112, false, (55, 0, 0)),
            (window(3, 2, 1, Padding::Explicit(vec![0, 0])), 112, true, (56, 0, 0)),
            (window(2, 3, 1, Padding::Explicit(vec![0, 0])), 3, true, (1, 0, 0)),
            (window(1, 2, 1, Padding::Explicit(vec![0, 0])), 7, false, (4, 0, 0)),
        ] {
            let g = Geometry::new(&w, &[size], ceil).unwrap();
            assert_eq!((g.output[0], g.begin[0], g.end[0]), expected, "{w:?} on {size}");
        }
    }

    #[test]
    fn impossible_windows_are_errors() {
        let none = || Padding::Explicit(vec![0, 0]);
        assert!(Geometry::new(&window(5, 1, 1, none()), &[4], false).is_err());
        assert!(Geometry::new(&window(3, 0, 1, none()), &[4], false).is_err());
        assert!(Geometry::new(&window(3, 1, usize::MAX, none()), &[4], false).is_err());
        assert!(Geometry::new(&window(3, 1, 1, none()), &[4, 4], false).is_err());
        assert!(Geometry::new(&window(3, 1, 1, Padding::Explicit(vec![usize::MAX, 1])), &[4], false).is_err());
    }

    /// Every (output, tap) pair of a line, against the definition.
    #[test]
    fn columns_match_the_definition() {
        for (kernel, stride, dilation, begin, end, size) in
            [(3, 1, 1, 1, 1, 7), (3, 2, 1, 0, 1, 8), (5, 3, 2, 6, 4, 9), (2, 1, 5, 0, 9, 3), (4, 2, 1, 9, 9, 2)]
        {
            let w = window(kernel, stride, dilation, Padding::Explicit(vec![begin, end]));
            let p = Geometry::new(&w, &[size], false).unwrap().planar().unwrap();
            for kx in 0..kernel {
                let (lo, hi, first) = p.columns(kx);
                for ox in 0..p.output.1 {
                    let at = (ox * stride + kx * dilation) as isize - begin as isize;
                    let inside = (0..size as isize).contains(&at);
                    assert_eq!((lo..hi).contains(&ox), inside);
                    if inside {
                        assert_eq!(first + (ox - lo) * stride, at as usize);
                    }
                }
            }
        }
    }
}
