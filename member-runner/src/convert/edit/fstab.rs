//! /etc/fstab: devices by what is on them, since the instance's disks have other names; and no start that waits
//! for a disk that was not replicated.

use super::table::{Named, Row, convert_rows, named};
use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
};

/// Without these a system is better stopped than half there.
const ESSENTIAL: [&str; 5] = ["/", "/usr", "/var", "/boot", "/boot/efi"];
const OPTIONS: usize = 3;

pub fn edit(editor: &mut Editor, plan: &Plan) -> Result<(), EditError> {
    editor.amend(
        "/etc/fstab",
        "disks have other names on the instance, and one that was not replicated must not stop its start",
        |text| convert_rows(text, |row| convert(row, plan)),
    )
}

fn convert(row: &mut Row, plan: &Plan) {
    let (Some(device), Some(mounted_at)) = (row.field(0), row.field(1)) else {
        return;
    };
    match named(device, plan) {
        Named::Here(device) => {
            if let Some(stable) = device.stable_name() {
                row.set(0, stable);
            }
        }
        Named::Absent if !ESSENTIAL.contains(&mounted_at) => row.may_be_absent(OPTIONS),
        Named::Absent | Named::Stable => {}
    }
}
