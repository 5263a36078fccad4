//! The service, where systemd is in charge.

use std::{fs, path::Path, process::Command};

use anyhow::Context;

use crate::layout::Layout;

const UNIT: &str = "orglift-agent.service";
const UNIT_FILE: &str = "/etc/systemd/system/orglift-agent.service";

/// Whether systemd starts the agent in `layout`: there is one service per machine, for root's agent in
/// its usual place.
pub fn manages(layout: &Layout) -> bool {
    layout.is_default() && rustix::process::geteuid().is_root() && Path::new("/run/systemd/system").exists()
}

pub fn install_and_start() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    fs::write(UNIT_FILE, unit(&program)).with_context(|| format!("cannot write {UNIT_FILE}"))?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", UNIT])
}

pub fn stop_and_remove() -> anyhow::Result<()> {
    if Path::new(UNIT_FILE).exists() {
        systemctl(&["disable", "--now", UNIT])?;
        remove_unit()?;
    }
    Ok(())
}

/// For the service itself, which stopping would kill before it is done.
pub fn disable_and_remove() -> anyhow::Result<()> {
    if Path::new(UNIT_FILE).exists() {
        systemctl(&["disable", UNIT])?;
        remove_unit()?;
    }
    Ok(())
}

fn remove_unit() -> anyhow::Result<()> {
    fs::remove_file(UNIT_FILE).with_context(|| format!("cannot remove {UNIT_FILE}"))?;
    systemctl(&["daemon-reload"])
}

fn systemctl(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("systemctl")
        .args(args)
        .output()
        .context("cannot run systemctl")?;
    anyhow::ensure!(
        output.status.success(),
        "systemctl {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Stopping takes as long as hooks may take to thaw. A clean end is final: a disconnected agent has
/// removed itself. However the agent ends, and its guard with it, what they left frozen is thawed.
fn unit(program: &Path) -> String {
    format!(
        "[Unit]\n\
         Description=Orglift agent: replicates this server\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart=\"{program}\" run\n\
         ExecStopPost=\"{program}\" thaw\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         TimeoutStopSec=120\n\
         KillMode=mixed\n\
         Nice=5\n\
         IOSchedulingClass=best-effort\n\
         IOSchedulingPriority=6\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program = program.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_program_and_only_root_in_the_usual_place_has_one() {
        let unit = unit(Path::new("/usr/local/bin/orglift-agent"));
        assert!(unit.contains("ExecStart=\"/usr/local/bin/orglift-agent\" run\n"));
        assert!(unit.contains("ExecStopPost=\"/usr/local/bin/orglift-agent\" thaw\n"));
        assert!(!manages(&Layout::new("/tmp/somewhere")));
    }
}
