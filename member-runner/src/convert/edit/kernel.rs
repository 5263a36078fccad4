//! The kernel's command line, wherever it is kept: console and disks of the instance, and names of its interfaces.
//!
//! | file | who reads it |
//! |---|---|
//! | `/etc/default/grub`, `grub.d/*.cfg` | `grub-mkconfig`, when the boot loader is set up |
//! | `/boot/loader/entries/*.conf` | the boot loader of the RHEL family and of systemd |
//! | `/boot/grub2/grubenv` | the same on RHEL 8, whose entries say `$kernelopts` |
//! | `/etc/kernel/cmdline` | whoever installs the next kernel |
//! | initramfs-tools' `conf.d/resume` | the initramfs, which wakes a hibernated system |

use super::{
    assignments::Assignments,
    network,
    table::{Named, named},
    texts, with_suffix,
};
use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
    tree::Tree,
};

const DEFAULT_GRUB: &str = "/etc/default/grub";
const GRUB_ENVIRONMENTS: [&str; 2] = ["/boot/grub2/grubenv", "/boot/grub/grubenv"];
/// grub refuses an environment of another length, and fills what is left with `#`.
const GRUB_ENVIRONMENT_LEN: usize = 1024;

/// The last one becomes `/dev/console`. EC2 shows what is written to the first serial line.
const CONSOLES: [&str; 2] = ["console=tty0", "console=ttyS0,115200n8"];
/// Those of Xen's own drivers, which are absent on the instance.
const FOREIGN_CONSOLES: [&str; 2] = ["console=hvc0", "console=xvc0"];
/// The first interface is `eth0` on every machine.
const KERNEL_NAMES: [&str; 2] = ["net.ifnames=0", "biosdevname=0"];
const WHY: &str = "the instance has a serial console, and other names of disks and interfaces";

pub fn edit(editor: &mut Editor, plan: &Plan) -> Result<(), EditError> {
    let wanted = wanted(editor.tree())?;
    let convert = |line: &str| convert(line, &wanted, plan);
    edit_default_grub(editor, &convert, &|line| convert_disks(line, plan))?;
    for (path, text) in texts(editor.tree(), "/boot/loader/entries", with_suffix(".conf"))? {
        editor.write(&path, convert_entry(&text, &convert).as_bytes(), WHY)?;
    }
    for path in GRUB_ENVIRONMENTS {
        edit_grub_environment(editor, path, &convert)?;
    }
    editor.amend("/etc/kernel/cmdline", WHY, |text| {
        let (line, end) = text.strip_suffix('\n').map_or((text, ""), |line| (line, "\n"));
        convert(line) + end
    })?;
    edit_resume(editor, plan)
}

fn wanted(tree: &Tree) -> Result<Vec<&'static str>, EditError> {
    let mut wanted = CONSOLES.to_vec();
    if network::goes_by_names(tree)? {
        wanted.extend(KERNEL_NAMES);
    }
    Ok(wanted)
}

/// A command line with disks by what is on them, and without consoles that are absent.
fn convert_disks(line: &str, plan: &Plan) -> String {
    let parameters = line
        .split_whitespace()
        .filter(|parameter| !is_foreign_console(parameter))
        .filter_map(|parameter| remap(parameter, plan));
    joined(line, &parameters.collect::<Vec<_>>())
}

/// The same, with the parameters that are wanted.
fn convert(line: &str, wanted: &[&str], plan: &Plan) -> String {
    let mut parameters: Vec<String> = convert_disks(line, plan)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    for parameter in wanted {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let same = |found: &String| {
            let Some((found_key, found)) = found.split_once('=') else {
                return false;
            };
            // A console may be there at another speed. Any other parameter has one value.
            found_key == key && (key != "console" || found.split(',').next() == value.split(',').next())
        };
        if key == "console" {
            if !parameters.iter().any(same) {
                parameters.push((*parameter).to_owned());
            }
        } else if !parameters.iter().any(|found| found == parameter) {
            parameters.retain(|found| !same(found));
            parameters.push((*parameter).to_owned());
        }
    }
    joined(line, &parameters)
}

/// What did not change keeps its spaces.
fn joined(line: &str, parameters: &[String]) -> String {
    if parameters.iter().map(String::as_str).eq(line.split_whitespace()) {
        line.to_owned()
    } else {
        parameters.join(" ")
    }
}

fn is_foreign_console(parameter: &str) -> bool {
    FOREIGN_CONSOLES
        .iter()
        .any(|console| parameter.split(',').next() == Some(*console))
}

