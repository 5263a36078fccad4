//! Our agent. On the instance it would go on replicating, with the identity of the source.

use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
};

const UNIT: &str = "/etc/systemd/system/orglift-agent.service";
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/orglift-agent.service";
const STATE: &str = "/var/lib/orglift/agent";
const PROGRAM: &str = "orglift-agent";
const WHY: &str = "the instance is not a source: its agent's work is done";

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    let unit = editor.tree().read_text(UNIT)?;
    // Whoever installed the agent chose its place, and only its unit knows it.
    if let Some(program) = unit.as_deref().and_then(program) {
        editor.remove(program, WHY)?;
    }
    editor.remove(ENABLED, WHY)?;
    editor.remove(UNIT, WHY)?;
    // Its key is in there.
    editor.remove_private(STATE, WHY)
}

/// The path of the agent that a unit starts; of nothing else, whatever the unit says.
fn program(unit: &str) -> Option<&str> {
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    let path = match command.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => command.split_whitespace().next()?,
    };
    (path.starts_with('/') && path.rsplit('/').next() == Some(PROGRAM)).then_some(path)
}
