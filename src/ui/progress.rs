//! How far a piece of work is, on one line of the terminal that is gone afterwards.

use std::time::{Duration, Instant};

/// Shortest time between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);
/// Width of the bar.
const CELLS: usize = 24;

/// The line, as long as this lives.
pub struct Progress {
    shown: bool,
    start: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    pub fn new(shown: bool) -> Self {
        Self { shown, start: Instant::now(), drawn: None }
    }

    /// Says how many of how many steps of `what` are done.
    pub fn at(&mut self, what: &str, done: usize, of: usize) {
        if self.shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL) {
            self.drawn = Some(Instant::now());
            anstream::eprint!("\r\x1b[K{}", line(what, done, of, self.start.elapsed()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            anstream::eprint!("\r\x1b[K");
        }
    }
}

fn line(what: &str, done: usize, of: usize, time: Duration) -> String {
    let full = (CELLS * done.min(of)).checked_div(of).unwrap_or(0);
    format!("{what:28} {}{} {done}/{of} {} s", "█".repeat(full), "░".repeat(CELLS - full), time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_stays_on_its_line() {
        let cells = |done, of| line("embedding", done, of, Duration::from_secs(7)).matches('█').count();
        assert_eq!([cells(0, 10), cells(5, 10), cells(10, 10), cells(11, 10), cells(0, 0)], [0, 12, 24, 24, 0]);
        let longest = line("embedding", 60_000, 60_000, Duration::from_secs(1000));
        assert!(longest.ends_with(" 60000/60000 1000 s") && longest.chars().count() < 80, "{longest}");
    }
}
