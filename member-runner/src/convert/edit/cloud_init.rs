//! cloud-init, where it is installed: it finds EC2, and leaves alone what makes this server this server. An
//! instance is a new one to it, and it would give it another name, other host keys and other package sources.

use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
};

const CONFIGURATION: &str = "/etc/cloud/cloud.cfg";
const OURS: &str = "/etc/cloud/cloud.cfg.d/99-orglift.cfg";
const SETTINGS: &str = "\
# Written by Orglift when this server was converted. Remove it to have cloud-init set up the network, names and keys.
datasource_list: [ Ec2, NoCloud, None ]
network: { config: disabled }
preserve_hostname: true
ssh_deletekeys: false
ssh_pwauth: unchanged
disable_root: false
apt: { preserve_sources_list: true }
";
/// What installers leave: no data source, and the network of the source.
const OF_INSTALLERS: [&str; 5] = [
    "/etc/cloud/cloud-init.disabled",
    "/etc/cloud/cloud.cfg.d/99-installer.cfg",
    "/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
    "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
    "/etc/cloud/ds-identify.cfg",
];

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    if editor.tree().kind(CONFIGURATION)?.is_none() {
        return Ok(());
    }
    for path in OF_INSTALLERS {
        editor.remove(path, "with it, cloud-init does not find the instance's data")?;
    }
    editor.write(
        OURS,
        SETTINGS.as_bytes(),
        "cloud-init finds EC2, and keeps this server's name, keys and network",
    )
}
