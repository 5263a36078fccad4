//! How data flows from a source server, and whether it will ever be done.

use serde::{Deserialize, Serialize};

/// What an agent measures of its own work, over the last seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flow {
    /// New changes on the disks, as far as somebody sees them.
    pub written_bytes_s: u64,
    /// Disk content that reaches the runner, before compression.
    pub copied_bytes_s: u64,
    /// The same on the wire.
    pub wire_bytes_s: u64,
    pub backlog_bytes: u64,
    /// The limit in force, Mbit/s.
    pub limit_mbit_s: Option<u32>,
    /// What the rest waits for, while there is anything to do.
    pub bottleneck: Option<Hop>,
    pub forecast: Option<Forecast>,
}

/// A part of the way from a disk to the snapshot store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// Reading the source's disks.
    Disk,
    /// Hashing, compressing and encrypting on the source.
    Cpu,
    /// The network, or the limit that was set for it.
    Link,
    /// The runner and its store.
    Runner,
}

impl Hop {
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Cpu => "cpu",
            Self::Link => "link",
            Self::Runner => "runner",
        }
    }
}

/// When the runner will have caught up, if all goes on as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outlook", rename_all = "snake_case")]
pub enum Forecast {
    Converges {
        seconds: u64,
    },
    /// More is written than gets through.
    Diverges {
        needed_mbit_s: u64,
    },
}

impl Forecast {
    /// `None` while nothing is known: nothing got through yet, or nothing has to.
    pub fn of(backlog_bytes: u64, written_bytes_s: u64, copied_bytes_s: u64) -> Option<Self> {
        if backlog_bytes == 0 || copied_bytes_s == 0 {
            return None;
        }
        Some(match copied_bytes_s.checked_sub(written_bytes_s) {
            Some(gain) if gain > 0 => Self::Converges {
                seconds: backlog_bytes.div_ceil(gain),
            },
            _ => Self::Diverges {
                needed_mbit_s: (written_bytes_s * 8).div_ceil(1_000_000),
            },
        })
    }
}

impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Converges { seconds } => write!(f, "done in about {seconds} s"),
            Self::Diverges { needed_mbit_s } => write!(f, "will not converge below {needed_mbit_s} Mbit/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_converges_only_if_more_gets_through_than_is_written() {
        assert_eq!(Forecast::of(0, 5, 5), None);
        assert_eq!(Forecast::of(100, 5, 0), None);
        assert_eq!(
            Forecast::of(1000, 50, 150),
            Some(Forecast::Converges { seconds: 10 })
        );
        let diverges = Forecast::of(1000, 4_250_000, 4_000_000).unwrap();
        assert_eq!(diverges.to_string(), "will not converge below 34 Mbit/s");
        assert_eq!(
            Forecast::of(1, 7, 7),
            Some(Forecast::Diverges { needed_mbit_s: 1 })
        );
    }
}
