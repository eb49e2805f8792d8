//! SVG plots: lines with error bars, horizontal bars, heat maps. No script, colours from the page's style.

use std::fmt::Write as _;

use super::escape;

const COLOURS: [&str; 4] = ["var(--a)", "var(--b)", "var(--c)", "var(--d)"];

/// One line of a [`Lines`] plot.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// (index into [`Lines::x_labels`], value, half height of the error bar).
    pub points: Vec<(usize, f64, f64)>,
}

/// Values over a few labelled positions, such as accuracy over shots a class.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Caption.
    pub title: String,
    /// Axis name.
    pub x_name: String,
    /// Axis name.
    pub y_name: String,
    /// Equally spaced positions.
    pub x_labels: Vec<String>,
    /// The lines.
    pub series: Vec<Series>,
    /// Bounds of the y axis; taken from the data where `None`.
    pub y_range: Option<(f64, f64)>,
}

/// Values by name, drawn as horizontal bars.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    /// Caption.
    pub title: String,
    /// Unit after each value.
    pub unit: String,
    /// Name and value; negative values are drawn as zero with their number.
    pub rows: Vec<(String, f64)>,
}

/// A matrix with labels, such as a confusion matrix (rows: true class, columns: predicted).
#[derive(Debug, Clone, Default)]
pub struct Heatmap {
    /// Caption.
    pub title: String,
    /// Names of rows and columns.
    pub labels: Vec<String>,
    /// `labels.len()` rows of as many values.
    pub values: Vec<Vec<f64>>,
}

/// A step of 1, 2 or 5 times a power of ten that gives about `n` steps over `span`.
fn tick_step(span: f64, n: f64) -> f64 {
    let raw = (span / n).max(1e-12);
    let power = 10f64.powf(raw.log10().floor());
    let m = raw / power;
    power
        * if m <= 1.0 {
            1.0
        } else if m <= 2.0 {
            2.0
        } else if m <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// A number with as many decimals as its tick step needs.
fn tick_text(v: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{v:.decimals$}")
}

impl Lines {
    fn bounds(&self) -> (f64, f64) {
        if let Some(range) = self.y_range {
            return range;
        }
        let all = self.series.iter().flat_map(|s| s.points.iter()).filter(|p| p.1.is_finite());
        let (lo, hi) =
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), p| (lo.min(p.1 - p.2), hi.max(p.1 + p.2)));
        if lo > hi {
            return (0.0, 1.0);
        }
        let pad = ((hi - lo) * 0.08).max(1e-3);
        (lo - pad, hi + pad)
    }

    /// The plot as one `<svg>` element.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (w, h, left, right, top, bottom) = (720.0, 320.0, 64.0, 170.0, 14.0, 48.0);
        let (lo, hi) = self.bounds();
        let n = self.x_labels.len().max(1);
        let x = |i: usize| left + (w - left - right) * (i as f64 + 0.5) / n as f64;
        let y = |v: f64| top + (h - top - bottom) * (1.0 - (v.clamp(lo, hi) - lo) / (hi - lo).max(1e-12));
        let mut out =
            format!("<svg viewBox=\"0 0 {w} {h}\" width=\"{w}\" role=\"img\" aria-label=\"{}\">", escape(&self.title));
        let step = tick_step(hi - lo, 6.0);
        let mut tick = (lo / step).ceil() * step;
        while tick <= hi + step * 1e-9 {
            let ty = y(tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{ty:.1}\" y2=\"{ty:.1}\"/><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                w - right,
                left - 8.0,
                ty + 4.0,
                tick_text(tick, step)
            );
            tick += step;
        }
        for (i, label) in self.x_labels.iter().enumerate() {
            let _ = write!(
                out,
                "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(i),
                h - bottom + 18.0,
                escape(label)
            );
        }
        let middle = (top + h - bottom) / 2.0;
        let _ = write!(
            out,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text class=\"soft\" x=\"16\" y=\"{middle:.1}\" transform=\"rotate(-90 16 {middle:.1})\" text-anchor=\"middle\">{}</text>",
            left + (w - left - right) / 2.0,
            h - 8.0,
            escape(&self.x_name),
            escape(&self.y_name)
        );
        for (s, series) in self.series.iter().enumerate() {
            let colour = COLOURS[s % COLOURS.len()];
            // Lines that meet at the same position stay legible when their markers stand side by side.
            let shift = (s as f64 - (self.series.len() as f64 - 1.0) / 2.0) * 5.0;
            let path: Vec<String> =
                series.points.iter().map(|&(i, v, _)| format!("{:.1},{:.1}", x(i) + shift, y(v))).collect();
            let _ = write!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for &(i, v, e) in &series.points {
                let px = x(i) + shift;
                let _ = write!(
                    out,
                    "<line x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"1.5\"/><circle cx=\"{px:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{} {}: {v:.4} ± {e:.4}</title></circle>",
                    y(v - e),
                    y(v + e),
                    y(v),
                    escape(&series.name),
                    escape(self.x_labels.get(i).map_or("", String::as_str))
                );
            }
            let ly = top + 14.0 + 20.0 * s as f64;
            let _ = write!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" rx=\"2\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                w - right + 16.0,
                ly - 6.0,
                w - right + 36.0,
                ly,
                escape(&series.name)
            );
        }
        out.push_str("</svg>");
        out
    }
}

