//! What came out, for people: tables and one self-contained HTML page with SVG plots.
//!
//! A [`Page`] is a list of blocks. The same [`Table`] is printed on a terminal by the command line.
//!
//! ```
//! use hone_export::report::{Block, Page, Table};
//! let mut table = Table::new("Accuracy", &["precision", "top-1"]);
//! table.row(["int8", "0.912"]);
//! let page = Page { title: "digits".into(), subtitle: String::new(), blocks: vec![Block::Table(table)] };
//! assert!(page.to_html().contains("0.912"));
//! ```

pub mod plot;

use std::fmt::Write as _;
use std::path::Path;

pub use plot::{Bars, Heatmap, Lines, Series};

use crate::{Error, Result};

/// Column headings and rows of text.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Table {
    /// What the table shows.
    pub title: String,
    /// Headings.
    pub columns: Vec<String>,
    /// One text per column.
    pub rows: Vec<Vec<String>>,
    /// A sentence under the table: units, conditions.
    pub note: String,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self { title: title.into(), columns: columns.iter().map(|&c| c.to_owned()).collect(), ..Self::default() }
    }

    /// Whether every cell of column `c` reads as a number (such columns are right-aligned).
    #[must_use]
    pub fn is_numeric(&self, c: usize) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|r| r.get(c).is_none_or(|x| is_numeric(x)))
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// One piece of a page.
#[derive(Debug, Clone)]
pub enum Block {
    /// A heading that starts a section.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Commands, shown as typed.
    Commands(Vec<String>),
    /// A table.
    Table(Table),
    /// A line plot, with error bars where they are given.
    Lines(Lines),
    /// Horizontal bars.
    Bars(Bars),
    /// Matrices side by side, such as confusions before and after.
    Heatmaps(Vec<Heatmap>),
    /// Large figures with a caption each.
    Figures(Vec<(String, String)>),
}

/// A self-contained HTML page: no script, no external file.
#[derive(Debug, Clone)]
pub struct Page {
    /// Title and first heading.
    pub title: String,
    /// One line under it.
    pub subtitle: String,
    /// Top to bottom.
    pub blocks: Vec<Block>,
}

const STYLE: &str = "\
:root{--ink:#1c2430;--soft:#5b6675;--line:#dbe1e8;--back:#fff;--panel:#f6f8fa;--a:#1f6feb;--b:#d1570a;--c:#1a7f37;--d:#8250df;--e:#bf3989;--f:#6e7781}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa6b2;--line:#30363d;--back:#0d1117;--panel:#161b22;--a:#58a6ff;--b:#f0883e;--c:#3fb950;--d:#bc8cff;--e:#f778ba;--f:#8b949e}}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
main{max-width:980px;margin:0 auto;padding:40px 24px 80px}h1{font-size:30px;margin:0 0 4px;letter-spacing:-.01em}h2{font-size:21px;margin:44px 0 10px;padding-top:14px;border-top:1px solid var(--line)}\
.sub{color:var(--soft);margin:0 0 24px}p{max-width:72ch}.note{color:var(--soft);font-size:14px;margin:6px 0 0}\
table{border-collapse:collapse;margin:4px 0;font-size:14.5px;font-variant-numeric:tabular-nums}\
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right}\
.wrap{overflow-x:auto}pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:12px 16px;font-size:13.5px;white-space:pre-wrap;overflow-wrap:anywhere}pre span{display:block;padding-left:2em;text-indent:-2em}\
.figs{display:flex;flex-wrap:wrap;gap:14px;margin:18px 0}.fig{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px 18px;min-width:150px}\
.fig b{display:block;font-size:26px;font-variant-numeric:tabular-nums}.fig span{color:var(--soft);font-size:13.5px}\
.maps{display:flex;flex-wrap:wrap;gap:8px 32px}figure{margin:18px 0;max-width:100%}figcaption{font-weight:600;font-size:15px;margin-bottom:6px}\
svg{max-width:100%;height:auto}svg.wide{min-width:560px}svg text{fill:var(--ink);font:12px system-ui,'DejaVu Sans',sans-serif}svg .soft{fill:var(--soft)}svg .on{fill:var(--back)}svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}";

