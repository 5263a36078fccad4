//! `orglift-agent check`: whether changes can be tracked on this server, or why its disks would be rescanned.

use std::{fmt::Write as _, path::PathBuf};

use crate::{
    changes::tracker::Tracker,
    disks::{Roots, discover},
};

/// One line for each of the disks at `devices`, or of all physical ones if none is named.
pub fn check(roots: &Roots, devices: &[PathBuf]) -> anyhow::Result<String> {
    let disks = if devices.is_empty() {
        discover::physical(roots)?
    } else {
        discover::named(roots, devices)?
    };
    let tracker = Tracker::start(roots);
    // Watched together, since they share the memory for marks.
    let mut watches = Vec::new();
    let mut text = String::new();
    for disk in disks {
        let name = disk.disk.device_name.clone();
        let outcome = match &tracker {
            Ok(tracker) => tracker.watch(&disk).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let verdict = match &outcome {
            Ok(watch) => format!(
                "changes are tracked, in chunks of {} KiB",
                watch.chunk_len() >> 10
            ),
            Err(why) => format!("changes are found by rescanning: {why}"),
        };
        writeln!(text, "{name}: {verdict}")?;
        watches.extend(outcome);
    }
    if text.is_empty() {
        text.push_str("No disk was found.\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_has_a_line_that_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let images = ["a.raw", "b.raw"].map(|name| folder.path().join(name));
        for image in &images {
            std::fs::write(image, [1; 512]).unwrap();
        }
        let text = check(&Roots::default(), &images).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for (line, image) in text.lines().zip(&images) {
            let expected = format!("{}: changes are found by rescanning: ", image.display());
            assert!(line.starts_with(&expected), "{line}");
        }
        let nothing = crate::disks::fake_tree::FakeTree::new();
        assert_eq!(check(&nothing.roots(), &[]).unwrap(), "No disk was found.\n");
    }
}
