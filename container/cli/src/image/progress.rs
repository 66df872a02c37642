//! A bar that shows how far a transfer is, on a terminal. Needs no kernel.

use indicatif::{ProgressBar, ProgressStyle};
use keelbox::crates::image_spec::registry::{Event, Progress};

/// A bar on standard error. Cloning is cheap; where there is no terminal nothing is shown.
#[derive(Clone, Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(quiet: bool, what: &str) -> Self {
        if quiet {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let form = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        // The form is a constant that is right.
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Self(bar)
    }

    pub(super) fn show(&self, progress: &Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.bytes);
        match &progress.event {
            Event::Waiting(time, why) => self.0.set_message(format!("waits {} s: {why}", time.as_secs())),
            _ => self.0.set_message(format!("{}/{}", progress.blobs, progress.blobs_total)),
        }
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
