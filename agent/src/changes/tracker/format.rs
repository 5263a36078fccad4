//! Where the fields of a tracepoint lie in its record: `events/*/*/format` of tracefs.
//!
//! It differs from kernel to kernel, and distributions change it within one. If tracefs is mounted nowhere it is
//! opened without mounting it, so that the machine's table of mounts stays as it is.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use crate::disks::Roots;

/// The folder of tracefs.
#[derive(Debug)]
pub struct TraceFs(OwnedFd);

impl TraceFs {
    pub fn open(roots: &Roots) -> io::Result<Self> {
        let kernel = roots.sys.join("kernel");
        ["tracing", "debug/tracing"]
            .iter()
            .find_map(|place| Self::mounted(&kernel.join(place)))
            .map_or_else(Self::unmounted, Ok)
    }

    fn mounted(place: &Path) -> Option<Self> {
        place.join("events/block").exists().then_some(())?;
        Some(Self(File::open(place).ok()?.into()))
    }

    /// A mount of its own that has no place, and is gone with its descriptor.
    fn unmounted() -> io::Result<Self> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let folder = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(Self(folder))
    }

    /// The format of `block:name`, or `None` where the kernel has no such tracepoint.
    pub fn block_event(&self, name: &str) -> io::Result<Option<Event>> {
        let path = format!("events/block/{name}/format");
        let file = match openat(&self.0, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        File::from(file).take(64 << 10).read_to_string(&mut text)?;
        Ok(Event::parse(&text))
    }
}

/// A tracepoint, and where its record has what the programs read. Every field is aligned to its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What `perf_event_open`(2) knows it by.
    pub id: u64,
    /// 4 bytes: 20 bits of minor number, and above them the major.
    pub dev: i16,
    /// 8 bytes.
    pub sector: i16,
    /// 4 bytes.
    pub nr_sector: i16,
    /// Letters: the first, or after an `F` the second, is the operation.
    pub rwbs: i16,
    /// 4 bytes, in `block_rq_issue` alone: the length of the data of any request.
    pub bytes: Option<i16>,
}

impl Event {
    fn parse(text: &str) -> Option<Self> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?;
        let field = |name: &str, size: i16| {
            text.lines().find_map(|line| {
                let mut parts = line.trim().strip_prefix("field:")?.split(';');
                let declared = parts.next()?.rsplit(' ').next()?;
                let mut number = |label: &str| parts.next()?.trim().strip_prefix(label)?.parse::<i16>().ok();
                let (offset, found) = (number("offset:")?, number("size:")?);
                let is_it = declared == name && found == size && offset % size == 0;
                is_it.then_some(offset)
            })
        };
        // Eight letters up to Linux 5.19, nine and ten since.
        let rwbs = (1..=32).find_map(|len: i16| {
            text.lines().find_map(|line| {
                let rest = line.trim().strip_prefix(&format!("field:char rwbs[{len}];"))?;
                rest.trim()
                    .strip_prefix("offset:")?
                    .split(';')
                    .next()?
                    .parse()
                    .ok()
            })
        })?;
        Some(Self {
            id: id.trim().parse().ok()?,
            dev: field("dev", 4)?,
            sector: field("sector", 8)?,
            nr_sector: field("nr_sector", 4)?,
            rwbs,
            bytes: field("bytes", 4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_two_kernels_are_read() {
        let issue = "name: block_rq_issue\nID: 2104\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;\n\
            \tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:unsigned int nr_sector;\toffset:24;\tsize:4;\tsigned:0;\n\
            \tfield:unsigned int bytes;\toffset:28;\tsize:4;\tsigned:0;\n\
            \tfield:unsigned short ioprio;\toffset:32;\tsize:2;\tsigned:0;\n\
            \tfield:char rwbs[10];\toffset:34;\tsize:10;\tsigned:0;\n";
        let event = Event {
            id: 2104,
            dev: 8,
            sector: 16,
            nr_sector: 24,
            rwbs: 34,
            bytes: Some(28),
        };
        assert_eq!(Event::parse(issue).unwrap(), event);
        let complete = issue
            .replace("unsigned int bytes", "int error")
            .replace("rwbs[10];\toffset:34;\tsize:10", "rwbs[8];\toffset:32;\tsize:8");
        let older = Event {
            rwbs: 32,
            bytes: None,
            ..event
        };
        assert_eq!(Event::parse(&complete).unwrap(), older);
        // A sector of half the size would be read beyond its end.
        assert_eq!(
            Event::parse(&issue.replace("offset:16;\tsize:8", "offset:16;\tsize:4")),
            None
        );
    }
}
