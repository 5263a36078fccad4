//! What a worker does with the clones of a server's disks.
//!
//! ```text
//! attach ─▶ mount ─▶ inspect ─▶ edit ─▶ initramfs ─▶ boot loader ─▶ unmount ─▶ check ─▶ report
//!                       └ blocked: nothing is edited
//! ```
//!
//! It may be killed at any time: the clones are thrown away, and the checkpoint is as it was.

use std::process::ExitCode;

use domain::{changes::ChangeList, launch::BootMode, readiness::Class};

use super::{
    attach::{
        Attached,
        mounts::{Guest, MountError, Programs},
    },
    edit,
    editor::Editor,
    inspect::{
        self, Facts,
        boot::BootLoader,
        disks::DiskFacts,
        findings,
        fstab::{Spec, tagged},
    },
    orders::{Convert, Edited, Inspect, Order, Report},
    plan::Plan,
    programs::{
        boot_loader,
        initramfs::{self, Which},
    },
    rehearsal,
    sandbox::{Device, Sandbox},
    tree::Tree,
    worker::inside::{Inside, InsideError},
};
use crate::staging::chain;

/// The longest reason, in characters: what a guest's program said is in it.
const DETAIL_CHARS_MAX: usize = 16_384;

/// What goes into an initramfs, besides drivers.
const INITRAMFS_SOURCES: [&str; 6] = [
    "/etc/crypttab",
    "/etc/fstab",
    "/etc/modprobe.d/",
    "/etc/initramfs-tools/conf.d/resume",
    "/etc/lvm/",
    "/etc/mdadm",
];
/// What a menu of GRUB is made of.
const MENU_SOURCES: [&str; 2] = ["/etc/default/grub", "/etc/grub.d/"];

/// `orglift-runner in-conversion`. What it cannot report is said on standard error, which is quoted.
pub fn main_inside() -> ExitCode {
    match Inside::start().and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn work(inside: Inside) -> Result<(), InsideError> {
    let report = match serde_json::from_value(inside.order.clone()) {
        Ok(Order::Inspect(order)) => look(&inside, &order),
        Ok(Order::Convert(order)) => convert(&inside, &order),
        Ok(Order::Rehearse(order)) => rehearsal::rehearse(&inside, &order),
        Err(error) => Err(Failed::at("order")(error)),
    };
    let report = report.unwrap_or_else(|Failed { step, detail }| Report::Failed {
        step: step.to_owned(),
        detail,
    });
    inside.report(&report)
}

/// A step that failed, and why.
#[derive(Debug)]
pub(super) struct Failed {
    step: &'static str,
    detail: String,
}

impl Failed {
    pub fn at<E: std::error::Error>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::because(step, chain(&error))
    }

    fn because(step: &'static str, detail: String) -> Self {
        let detail = match detail.char_indices().nth(DETAIL_CHARS_MAX) {
            // What a program said last is at the end.
            Some(_) => {
                let skipped = detail.chars().count() - DETAIL_CHARS_MAX;
                format!("…{}", detail.chars().skip(skipped).collect::<String>())
            }
            None => detail,
        };
        Self { step, detail }
    }
}

