//! Whether two images hold the same bytes.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::fs::Advice;

const PIECE: usize = 1 << 20;

/// The first byte at which two files differ; the shorter one's length if it is the beginning of the other.
pub fn first_difference(one: &Path, other: &Path) -> anyhow::Result<Option<u64>> {
    let open = |path: &Path| {
        let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // What a kernel swaps out goes past the cached pages of the disk, which would be compared in its stead.
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        anyhow::Ok(file)
    };
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    loop {
        let (filled, matching) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        let common = filled.min(matching);
        if left[..common] != right[..common] {
            let differing = left.iter().zip(&right).position(|(a, b)| a != b);
            return Ok(differing.map(|offset| at + offset as u64));
        }
        if filled != matching {
            return Ok(Some(at + common as u64));
        }
        if filled == 0 {
            return Ok(None);
        }
        at += filled as u64;
    }
}

/// Where targets, in the order of their sources, first differ from them.
pub fn first_difference_of_all(sources: &[PathBuf], targets: &[PathBuf]) -> anyhow::Result<Option<String>> {
    if sources.len() != targets.len() {
        return Ok(Some(format!("{} disks became {}", sources.len(), targets.len())));
    }
    for (source, target) in sources.iter().zip(targets) {
        if let Some(at) = first_difference(source, target)? {
            return Ok(Some(format!("{} differs at byte {at}", target.display())));
        }
    }
    Ok(None)
}

fn fill(file: &mut fs::File, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).context("cannot read an image")? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let mut bytes = vec![3; PIECE + 10];
        let one = file("one", &bytes);
        assert_eq!(first_difference(&one, &file("same", &bytes)).unwrap(), None);
        bytes.push(0);
        let longer = first_difference(&one, &file("longer", &bytes)).unwrap();
        assert_eq!(longer, Some(PIECE as u64 + 10));
        bytes[PIECE + 4] = 4;
        let changed = first_difference(&one, &file("changed", &bytes)).unwrap();
        assert_eq!(changed, Some(PIECE as u64 + 4));
    }
}
