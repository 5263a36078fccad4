//! Tables of fields between spaces, as fstab and crypttab are. Comments, order and columns stay.

use crate::convert::{
    inspect::fstab::{Spec, tagged},
    plan::{Device, Plan},
};

/// How long a start waits for a disk that may be absent.
const ABSENT: [&str; 2] = ["nofail", "x-systemd.device-timeout=10s"];

/// Changes each row of a table, and no other line.
pub fn convert_rows(text: &str, convert: impl Fn(&mut Row)) -> String {
    let line = |line: &str| {
        let (content, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |content| (content, "\n"));
        match Row::parse(content) {
            None => line.to_owned(),
            Some(mut row) => {
                convert(&mut row);
                row.text() + end
            }
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

/// Fields that a row has, each with the space that follows it.
pub struct Row<'a> {
    indent: &'a str,
    fields: Vec<(String, &'a str)>,
}

impl<'a> Row<'a> {
    /// `None` for comments and empty lines.
    pub fn parse(line: &'a str) -> Option<Self> {
        let start = line.trim_start();
        if start.is_empty() || start.starts_with('#') {
            return None;
        }
        let indent = &line[..line.len() - start.len()];
        let mut fields = Vec::new();
        let mut rest = start;
        while !rest.is_empty() {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            let next = after.trim_start();
            fields.push((field.to_owned(), &after[..after.len() - next.len()]));
            rest = next;
        }
        Some(Self { indent, fields })
    }

    pub fn field(&self, at: usize) -> Option<&str> {
        self.fields.get(at).map(|(field, _)| field.as_str())
    }

    pub fn set(&mut self, at: usize, value: String) {
        while self.fields.len() <= at {
            if let Some(last) = self.fields.last_mut().filter(|last| last.1.is_empty()) {
                last.1 = " ";
            }
            self.fields.push(("none".to_owned(), ""));
        }
        let (field, space) = &mut self.fields[at];
        // A longer value takes its room from the space after it, so that the columns stay where they can.
        let grown = value.len().saturating_sub(field.len());
        if space.bytes().all(|byte| byte == b' ') && !space.is_empty() {
            *space = &space[grown.min(space.len() - 1)..];
        }
        *field = value;
    }

    pub fn text(&self) -> String {
        let fields = self
            .fields
            .iter()
            .flat_map(|(field, space)| [field.as_str(), space]);
        [self.indent].into_iter().chain(fields).collect()
    }

    /// Adds options that let a start go on without the device.
    pub fn may_be_absent(&mut self, at: usize) {
        let mut options: Vec<String> = match self.field(at) {
            None | Some("none" | "-") => Vec::new(),
            Some(options) => options.split(',').map(str::to_owned).collect(),
        };
        if options.iter().any(|option| option == "noauto") {
            return;
        }
        for wanted in ABSENT {
            let key = wanted.split('=').next();
            if !options.iter().any(|option| option.split('=').next() == key) {
                options.push(wanted.to_owned());
            }
        }
        self.set(at, options.join(","));
    }
}

/// What is known of a device that a file names.
pub enum Named<'a> {
    /// By a name that will not do on the instance.
    Here(&'a Device),
    /// By a name that stays.
    Stable,
    Absent,
}

/// Whether what a file calls a device is one on the instance.
pub fn named<'a>(name: &str, plan: &'a Plan) -> Named<'a> {
    let name = unquoted(name);
    if matches!(tagged(&name), Spec::Mapped(_) | Spec::Md(_)) {
        // It is of what is on the disks, not of them.
        return Named::Stable;
    }
    if let Some(device) = plan.devices.get(&name) {
        return match device.stable_name() {
            Some(stable) if stable == name => Named::Stable,
            _ => Named::Here(device),
        };
    }
    let known = |of: fn(&Device) -> Option<&str>, value: &str| {
        plan.devices
            .values()
            .any(|device| of(device).is_some_and(|found| found.eq_ignore_ascii_case(value)))
    };
    let by_name = name.split_once('=').or_else(|| {
        let (kind, value) = name.strip_prefix("/dev/disk/by-")?.split_once('/')?;
        Some((kind, value))
    });
    let is_here = match by_name {
        Some(("UUID" | "uuid", value)) => known(|device| device.uuid.as_deref(), value),
        Some(("LABEL" | "label", value)) => known(|device| device.label.as_deref(), value),
        Some(("PARTUUID" | "partuuid", value)) => known(|device| device.part_uuid.as_deref(), value),
        // They tell of hardware that stays behind.
        Some(("id" | "path", _)) => return Named::Absent,
        None if is_of_hardware(&name) => return Named::Absent,
        _ => true,
    };
    if is_here || !plan.devices_are_all {
        Named::Stable
    } else {
        Named::Absent
    }
}

/// Names that the kernel gives to disks in the order in which it finds them.
fn is_of_hardware(name: &str) -> bool {
    const DRIVERS: [&str; 10] = [
        "sd", "hd", "vd", "xvd", "nvme", "mmcblk", "cciss/", "sr", "fd", "cdrom",
    ];
    name.strip_prefix("/dev/")
        .is_some_and(|name| DRIVERS.iter().any(|driver| name.starts_with(driver)))
}

fn unquoted(name: &str) -> String {
    name.replace('"', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_columns() {
        let line = "\t/dev/sda1        /   ext4 errors=remount-ro 0 1";
        let mut row = Row::parse(line).unwrap();
        assert_eq!(row.text(), line);
        row.set(0, "UUID=abc-def".into());
        assert_eq!(row.text(), "\tUUID=abc-def     /   ext4 errors=remount-ro 0 1");
        row.set(0, "UUID=something-much-longer".into());
        assert_eq!(
            row.text(),
            "\tUUID=something-much-longer /   ext4 errors=remount-ro 0 1"
        );
    }

    #[test]
    fn options_are_added_once() {
        let mut row = Row::parse("/dev/sdb1 /data xfs").unwrap();
        row.may_be_absent(3);
        let text = "/dev/sdb1 /data xfs nofail,x-systemd.device-timeout=10s";
        assert_eq!(row.text(), text);
        let mut row = Row::parse(text).unwrap();
        row.may_be_absent(3);
        assert_eq!(row.text(), text);
        assert!(Row::parse("  # a comment").is_none());
    }
}
