//! What the kernel itself says of the devices that lead to one disk: Documentation/block/stat.rst.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Unavailable;
use crate::disks::{DiskKind, LocalDisk, Roots};

#[derive(Debug)]
pub struct Devices {
    folders: Vec<PathBuf>,
}

impl Devices {
    pub fn of(roots: &Roots, disk: &LocalDisk) -> Result<Self, Unavailable> {
        let DiskKind::Block { kernel_names } = &disk.kind else {
            return Err(Unavailable::ImageFile);
        };
        for name in kernel_names {
            let folder = roots.sys.join("block").join(name);
            if !folder.join("mq").exists() {
                return Err(Unavailable::BioBased { name: name.clone() });
            }
            // A command to a zone changes it without saying how much.
            if read(&folder, "queue/zoned").is_ok_and(|zoned| zoned != "none") {
                return Err(Unavailable::Zoned { name: name.clone() });
            }
        }
        let folders = kernel_names.iter().map(|name| roots.sys.join("block").join(name));
        Ok(Self {
            folders: folders.collect(),
        })
    }

    pub fn name(&self) -> String {
        let name = self.folders.first().and_then(|folder| folder.file_name());
        name.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The numbers as tracepoints show them: 20 bits for the minor one.
    pub fn numbers(&self) -> io::Result<Vec<u32>> {
        self.folders
            .iter()
            .map(|folder| {
                let text = read(folder, "dev")?;
                let (major, minor) = text.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
                let number = |text: &str| text.parse::<u32>().map_err(|_| io::ErrorKind::InvalidData);
                Ok(number(major)? << 20 | number(minor)?)
            })
            .collect()
    }

    pub fn bytes(&self) -> io::Result<u64> {
        let sectors = self.folders.first().map(|folder| read(folder, "size"));
        let sectors = sectors.ok_or(io::ErrorKind::NotFound)??;
        Ok(sectors.parse::<u64>().map_err(|_| io::ErrorKind::InvalidData)? * super::layout::SECTOR_LEN)
    }

    /// Changes when a device is exchanged for another under its name, or resized. `diskseq` is there since Linux
    /// 5.15.
    pub fn identity(&self) -> String {
        let of_one = |folder: &PathBuf| {
            let attribute = |name| read(folder, name).unwrap_or_else(|_| "-".to_owned());
            format!(
                "{} ({} sectors, number {})",
                attribute("dev"),
                attribute("size"),
                attribute("diskseq")
            )
        };
        self.folders.iter().map(of_one).collect::<Vec<_>>().join(", ")
    }

    /// Sectors that were written or discarded since the start of the machine; `None` without statistics.
    pub fn sectors(&self) -> Option<u64> {
        self.with_statistics(|folder| {
            let stat = numbers(&read(folder, "stat").ok()?)?;
            Some(stat.get(6)? + stat.get(13).unwrap_or(&0))
        })
    }

    /// Writes and discards that a driver has in hand; `None` without statistics.
    pub fn in_flight(&self) -> Option<u64> {
        self.with_statistics(|folder| {
            let writes = |folder: &Path| numbers(&read(folder, "inflight").ok()?)?.get(1).copied();
            // The number of the whole disk left out its partitions before Linux 5.11.
            let parts = fs::read_dir(folder).ok()?.filter_map(Result::ok);
            let parts = parts.filter(|entry| entry.path().join("partition").exists());
            Some(writes(folder)? + parts.filter_map(|part| writes(&part.path())).sum::<u64>())
        })
    }

    fn with_statistics(&self, number: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
        self.folders
            .iter()
            .map(|folder| {
                (read(folder, "queue/iostats").ok()? == "1").then_some(())?;
                number(folder)
            })
            .sum()
    }
}

fn read(folder: &Path, attribute: &str) -> io::Result<String> {
    Ok(fs::read_to_string(folder.join(attribute))?.trim().to_owned())
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split_ascii_whitespace()
        .map(|number| number.parse().ok())
        .collect()
}
