//! How far a measurement is. Called by every loop that measures. A bar where stderr is a terminal, one
//! line at the beginning where it is not. It must never draw while a restart is under way: it is
//! advanced between two of them, and draws by itself at no other time.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A measurement under way; the bar is gone when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Announces `what`, which takes `steps` steps.
    pub fn new(what: &str, steps: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("{what}: {steps} steps");
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(steps).with_message(what.to_owned());
        let style = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {eta:>4}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// One step is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
