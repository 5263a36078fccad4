//! One change source per disk, kept over sessions: what a tracker has marked does not end with a connection.

use std::{collections::BTreeMap, time::Duration};

use domain::disk::{Disk, DiskId};
use protocol::session::DiskStart;
use tracing::{info, warn};

use super::{
    ChangeSource,
    rescan::Rescan,
    tracked::Tracked,
    tracker::{Tracker, Unavailable},
};
use crate::disks::{DiskKind, LocalDisk, Roots};

#[derive(Debug)]
pub struct Sources {
    roots: Roots,
    /// Loaded when the first block device is there.
    tracker: Option<Result<Tracker, Unavailable>>,
    disks: BTreeMap<DiskId, Known>,
    /// How many sessions of late have ended before anything of theirs was durable.
    fruitless: u32,
}

#[derive(Debug)]
struct Known {
    /// What a source that is made now is told of the runner.
    start: DiskStart,
    found: Option<Found>,
}

/// A disk as it was when its source was made.
#[derive(Debug)]
struct Found {
    bytes: u64,
    kind: DiskKind,
    source: Box<dyn ChangeSource>,
}

impl Sources {
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            tracker: None,
            disks: BTreeMap::new(),
            fruitless: 0,
        }
    }

    /// A session about these disks begins.
    pub fn session_began(&mut self, disks: &[Disk], starts: impl IntoIterator<Item = DiskStart>) {
        self.disks.retain(|id, _| disks.iter().any(|disk| disk.id == *id));
        for (disk, start) in disks.iter().zip(starts) {
            let found = self.disks.remove(&disk.id).and_then(|known| known.found);
            let mut known = Known { start, found };
            if let Some(found) = &mut known.found {
                found.source.session_began(start);
            }
            self.disks.insert(disk.id.clone(), known);
        }
    }

    /// A session has ended; something of it was made durable, or nothing.
    pub fn session_ended(&mut self, achieved: bool) {
        // Slowly back: what broke every second a moment ago still does.
        self.fruitless = if achieved {
            self.fruitless.saturating_sub(1)
        } else {
            self.fruitless.saturating_add(1)
        };
    }

    /// After how long to save a part of a long copy, where `usually` was asked for: the more often the connection
    /// breaks, the sooner, or nothing would ever be kept.
    pub fn save_after(&self, usually: Duration) -> Duration {
        const SOONEST: Duration = Duration::from_millis(200);
        (usually / (1 << self.fruitless.min(10))).max(SOONEST.min(usually))
    }

    /// Sees to it that each disk that is there has the best source that it can have. One that is attached in another
    /// way than before, or has another size, starts anew.
    pub fn take_up(&mut self, disks: &[LocalDisk]) {
        for local in disks {
            let Some(known) = self.disks.get_mut(&local.disk.id) else {
                continue;
            };
            let (bytes, kind) = (local.disk.bytes, &local.kind);
            let is_same = |found: &Found| found.bytes == bytes && found.kind == *kind;
            if known.found.as_ref().is_some_and(is_same) {
                continue;
            }
            // Its watch ends before another begins.
            known.found = None;
            // An empty runner is one only until something was sent.
            let start = std::mem::replace(&mut known.start, DiskStart::Rescan);
            let mut source = self.best_source(local);
            source.session_began(start);
            let found = Found {
                bytes,
                kind: kind.clone(),
                source,
            };
            if let Some(known) = self.disks.get_mut(&local.disk.id) {
                known.found = Some(found);
            }
        }
    }

    /// The source of a disk that was there at the last look.
    pub fn get(&mut self, disk: &DiskId) -> Option<&mut dyn ChangeSource> {
        let found = self.disks.get_mut(disk)?.found.as_mut()?;
        Some(found.source.as_mut())
    }

    pub fn all(&mut self) -> impl Iterator<Item = (&DiskId, &mut (dyn ChangeSource + 'static))> {
        self.disks.iter_mut().filter_map(|(id, known)| {
            let source = known.found.as_mut()?.source.as_mut();
            Some((id, source))
        })
    }

    fn best_source(&mut self, local: &LocalDisk) -> Box<dyn ChangeSource> {
        let name = &local.disk.device_name;
        match self.watch(local) {
            Ok(tracked) => {
                info!(disk = %local.disk.id, "changes of {name} are tracked");
                Box::new(tracked)
            }
            Err(reason) => {
                warn!(disk = %local.disk.id, "{name} is compared for each checkpoint: {reason}");
                Box::new(Rescan::new(local.disk.bytes, reason))
            }
        }
    }

    fn watch(&mut self, local: &LocalDisk) -> Result<Tracked, String> {
        if local.kind == DiskKind::File {
            return Err("it is an image file, not a block device".into());
        }
        let roots = &self.roots;
        let tracker = self.tracker.get_or_insert_with(|| Tracker::start(roots));
        let tracker = tracker.as_ref().map_err(ToString::to_string)?;
        let watch = tracker.watch(local).map_err(|error| error.to_string())?;
        Ok(Tracked::new(watch, local.disk.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_often_sessions_break_the_sooner_a_part_is_saved() {
        let mut sources = Sources::new(Roots::default());
        let minute = Duration::from_mins(1);
        assert_eq!(sources.save_after(minute), minute);
        for _ in 0..7 {
            sources.session_ended(false);
        }
        assert!(sources.save_after(minute) < Duration::from_millis(500));
        assert_eq!(
            sources.save_after(Duration::from_millis(1)),
            Duration::from_millis(1)
        );
        sources.session_ended(true);
        assert!(sources.save_after(minute) < Duration::from_secs(1));
        for _ in 0..100 {
            sources.session_ended(false);
        }
        assert_eq!(sources.save_after(minute), Duration::from_millis(200));
    }
}