impl Bars {
    /// The plot as one `<svg>` element; its height grows with the rows.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let longest = self.rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0).min(44);
        let left = 24.0 + 7.0 * longest as f64;
        let (w, row, right) = (860.0, 20.0, 90.0);
        let h = row * self.rows.len() as f64 + 8.0;
        let max = self.rows.iter().map(|r| r.1).filter(|v| v.is_finite()).fold(0.0, f64::max).max(1e-12);
        let mut out =
            format!("<svg viewBox=\"0 0 {w} {h}\" width=\"{w}\" role=\"img\" aria-label=\"{}\">", escape(&self.title));
        for (i, (name, value)) in self.rows.iter().enumerate() {
            let y = row * i as f64 + 4.0;
            let length = if value.is_finite() { (w - left - right) * (value.max(0.0) / max) } else { w - left - right };
            let shown: String =
                if name.chars().count() > 44 { name.chars().take(43).chain(['…']).collect() } else { name.clone() };
            let number = if value.is_finite() { format!("{value:.1}") } else { "∞".into() };
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"12\" rx=\"2\" fill=\"var(--a)\"/><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{number} {}</text>",
                left - 8.0,
                y + 11.0,
                escape(&shown),
                y + 1.0,
                left + length + 6.0,
                y + 11.0,
                escape(&self.unit)
            );
        }
        out.push_str("</svg>");
        out
    }
}

impl Heatmap {
    /// The matrix as one `<svg>` element; each row is shaded by its own sum, so that classes of any size compare.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let n = self.labels.len();
        let cell = if n <= 12 { 32.0 } else { (400.0 / n as f64).max(6.0) };
        let longest = self.labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).min(14);
        let left = 14.0 + 7.5 * longest as f64;
        let (w, h) = (left + cell * n as f64 + 4.0, cell * n as f64 + 26.0);
        let mut out = format!(
            "<svg viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        for (r, row) in self.values.iter().enumerate() {
            let sum: f64 = row.iter().sum::<f64>().max(1e-12);
            let y = cell * r as f64 + 2.0;
            if cell >= 12.0 {
                let label: String = self.labels.get(r).map_or("", String::as_str).chars().take(14).collect();
                let _ = write!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    left - 6.0,
                    y + cell / 2.0 + 4.0,
                    escape(&label)
                );
            }
            for (c, &v) in row.iter().enumerate() {
                let x = left + cell * c as f64;
                let colour = if r == c { "var(--c)" } else { "var(--b)" };
                let share = v / sum;
                let _ = write!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\" fill-opacity=\"{:.3}\"><title>{} → {}: {v}</title></rect>",
                    cell - 2.0,
                    cell - 2.0,
                    if v > 0.0 { 0.12 + 0.8 * share } else { 0.04 },
                    escape(self.labels.get(r).map_or("", String::as_str)),
                    escape(self.labels.get(c).map_or("", String::as_str))
                );
                if v > 0.0 && cell >= 24.0 {
                    let _ = write!(
                        out,
                        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{v:.0}</text>",
                        x + cell / 2.0 - 1.0,
                        y + cell / 2.0 + 4.0
                    );
                }
            }
        }
        let _ = write!(
            out,
            "<text class=\"soft\" x=\"{left:.1}\" y=\"{:.1}\">rows: true class; columns: answer, same order</text></svg>",
            h - 6.0
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(tick_step(1.0, 6.0), 0.2);
        assert_eq!(tick_step(37.0, 6.0), 10.0);
        assert_eq!(tick_text(0.4, 0.2), "0.4");
        assert_eq!(tick_text(40.0, 10.0), "40");
    }

    #[test]
    fn nan_and_empty_data_still_give_well_formed_svg() {
        let lines = Lines {
            x_labels: vec!["1".into()],
            series: vec![Series { name: "a".into(), points: vec![(0, f64::NAN, 0.0)] }],
            ..Lines::default()
        };
        for svg in [lines.to_svg(), Bars::default().to_svg(), Heatmap::default().to_svg()] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
        }
        let infinite = Bars { rows: vec![("exact".into(), f64::INFINITY)], ..Bars::default() };
        assert!(infinite.to_svg().contains('∞'));
    }
}
