//! How far a piece of work is: a bar on the terminal that is gone afterwards.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The bar, as long as this lives.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(shown: bool) -> Self {
        if !shown {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Says how many of how many steps of `what` are done.
    pub fn at(&mut self, what: &str, done: usize, of: usize) {
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
