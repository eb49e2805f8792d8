//! SVG plots: lines with error bars, horizontal bars, heat maps. No script, colours from the page's style.

use std::fmt::Write as _;

use super::escape;

const COLOURS: [&str; 6] = ["var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)", "var(--f)"];

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
///
/// Cells whose row and column have the same place are the right ones, and coloured so.
#[derive(Debug, Clone, Default)]
pub struct Heatmap {
    /// Caption.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// What rows and columns are, in one line.
    pub axes: String,
    /// `rows.len()` rows of `columns.len()` values.
    pub values: Vec<Vec<f64>>,
}

/// A step of 1, 2 or 5 times a power of ten that gives about `n` steps over `span`.
fn tick_step(span: f64, n: f64) -> f64 {
    let raw = (span / n).max(1e-12);
    let power = 10f64.powf(raw.log10().floor());
    let m = raw / power;
    power
        * if m < 1.5 {
            1.0
        } else if m < 3.5 {
            2.0
        } else if m < 7.5 {
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

    /// Where the name of each series stands: lines that are as wide as the plot.
    fn legend(&self, left: f64, right: f64) -> Vec<(f64, f64)> {
        const LINE: f64 = 18.0;
        let (mut x, mut y) = (left, 0.0);
        let place = |series: &Series| {
            let width = 44.0 + 6.8 * series.name.chars().count() as f64;
            if x > left && x + width > right {
                (x, y) = (left, y + LINE);
            }
            let at = (x, y);
            x += width;
            at
        };
        self.series.iter().map(place).collect()
    }

    /// The plot as one `<svg>` element.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (w, left, right, bottom) = (640.0, 64.0, 16.0, 48.0);
        let legend = self.legend(left, w);
        // A legend of several lines takes its room above the plot.
        let more = legend.last().map_or(0.0, |(_, y)| *y);
        let (h, top) = (340.0 + more, 34.0 + more);
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
            let (legend_x, legend_y) = legend[s];
            let _ = write!(
                out,
                "<rect x=\"{legend_x:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" rx=\"2\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                legend_y + 8.0,
                legend_x + 20.0,
                legend_y + 14.0,
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
        let number = |value: f64| if value.is_finite() { format!("{value:.1}") } else { "∞".into() };
        let widest = self.rows.iter().map(|r| number(r.1).chars().count()).max().unwrap_or(0);
        let names = 16.0 + 7.0 * longest as f64;
        let left = names + 24.0 + 7.5 * (widest + self.unit.chars().count()) as f64;
        let (w, row) = (860.0, 20.0);
        let h = row * self.rows.len() as f64 + 8.0;
        let max = self.rows.iter().map(|r| r.1).filter(|v| v.is_finite()).fold(0.0, f64::max).max(1e-12);
        let mut out = format!(
            "<svg class=\"wide\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        // The number stands before the bar, where a small screen shows it.
        for (i, (name, value)) in self.rows.iter().enumerate() {
            let y = row * i as f64 + 4.0;
            let share = if value.is_finite() { value.max(0.0) / max } else { 1.0 };
            let shown: String =
                if name.chars().count() > 44 { name.chars().take(43).chain(['…']).collect() } else { name.clone() };
            let _ = write!(
                out,
                "<text x=\"{names:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} {}</text><rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" rx=\"2\" fill=\"var(--a)\"/>",
                y + 11.0,
                escape(&shown),
                left - 8.0,
                y + 11.0,
                number(*value),
                escape(&self.unit),
                y + 1.0,
                (w - left - 4.0) * share
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
        let n = self.rows.len().max(self.columns.len());
        let cell = if n <= 12 { 32.0 } else { (400.0 / n as f64).max(6.0) };
        let longest = |labels: &[String]| labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).min(14);
        let is_labelled = cell >= 12.0;
        // A name that is wider than its column is turned.
        let is_turned = |length: usize| length as f64 * 7.5 > cell;
        let left = 14.0 + if is_labelled { 7.5 * longest(&self.rows) as f64 } else { 0.0 };
        let head = match longest(&self.columns) {
            _ if !is_labelled => 4.0,
            length if is_turned(length) => 12.0 + 7.5 * length as f64,
            _ => 20.0,
        };
        let bottom = head + cell * self.rows.len() as f64;
        let note = 7.0 * self.axes.chars().count() as f64;
        let (w, h) = ((left + cell * self.columns.len() as f64 + 4.0).max(left + note), bottom + 24.0);
        let mut out = format!(
            "<svg viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        let short = |labels: &[String], at: usize| -> String {
            labels.get(at).map_or("", String::as_str).chars().take(14).collect()
        };
        let name = |labels: &[String], at: usize| escape(&short(labels, at));
        for c in (0..self.columns.len()).filter(|_| is_labelled) {
            let (x, y) = (left + cell * (c as f64 + 0.5) - 1.0, head - 6.0);
            let place = if is_turned(short(&self.columns, c).chars().count()) {
                format!("transform=\"translate({:.1} {y:.1}) rotate(-90)\"", x + 4.0)
            } else {
                format!("x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\"")
            };
            let _ = write!(out, "<text class=\"soft\" {place}>{}</text>", name(&self.columns, c));
        }
        for (r, row) in self.values.iter().enumerate() {
            let sum: f64 = row.iter().sum::<f64>().max(1e-12);
            let y = head + cell * r as f64;
            if is_labelled {
                let _ = write!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    left - 6.0,
                    y + cell / 2.0 + 3.0,
                    name(&self.rows, r)
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
                    name(&self.rows, r),
                    name(&self.columns, c)
                );
                if v > 0.0 && cell >= 24.0 {
                    let class = if share > 0.5 { "on" } else { "" };
                    let _ = write!(
                        out,
                        "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{v:.0}</text>",
                        x + cell / 2.0 - 1.0,
                        y + cell / 2.0 + 3.0
                    );
                }
            }
        }
        let _ = write!(
            out,
            "<text class=\"soft\" x=\"{left:.1}\" y=\"{:.1}\">{}</text></svg>",
            bottom + 16.0,
            escape(&self.axes)
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
        assert_eq!(tick_step(0.13, 6.0), 0.02);
        assert_eq!(tick_step(37.0, 6.0), 5.0);
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
