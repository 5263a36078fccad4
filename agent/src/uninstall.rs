//! Removes the agent: its unit, its identity, its state. Asks nothing, and may be called again.

use std::path::Path;

use anyhow::Context;

use crate::{
    install::systemd,
    layout::{Layout, remove_if_there},
    session::Agent,
};

/// `orglift-agent uninstall`. Says whether anything was there.
pub fn uninstall(layout: &Layout) -> anyhow::Result<bool> {
    let was_installed = layout.config().exists() || layout.credentials().exists();
    if systemd::manages(layout) {
        systemd::stop_and_remove()?;
    }
    remove_state(layout)?;
    Ok(was_installed)
}

/// Removes the running agent from within. Its unit is disabled, and stops when the program ends.
pub fn remove_own(agent: &Agent) -> anyhow::Result<()> {
    agent.board.close();
    if systemd::manages(&agent.layout) {
        systemd::disable_and_remove()?;
    }
    remove_state(&agent.layout)
}

fn remove_state(layout: &Layout) -> anyhow::Result<()> {
    let credentials = layout.credentials();
    match std::fs::remove_dir_all(&credentials) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", credentials.display()));
        }
        _ => {}
    }
    for file in [
        layout.session(),
        layout.copied(),
        layout.status(),
        layout.frozen(),
        layout.frozen_file_systems(),
        // Last: while it is there, the agent counts as installed and this can be repeated.
        layout.config(),
    ] {
        remove_if_there(&file)?;
    }
    remove_if_empty(layout.dir());
    Ok(())
}

/// The folder may hold hooks, or be a mount point: those are not ours.
fn remove_if_empty(folder: &Path) {
    if let Err(error) = std::fs::remove_dir(folder) {
        tracing::debug!("{} stays: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_goes_and_nothing_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("agent"));
        assert!(!uninstall(&layout).unwrap());
        layout.create().unwrap();
        std::fs::create_dir(layout.credentials()).unwrap();
        for file in [
            layout.config(),
            layout.session(),
            layout.copied(),
            layout.status(),
        ] {
            std::fs::write(file, "{}").unwrap();
        }
        assert!(uninstall(&layout).unwrap());
        assert!(!layout.dir().exists());
    }
}
