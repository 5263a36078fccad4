//! What people see while it works: a bar per server on a terminal, a line per step elsewhere.

use std::{io::IsTerminal, sync::Mutex, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

#[derive(Debug)]
pub enum Display {
    Bars(MultiProgress),
    Lines,
}

/// One server's place in the display.
#[derive(Debug)]
pub enum Line {
    Bar(ProgressBar),
    Text { name: String, last: Mutex<String> },
}

impl Display {
    pub fn new() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bars(MultiProgress::new())
        } else {
            Self::Lines
        }
    }

    pub fn line(&self, server: &str, account: &str) -> Line {
        match self {
            Self::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(0));
                let style = "{prefix:26} {bar:24} {bytes:>10} of {total_bytes:<10} {wide_msg}";
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style.progress_chars("━╸─"));
                }
                bar.set_prefix(format!("{server} · {account}"));
                bar.enable_steady_tick(Duration::from_millis(200));
                Line::Bar(bar)
            }
            Self::Lines => Line::Text {
                name: format!("{server} in {account}"),
                last: Mutex::default(),
            },
        }
    }
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// What the server is at. Elsewhere than on a terminal, it is printed once.
    pub fn step(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(text.to_owned()),
            Self::Text { name, last } => {
                let mut last = last.lock().expect("nothing panics while it is held");
                if *last != text {
                    eprintln!("{name}: {text}");
                    text.clone_into(&mut last);
                }
            }
        }
    }

    /// Disks that were disconnected are in no list: the bar keeps what it showed.
    pub fn progress(&self, done: u64, total: u64) {
        if let Self::Bar(bar) = self
            && total > 0
        {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    pub fn finish(&self, text: &str) {
        self.step(text);
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}
