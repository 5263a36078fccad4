//! The steps of a conversion that edit files. Each finds for itself whether the guest has what it edits, by files
//! and not by the distribution's name; each may run again, and then changes nothing.

mod agent;
mod assignments;
mod cloud_init;
mod crypttab;
mod fstab;
mod hardware;
mod ini;
mod kernel;
mod lvm;
mod mdadm;
mod network;
mod selinux;
mod serial;
mod table;
mod tools;

#[cfg(test)]
mod tests;

use domain::changes::ChangeList;

use super::{
    editor::{EditError, Editor},
    plan::Plan,
    tree::Tree,
};

type Step = fn(&mut Editor, &Plan) -> Result<(), EditError>;

/// In this order: the kernel's command line depends on what the network is, and labels are the last word.
const STEPS: [(&str, Step); 12] = [
    ("agent", agent::edit),
    ("hypervisor tools", tools::edit),
    ("hardware", hardware::edit),
    ("LVM", lvm::edit),
    ("mdadm", mdadm::edit),
    ("fstab", fstab::edit),
    ("crypttab", crypttab::edit),
    ("network", network::edit),
    ("kernel parameters", kernel::edit),
    ("serial console", serial::edit),
    ("cloud-init", cloud_init::edit),
    ("SELinux", selinux::edit),
];

#[derive(Debug, thiserror::Error)]
#[error("the step {step} failed")]
pub struct StepError {
    pub step: &'static str,
    #[source]
    pub source: EditError,
}

/// The paths and texts of the files in a folder whose names are wanted.
fn texts(
    tree: &Tree,
    folder: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, EditError> {
    let mut texts = Vec::new();
    for name in tree.list(folder)? {
        let path = format!("{folder}/{name}");
        if is_wanted(&name)
            && tree.is_file(&path)?
            && let Some(text) = tree.read_text(&path)?
        {
            texts.push((path, text));
        }
    }
    Ok(texts)
}

fn with_suffix(suffix: &'static str) -> impl Fn(&str) -> bool {
    move |name| name.ends_with(suffix)
}

/// Edits all files of a guest that an instance needs otherwise. What was done before an error is in the list.
pub fn edit(tree: &Tree, list: &mut ChangeList, plan: &Plan) -> Result<(), StepError> {
    for (step, edit) in STEPS {
        edit(&mut Editor::new(tree, list, step), plan).map_err(|source| StepError { step, source })?;
    }
    Ok(())
}