/// Tells what is done now; whoever waits may have gone, and then the report finds nobody either.
pub(super) fn begin(inside: &Inside, step: &'static str) -> &'static str {
    if let Err(error) = inside.step(step) {
        eprintln!("{}", chain(&error));
    }
    step
}

fn look(inside: &Inside, order: &Inspect) -> Result<Report, Failed> {
    let step = begin(inside, "attach");
    let mut attached = Attached::open(&inside.files(), &inside.disks).map_err(Failed::at(step))?;
    let step = begin(inside, "inspect");
    let guest = Guest::mount(&mut attached, &inside.work.join("guest"), Programs::MayNotRun);
    let disks = attached.facts(guest.as_ref().ok(), order.boot_mode);
    let found = match guest {
        Ok(guest) => {
            let tree = Tree::open(guest.root()).map_err(Failed::at(step))?;
            inspect::inspect(&tree, &disks, order.hypervisor).1
        }
        Err(error) if is_an_answer(&error) => findings::without_root(&disks),
        Err(error) => return Err(Failed::at(step)(error)),
    };
    Ok(Report::Inspected(found))
}

/// Whether it says something of the disks, and nothing of the runner.
fn is_an_answer(error: &MountError) -> bool {
    matches!(
        error,
        MountError::NoRoot { .. } | MountError::SeveralRoots(_) | MountError::Closed(_)
    )
}

fn convert(inside: &Inside, order: &Convert) -> Result<Report, Failed> {
    let step = begin(inside, "attach");
    let mut attached = Attached::open(&inside.files(), &inside.disks).map_err(Failed::at(step))?;
    let step = begin(inside, "mount");
    let guest = Guest::mount(&mut attached, &inside.work.join("guest"), Programs::MayRun)
        .map_err(Failed::at(step))?;
    let tree = Tree::open(guest.root()).map_err(Failed::at(step))?;

    let step = begin(inside, "inspect");
    let disks = attached.facts(Some(&guest), order.boot_mode);
    let (facts, findings) = inspect::inspect(&tree, &disks, order.hypervisor);
    let blocking = findings.iter().filter(|finding| finding.class == Class::Blocks);
    let blocking: Vec<String> = blocking
        .map(|finding| {
            format!(
                "{} {}",
                finding.text,
                finding.remedy.as_deref().unwrap_or_default()
            )
        })
        .collect();
    if !blocking.is_empty() {
        return Err(Failed::because(step, blocking.join("\n")));
    }

    let step = begin(inside, "edit files");
    let mut changes = ChangeList::new(order.server.clone(), order.checkpoint);
    let plan = Plan::new(order.network, &disks);
    edit::edit(&tree, &mut changes, &plan).map_err(Failed::at(step))?;

    let devices = attached.devices().into_iter().map(|(volume, path)| Device {
        path,
        names: volume.lasting_names(),
        uuid: volume
            .uuid
            .filter(|_| !matches!(tagged(&volume.device_name), Spec::Mapped(_))),
    });
    let runner = std::env::current_exe().map_err(Failed::at("initramfs"))?;
    let mut sandbox = Sandbox::new(guest.root(), &runner).with_devices(devices.collect());
    if facts.boot.mode == BootMode::Uefi {
        sandbox = sandbox.with_efi();
    }
    fit_initramfs(inside, &tree, &mut changes, &sandbox, &facts)?;
    fit_boot_loader(inside, &tree, &mut changes, &sandbox, &facts, &disks)?;

    let step = begin(inside, "unmount");
    drop(tree);
    guest.unmount().map_err(Failed::at(step))?;
    let step = begin(inside, "check");
    attached.check().map_err(Failed::at(step))?;
    attached.close().map_err(Failed::at(step))?;
    Ok(Report::Converted(Edited {
        findings,
        boot_mode: facts.boot.mode,
        changes,
    }))
}

fn fit_initramfs(
    inside: &Inside,
    tree: &Tree,
    changes: &mut ChangeList,
    sandbox: &Sandbox,
    facts: &Facts,
) -> Result<(), Failed> {
    let step = begin(inside, "initramfs");
    let which = if touches(changes, &INITRAMFS_SOURCES) {
        Which::All
    } else {
        Which::Lacking
    };
    let mut editor = Editor::new(tree, changes, step);
    initramfs::rebuild(&mut editor, sandbox, facts, which).map_err(Failed::at(step))
}

fn fit_boot_loader(
    inside: &Inside,
    tree: &Tree,
    changes: &mut ChangeList,
    sandbox: &Sandbox,
    facts: &Facts,
    disks: &DiskFacts,
) -> Result<(), Failed> {
    let step = begin(inside, "boot loader");
    let has_new_settings = touches(changes, &MENU_SOURCES);
    let mut editor = Editor::new(tree, changes, step);
    boot_loader::forget_disks(&mut editor).map_err(Failed::at(step))?;
    if let BootLoader::Grub2 {
        name,
        configuration,
        bls: false,
    } = &facts.boot.loader
        && has_new_settings
    {
        boot_loader::remake_menu(&mut editor, sandbox, name, configuration).map_err(Failed::at(step))?;
    }
    if let Some(efi) = &facts.boot.efi
        && disks.mounted_at(efi.mounted_at).is_some()
    {
        boot_loader::add_efi_fallback(&mut editor, efi.mounted_at).map_err(Failed::at(step))?;
    }
    Ok(())
}

/// Whether a path in the list is one of these, or begins so.
fn touches(changes: &ChangeList, paths: &[&str]) -> bool {
    let mut touched = changes.changes.iter().map(|change| change.path.as_str());
    touched.any(|path| paths.iter().any(|one| path.starts_with(one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_keeps_its_end() {
        let failed = Failed::because("initramfs", format!("{}end", "ä".repeat(DETAIL_CHARS_MAX)));
        assert_eq!(failed.detail.chars().count(), DETAIL_CHARS_MAX + 1);
        assert!(failed.detail.starts_with('…') && failed.detail.ends_with("end"));
    }
}