impl Page {
    /// The page as HTML.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\n<h1>{title}</h1>\n<p class=\"sub\">{}</p>\n",
            escape(&self.subtitle)
        );
        for block in &self.blocks {
            write_block(&mut out, block);
        }
        out.push_str("</main></body></html>\n");
        out
    }

    /// Writes the page, by way of a temporary file in the same folder.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = crate::files::staged_file(folder)?;
        std::io::Write::write_all(&mut file, self.to_html().as_bytes()).map_err(Error::io(path))?;
        file.persist(path).map_err(|e| Error::Io { path: path.into(), source: e.error })?;
        Ok(())
    }
}

fn write_block(out: &mut String, block: &Block) {
    let _ = match block {
        Block::Heading(text) => writeln!(out, "<h2>{}</h2>", escape(text)),
        Block::Text(text) => writeln!(out, "<p>{}</p>", escape(text)),
        Block::Commands(lines) => {
            let lines: String = lines.iter().map(|line| format!("<span>{}</span>", escape(line))).collect();
            writeln!(out, "<pre>{lines}</pre>")
        }
        Block::Table(table) => {
            write_table(out, table);
            Ok(())
        }
        Block::Lines(lines) => writeln!(out, "{}", figure(&lines.title, &lines.to_svg())),
        Block::Bars(bars) => writeln!(out, "{}", figure(&bars.title, &bars.to_svg())),
        Block::Heatmaps(maps) => {
            let inner: String = maps.iter().map(|m| figure(&m.title, &m.to_svg())).collect();
            writeln!(out, "<div class=\"maps\">{inner}</div>")
        }
        Block::Figures(figures) => {
            let inner: String = figures
                .iter()
                .map(|(big, small)| {
                    format!("<div class=\"fig\"><b>{}</b><span>{}</span></div>", escape(big), escape(small))
                })
                .collect();
            writeln!(out, "<div class=\"figs\">{inner}</div>")
        }
    };
}

fn figure(title: &str, svg: &str) -> String {
    // What is too wide for a small screen scrolls by itself, so that its text stays legible.
    format!("<figure><figcaption>{}</figcaption><div class=\"wrap\">{svg}</div></figure>", escape(title))
}

/// A cell counts as a number when it starts like one: those columns are right-aligned.
fn is_numeric(cell: &str) -> bool {
    cell.is_empty() || cell == "–" || cell.trim_start_matches(['+', '-', '−']).starts_with(|c: char| c.is_ascii_digit())
}

fn write_table(out: &mut String, table: &Table) {
    let class = |c: usize| if table.is_numeric(c) { " class=\"n\"" } else { "" };
    let title = escape(&table.title);
    let _ =
        write!(out, "<figure><figcaption>{title}</figcaption><div class=\"wrap\"><table aria-label=\"{title}\"><tr>");
    for (c, heading) in table.columns.iter().enumerate() {
        let _ = write!(out, "<th{}>{}</th>", class(c), escape(heading));
    }
    out.push_str("</tr>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (c, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{}</td>", class(c), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>");
    if !table.note.is_empty() {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(&table.note));
    }
    out.push_str("</figure>\n");
}

/// Text that is safe inside HTML and SVG, in element content and in attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_model_cannot_become_markup() {
        let mut table = Table::new("<script>alert(1)</script>", &["a\"b"]);
        table.row(["</td><img src=x onerror=y>"]);
        let bars = Bars { title: "<x>".into(), rows: vec![("<svg onload=z>".into(), 1.0)], ..Bars::default() };
        let page =
            Page { title: "&<>".into(), subtitle: "'".into(), blocks: vec![Block::Table(table), Block::Bars(bars)] };
        let html = page.to_html();
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<svg onload"), "{html}");
    }

    #[test]
    fn columns_of_numbers_are_right_aligned_and_columns_of_words_are_not() {
        let mut table = Table::new("t", &["layer", "sqnr"]);
        table.row(["conv1", "31.2 dB"]);
        table.row(["conv2", "−3 dB"]);
        let mut out = String::new();
        write_table(&mut out, &table);
        assert!(out.contains("<td>conv1</td><td class=\"n\">31.2 dB</td>"), "{out}");
    }
}
