//! Arithmetic on sizes of which some are symbols.
//!
//! A product of symbols and a factor is itself a symbol, written `8*N`, and read again from that form.

use crate::graph::{
    Dim,
    eval::{Fault, Outcome},
    op::Window,
    window::Geometry,
};

/// A product: factor and sorted symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Product {
    factor: usize,
    symbols: Vec<String>,
}

impl Product {
    pub(super) fn of<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Self {
        let mut out = Self { factor: 1, symbols: Vec::new() };
        for dim in dims {
            match dim {
                Dim::Fixed(n) => out.factor = out.factor.saturating_mul(*n),
                Dim::Symbol(s) => out.push(s),
            }
        }
        out.symbols.sort();
        out
    }

    fn push(&mut self, symbol: &str) {
        // Only plain products split at `*`; anything with brackets is one opaque symbol.
        if symbol.contains(['(', '[']) {
            self.symbols.push(symbol.to_owned());
            return;
        }
        for part in symbol.split('*') {
            match part.parse::<usize>() {
                Ok(n) => self.factor = self.factor.saturating_mul(n),
                Err(_) => self.symbols.push(part.to_owned()),
            }
        }
    }

    pub(super) fn into_dim(self) -> Dim {
        match (self.factor, &self.symbols[..]) {
            (n, []) => Dim::Fixed(n),
            (0, _) => Dim::Fixed(0),
            (1, symbols) => Dim::Symbol(symbols.join("*")),
            (n, symbols) => Dim::Symbol(format!("{n}*{}", symbols.join("*"))),
        }
    }

    /// self / other, when it divides.
    pub(super) fn divide(mut self, other: &Self) -> Option<Self> {
        for symbol in &other.symbols {
            let at = self.symbols.iter().position(|s| s == symbol)?;
            self.symbols.remove(at);
        }
        if other.factor == 0 || !self.factor.is_multiple_of(other.factor) {
            return None;
        }
        self.factor /= other.factor;
        Some(self)
    }
}

/// Two sizes that broadcast.
pub(super) fn broadcast(a: &Dim, b: &Dim) -> Outcome<Dim> {
    match (a, b) {
        (a, b) if a == b => Ok(a.clone()),
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Ok(other.clone()),
        // A symbol beside a size other than one must be that size (or one).
        (Dim::Fixed(n), Dim::Symbol(_)) | (Dim::Symbol(_), Dim::Fixed(n)) => Ok(Dim::Fixed(*n)),
        (Dim::Symbol(a), Dim::Symbol(b)) => Ok(Dim::Symbol(format!("max({a},{b})"))),
        (Dim::Fixed(a), Dim::Fixed(b)) => Err(Fault::Invalid(format!("sizes {a} and {b} do not broadcast"))),
    }
}

pub(super) fn broadcast_shapes(a: &[Dim], b: &[Dim]) -> Outcome<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::Fixed(1);
    let at = |s: &'_ [Dim], i: usize| if i + s.len() < rank { one.clone() } else { s[i + s.len() - rank].clone() };
    (0..rank).map(|i| broadcast(&at(a, i), &at(b, i))).collect()
}

/// Sum of sizes (concatenation).
pub(super) fn sum(dims: &[Dim]) -> Dim {
    let mut fixed = 0usize;
    let mut symbols = Vec::new();
    for dim in dims {
        match dim {
            Dim::Fixed(n) => fixed = fixed.saturating_add(*n),
            Dim::Symbol(s) => symbols.push(s.as_str()),
        }
    }
    match (fixed, &symbols[..]) {
        (n, []) => Dim::Fixed(n),
        (0, [one]) => Dim::Symbol((*one).to_owned()),
        (n, many) => Dim::Symbol(format!("({}+{n})", many.join("+"))),
    }
}

/// Output size of a window along one spatial axis.
pub(super) fn windowed(window: &Window, spatial: &[Dim], ceil: bool) -> Outcome<Vec<Dim>> {
    let probe = |size: usize, axis: usize| -> Result<usize, String> {
        let mut sizes = vec![size; spatial.len()];
        for (i, (s, dim)) in sizes.iter_mut().zip(spatial).enumerate() {
            if i != axis {
                // Axes are independent; a large stand-in keeps the others valid.
                *s = dim.fixed().unwrap_or(1 << 20);
            }
        }
        Ok(Geometry::new(window, &sizes, ceil)?.output[axis])
    };
    let one = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(n) => probe(*n, axis).map(Dim::Fixed).map_err(Fault::Invalid),
        Dim::Symbol(s) => {
            let keeps = [1 << 20, (1 << 20) + 1].iter().all(|&n| probe(n, axis) == Ok(n));
            Ok(Dim::Symbol(if keeps {
                s.clone()
            } else {
                let (kernel, stride) = (window.kernel.get(axis), window.strides.get(axis));
                format!("window({s},{},{},{:?})", kernel.unwrap_or(&1), stride.unwrap_or(&1), window.padding)
            }))
        }
    };
    if window.kernel.len() != spatial.len() {
        return Err(Fault::Invalid(format!(
            "a window of rank {} on an input with {} spatial axes",
            window.kernel.len(),
            spatial.len()
        )));
    }
    spatial.iter().enumerate().map(one).collect()
}
