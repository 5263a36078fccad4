//! The serial line as the console of the boot loader, and of systems without systemd, which starts its own login
//! on the kernel's console.

use super::assignments::Assignments;
use crate::convert::editor::{EditError, Editor};
use crate::convert::plan::Plan;

const WHY: &str = "the serial line is the instance's only console";
const GRUB_SERIAL: &str = "serial --speed=115200 --unit=0 --word=8 --parity=no --stop=1";
const LOGIN: &str = "S0:2345:respawn:/sbin/agetty -L 115200 ttyS0 vt100";

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    editor.amend("/etc/default/grub", WHY, |text| {
        let mut file = Assignments::parse(text);
        // It counts for input and output, whatever `GRUB_TERMINAL_OUTPUT` says.
        file.set("GRUB_TERMINAL", "console serial");
        file.set("GRUB_SERIAL_COMMAND", GRUB_SERIAL);
        file.text_or(text)
    })?;
    editor.amend("/etc/inittab", WHY, |text| {
        let entries = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let is_login = |line: &str| line.contains(":respawn:") && line.contains("getty");
        if !entries().any(is_login) || entries().any(|line| is_login(line) && line.contains("ttyS0")) {
            return text.to_owned();
        }
        let kept = text
            .lines()
            .filter(|line| !(is_login(line) && (line.contains("hvc0") || line.contains("xvc0"))));
        kept.chain([LOGIN]).flat_map(|line| [line, "\n"]).collect()
    })?;
    editor.amend("/etc/securetty", WHY, |text| {
        if text.lines().any(|line| line.trim() == "ttyS0") {
            return text.to_owned();
        }
        text.lines()
            .chain(["ttyS0"])
            .flat_map(|line| [line, "\n"])
            .collect()
    })
}
