//! Tools of the source's hypervisor. They are masked, not uninstalled: no package is touched, and the owner can
//! undo it with `systemctl unmask`.

use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
    tree::{Kind, Tree},
};

/// Units by whose they are.
const UNITS: [(&str, &[&str]); 6] = [
    (
        "VMware",
        &[
            "open-vm-tools.service",
            "vmtoolsd.service",
            "vgauthd.service",
            "vgauth.service",
            "vmware-tools.service",
            "vmware-tools-thinprint.service",
            "run-vmblock\\x2dfuse.mount",
        ],
    ),
    (
        "VirtualBox",
        &[
            "vboxadd.service",
            "vboxadd-service.service",
            "vboxservice.service",
            "virtualbox-guest-utils.service",
        ],
    ),
    (
        "Xen",
        &[
            "xe-daemon.service",
            "xe-linux-distribution.service",
            "xe-guest-utilities.service",
        ],
    ),
    (
        "Hyper-V",
        &[
            "hv-kvp-daemon.service",
            "hv-vss-daemon.service",
            "hv-fcopy-daemon.service",
            "hv-fcopy-uio-daemon.service",
            "hypervkvpd.service",
            "hypervvssd.service",
            "hypervfcopyd.service",
            "hv_kvp_daemon.service",
            "hv_vss_daemon.service",
            "hv_fcopy_daemon.service",
        ],
    ),
    ("Azure", &["walinuxagent.service", "waagent.service"]),
    ("Parallels", &["prltoolsd.service"]),
];
const OWNERS: &str = "/etc/systemd/system";
/// Where systemd finds units; what has a script of System V's init has a unit as well.
const FOLDERS: [&str; 4] = [
    OWNERS,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    for (hypervisor, units) in UNITS {
        for unit in units {
            if is_there(editor.tree(), unit)? {
                let why = format!("a tool of {hypervisor}, which the instance does not run on");
                editor.link(&format!("{OWNERS}/{unit}"), "/dev/null", &why)?;
            }
        }
    }
    Ok(())
}

fn is_there(tree: &Tree, unit: &str) -> Result<bool, EditError> {
    let script = unit
        .strip_suffix(".service")
        .map(|name| format!("/etc/init.d/{name}"));
    let units = FOLDERS.iter().map(|folder| format!("{folder}/{unit}"));
    for path in units.chain(script) {
        if matches!(tree.kind(&path)?, Some(Kind::File | Kind::Link)) {
            return Ok(true);
        }
    }
    Ok(false)
}
