//! SELinux: what conversion wrote has no labels that the policy knows, so the system sets them all at its first
//! start, and starts again.

use super::assignments::Assignments;
use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
};

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    let Some(text) = editor.tree().read_text("/etc/selinux/config")? else {
        return Ok(());
    };
    let mode = Assignments::parse(&text);
    if !matches!(mode.get("SELINUX"), Some("enforcing" | "permissive")) {
        return Ok(());
    }
    editor.write(
        "/.autorelabel",
        b"",
        "files that were written without SELinux get their labels at the first start",
    )
}