/// `None`: a parameter that names a disk which is not there, and would have the kernel wait for it.
fn remap(parameter: &str, plan: &Plan) -> Option<String> {
    let kept = Some(parameter.to_owned());
    let Some((key @ ("root" | "resume"), device)) = parameter.split_once('=') else {
        return kept;
    };
    match named(device, plan) {
        Named::Here(device) => device.stable_name().map(|name| format!("{key}={name}")).or(kept),
        Named::Absent if key == "resume" => None,
        Named::Absent | Named::Stable => kept,
    }
}

/// The command line of `grub-mkconfig`. What Debian's `grub.d` sets comes after, so it is amended as well.
fn edit_default_grub(
    editor: &mut Editor,
    convert: &impl Fn(&str) -> String,
    convert_disks: &impl Fn(&str) -> String,
) -> Result<(), EditError> {
    const EVERY_START: &str = "GRUB_CMDLINE_LINUX";
    const NORMAL_STARTS: &str = "GRUB_CMDLINE_LINUX_DEFAULT";
    // Has the menu name the root by what the kernel calls it.
    const BY_DEVICE_NAME: &str = "GRUB_DISABLE_LINUX_UUID";
    let drop_ins = texts(editor.tree(), "/etc/default/grub.d", with_suffix(".cfg"))?;
    let drop_ins = drop_ins.into_iter().map(|(path, _)| path);
    for path in [DEFAULT_GRUB.to_owned()].into_iter().chain(drop_ins) {
        editor.amend(&path, WHY, |text| {
            let mut file = Assignments::parse(text);
            let line = file.get(EVERY_START).map(str::to_owned);
            // What is written over several lines is left to the shell.
            let unread = || {
                if text.contains("GRUB_CMDLINE_LINUX=") {
                    "$GRUB_CMDLINE_LINUX"
                } else {
                    ""
                }
            };
            if line.is_some() || path == DEFAULT_GRUB {
                file.set(EVERY_START, &convert(line.as_deref().unwrap_or_else(unread)));
            }
            if let Some(line) = file.get(NORMAL_STARTS).map(str::to_owned) {
                file.set(NORMAL_STARTS, &convert_disks(&line));
            }
            if file.get(BY_DEVICE_NAME) == Some("true") {
                file.set(BY_DEVICE_NAME, "false");
            }
            file.text_or(text)
        })?;
    }
    Ok(())
}

/// An entry of the boot loader specification. One that says `$kernelopts` has its parameters in grub's environment.
fn convert_entry(text: &str, convert: &impl Fn(&str) -> String) -> String {
    let line = |line: &str| {
        let content = line.trim_end_matches('\n');
        match content
            .strip_prefix("options")
            .filter(|rest| rest.starts_with([' ', '\t']))
        {
            Some(rest) if !rest.contains("$kernelopts") => {
                let parameters = rest.trim_start();
                let space = &rest[..rest.len() - parameters.len()];
                let end = &line[content.len()..];
                format!("options{space}{}{end}", convert(parameters))
            }
            _ => line.to_owned(),
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

fn edit_grub_environment(
    editor: &mut Editor,
    path: &str,
    convert: &impl Fn(&str) -> String,
) -> Result<(), EditError> {
    let Some(text) = editor.tree().read_text(path)? else {
        return Ok(());
    };
    let line = |line: &str| match line.trim_end_matches('\n').strip_prefix("kernelopts=") {
        Some(parameters) => format!("kernelopts={}\n", convert(parameters)),
        None => line.to_owned(),
    };
    let variables = text.trim_end_matches(['#', '\n']).to_owned() + "\n";
    let mut converted: String = variables.split_inclusive('\n').map(line).collect();
    if converted == variables {
        return Ok(());
    }
    if converted.len() > GRUB_ENVIRONMENT_LEN {
        return Err(EditError::NotUnderstood {
            path: path.to_owned(),
            problem: format!(
                "{} bytes do not fit into grub's {GRUB_ENVIRONMENT_LEN}",
                converted.len()
            ),
        });
    }
    converted.extend(std::iter::repeat_n('#', GRUB_ENVIRONMENT_LEN - converted.len()));
    editor.write(path, converted.as_bytes(), WHY)
}

fn edit_resume(editor: &mut Editor, plan: &Plan) -> Result<(), EditError> {
    editor.amend(
        "/etc/initramfs-tools/conf.d/resume",
        "the disk of hibernation has another name on the instance, or is not there",
        |text| {
            let mut file = Assignments::parse(text);
            let Some(device) = file.get("RESUME").map(str::to_owned) else {
                return text.to_owned();
            };
            match named(&device, plan) {
                Named::Here(device) => {
                    if let Some(name) = device.stable_name() {
                        file.set("RESUME", &name);
                    }
                }
                Named::Absent => file.set("RESUME", "none"),
                Named::Stable => {}
            }
            file.text_or(text)
        },
    )
}
