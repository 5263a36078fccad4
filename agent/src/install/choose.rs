//! Asks which disks to replicate.

use std::io::{BufRead, Write};

use anyhow::Context;

use crate::{config::DiskChoice, disks::LocalDisk};

/// Prints `question` and reads a line.
pub fn prompt(question: &str) -> anyhow::Result<String> {
    print!("{question}");
    std::io::stdout()
        .flush()
        .context("cannot write to the terminal")?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read your answer")?;
    Ok(line.trim().to_owned())
}

/// Asks until the answer names disks that there are. An empty answer takes all.
pub fn ask(found: &[LocalDisk]) -> anyhow::Result<(Vec<LocalDisk>, DiskChoice)> {
    let names: Vec<_> = found.iter().map(|disk| disk.disk.device_name.as_str()).collect();
    println!(
        "Choose the disks you want to replicate. Your disks are: {}",
        names.join(",")
    );
    for _ in 0..ATTEMPTS {
        let answer = prompt(
            "To replicate some of the disks, type their paths, separated with a comma (for example, /dev/sda,/dev/sdb). \
             To replicate all disks, press Enter: ",
        )?;
        match select(found, &answer) {
            Ok((indexes, choice)) => {
                let chosen = indexes.into_iter().map(|index| found[index].clone()).collect();
                return Ok((chosen, choice));
            }
            Err(unknown) => println!("{unknown} is not one of your disks."),
        }
    }
    anyhow::bail!("no disks were chosen")
}

const ATTEMPTS: u32 = 3;

/// The chosen disks by their position, each once, or the first name that is unknown.
fn select(found: &[LocalDisk], answer: &str) -> Result<(Vec<usize>, DiskChoice), String> {
    let wanted: Vec<_> = answer
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if wanted.is_empty() {
        return Ok(((0..found.len()).collect(), DiskChoice::All));
    }
    let mut indexes = Vec::new();
    for name in wanted {
        let index = found
            .iter()
            .position(|disk| disk.disk.device_name == name)
            .ok_or_else(|| name.to_owned())?;
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }
    Ok((indexes, DiskChoice::Named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::{discover, fake_tree::FakeTree};

    #[test]
    fn enter_takes_all_and_names_take_some() {
        let tree = FakeTree::new();
        tree.disk("sda", 64, "8:0").disk("sdb", 64, "8:16");
        let found = discover::physical(&tree.roots()).unwrap();
        let second = found[1].disk.device_name.clone();
        assert_eq!(select(&found, "").unwrap(), (vec![0, 1], DiskChoice::All));
        let answer = format!(" {second}, {second},");
        assert_eq!(select(&found, &answer).unwrap(), (vec![1], DiskChoice::Named));
        assert_eq!(select(&found, "/dev/nope").unwrap_err(), "/dev/nope");
    }
}
