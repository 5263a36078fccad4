//! /etc/crypttab: encrypted devices by what is on them.

use super::table::{Named, Row, convert_rows, named};
use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
};

const KEY: usize = 2;
const OPTIONS: usize = 3;

pub fn edit(editor: &mut Editor, plan: &Plan) -> Result<(), EditError> {
    editor.amend(
        "/etc/crypttab",
        "disks have other names on the instance, and one that was not replicated must not stop its start",
        |text| convert_rows(text, |row| convert(row, plan)),
    )
}

fn convert(row: &mut Row, plan: &Plan) {
    let Some(device) = row.field(1) else {
        return;
    };
    match named(device, plan) {
        Named::Here(device) => {
            if let Some(stable) = device.stable_name() {
                row.set(1, stable);
            }
        }
        Named::Absent => {
            if row.field(KEY).is_none() {
                row.set(KEY, "none".to_owned());
            }
            row.may_be_absent(OPTIONS);
        }
        Named::Stable => {}
    }
}
