//! Clones of all disks of a checkpoint: what one worker changes, the next one boots, and a commit keeps.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cloud::{
    control::Tags,
    snapshots::{SnapshotId, SnapshotStore},
};
use domain::{conversion::ConvertedDisk, disk::BLOCK_LEN};
use protocol::exchange::ObservedCheckpoint;
use tokio::runtime::Handle;

use super::{
    attach::DiskFile,
    orders::{Order, Report},
    overlay::{Base, Cost, Overlay, OverlayError},
    worker::{Message, Worker, WorkerError},
};
use crate::{
    digests::DiskDigests,
    files::{FileError, context},
};

/// Of the blocks that were read, what stays in memory for each disk: the metadata of its file systems, mostly.
const KEPT_BYTES: usize = 64 << 20;
/// The longest that a worker may take. A rehearsal has a limit of its own, and guest programs have theirs.
const WORK_MAX: Duration = Duration::from_hours(1);
/// How often a worker's wait looks whether it is to be given up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Clones {
    disks: Vec<(DiskFile, Arc<Overlay>)>,
    checkpoint: ObservedCheckpoint,
}

/// Who works on clones, and where.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// `orglift-runner`.
    pub program: PathBuf,
    /// For the worker, and for what it writes. Somebody else removes it.
    pub folder: PathBuf,
    pub store: Arc<dyn SnapshotStore>,
    pub runtime: Handle,
}

#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("the worker's report cannot be understood")]
    Report(#[from] serde_json::Error),
    #[error("it was given up after {} minutes, at the step {step:?}", WORK_MAX.as_secs() / 60)]
    TooSlow { step: String },
    #[error("it was called off")]
    CalledOff,
}

impl Clones {
    /// `digests` are those of each disk, where they are known. The checkpoint must be held meanwhile.
    pub fn of(
        checkpoint: &ObservedCheckpoint,
        digests: Vec<Option<Arc<DiskDigests>>>,
        workshop: &Workshop,
    ) -> Result<Self, CloneError> {
        let folder = &workshop.folder;
        fs::create_dir_all(folder).map_err(context("create", folder))?;
        let disks = checkpoint.disks.iter().zip(digests).map(|(disk, digests)| {
            let base = Base {
                snapshot: SnapshotId(disk.snapshot.clone()),
                disk: disk.disk.clone(),
                bytes: disk.bytes,
                digests,
            };
            let store = Arc::clone(&workshop.store);
            let overlay = Overlay::over(base, store, workshop.runtime.clone(), folder, KEPT_BYTES)?;
            let file = DiskFile {
                device_name: disk.device_name.clone(),
                is_boot: disk.is_boot,
                bytes: disk.bytes,
            };
            Ok((file, Arc::new(overlay)))
        });
        Ok(Self {
            disks: disks.collect::<Result<_, OverlayError>>()?,
            checkpoint: checkpoint.clone(),
        })
    }

    /// Has a worker do what is ordered. `step` hears what it is doing. Blocks; not for threads of the runtime.
    pub fn work(
        &self,
        order: &Order,
        workshop: &Workshop,
        called_off: &AtomicBool,
        mut step: impl FnMut(&str),
    ) -> Result<Report, CloneError> {
        let mut worker = Worker::start(&workshop.program, &workshop.folder, self.disks.clone(), order)?;
        let began = Instant::now();
        let mut at = String::new();
        loop {
            match worker.next(Instant::now() + LOOK_EVERY)? {
                Some(Message::Report(text)) => {
                    worker.end()?;
                    self.failure()?;
                    return Ok(serde_json::from_str(&text)?);
                }
                Some(Message::Step(now)) => {
                    step(&now);
                    at = now;
                }
                None if called_off.load(Relaxed) => return Err(CloneError::CalledOff),
                None if began.elapsed() > WORK_MAX => return Err(CloneError::TooSlow { step: at }),
                None => {}
            }
        }
    }

    /// A disk that could not be read or written as its worker wanted is not what the worker thinks it is.
    fn failure(&self) -> Result<(), OverlayError> {
        let failure = self.disks.iter().find_map(|(_, overlay)| overlay.failure());
        failure.map_or(Ok(()), Err)
    }

    pub fn cost(&self) -> Cost {
        let costs = self.disks.iter().map(|(_, overlay)| overlay.cost());
        costs.fold(Cost::default(), |sum, one| Cost {
            fetched: sum.fetched + one.fetched,
            written: sum.written + one.written,
        })
    }

    /// Makes what was changed children of the checkpoint's snapshots. A disk of which nothing was changed keeps its
    /// own. Not for threads of the runtime.
    pub fn commit(&self, tags: &Tags) -> Result<Vec<ConvertedDisk>, OverlayError> {
        let disks = self.checkpoint.disks.iter().zip(&self.disks);
        let disks = disks.map(|(disk, (_, overlay))| {
            let snapshot = if overlay.cost().written == 0 {
                disk.snapshot.clone()
            } else {
                overlay.commit(tags.clone())?.snapshot.0
            };
            Ok(ConvertedDisk {
                disk: disk.disk.clone(),
                snapshot,
            })
        });
        disks.collect()
    }

    /// Writes the disks to `folder` as raw images, durably, with holes where zeros are: `sda.img`. `progress` hears how
    /// many bytes are done. Not for threads of the runtime.
    pub fn write_images(
        &self,
        folder: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<PathBuf>, CloneError> {
        fs::create_dir_all(folder).map_err(context("create", folder))?;
        let mut done = 0;
        let mut images = Vec::new();
        for (disk, overlay) in &self.disks {
            let path = folder.join(image_name(&disk.device_name));
            let written = |error: io::Error| context("write", &path)(error);
            let file = fs::File::create_new(&path).map_err(written)?;
            file.set_len(disk.bytes).map_err(written)?;
            let mut block = vec![0; BLOCK_LEN];
            let mut at = 0;
            while at < disk.bytes {
                let len = usize::try_from(disk.bytes - at).map_or(BLOCK_LEN, |rest| rest.min(BLOCK_LEN));
                overlay.read(at, &mut block[..len])?;
                if block[..len].iter().any(|byte| *byte != 0) {
                    file.write_all_at(&block[..len], at).map_err(written)?;
                }
                at += len as u64;
                done += len as u64;
                progress(done);
            }
            file.sync_all().map_err(written)?;
            images.push(path);
        }
        Ok(images)
    }

    pub fn bytes(&self) -> u64 {
        self.disks.iter().map(|(disk, _)| disk.bytes).sum()
    }
}

/// `/dev/sda` is `sda.img`. The name is the source's, and must not lead out of the folder.
fn image_name(device_name: &str) -> String {
    let name = device_name.strip_prefix("/dev/").unwrap_or(device_name);
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    format!("{}.img", name.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_cannot_choose_where_its_image_is() {
        assert_eq!(image_name("/dev/sda"), "sda.img");
        assert_eq!(image_name("/dev/mapper/vg-root"), "mapper_vg-root.img");
        assert_eq!(image_name("../../etc/passwd"), "______etc_passwd.img");
    }
}
