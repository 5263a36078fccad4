//! YAML as netplan, its installers and cloud-init write it: mappings by indentation. It is changed line by line, so
//! that comments stay. Mappings of interfaces in braces, tabs and aliases are refused rather than guessed at.

use std::ops::Range;

/// A key of a mapping.
#[derive(Debug)]
pub struct Child {
    pub key: String,
    /// With the line of its key.
    pub lines: Range<usize>,
    /// What it holds.
    pub below: Range<usize>,
}

/// The keys of the mapping in a range of lines. An error says which line is beyond us.
pub fn children(lines: &[String], within: Range<usize>) -> Result<Vec<Child>, String> {
    let mut found: Vec<Child> = Vec::new();
    let mut level = None;
    for at in within {
        let Some((indent, text)) = content(&lines[at]) else {
            continue;
        };
        if text.starts_with("---") || text.starts_with("...") {
            continue;
        }
        let refused = || format!("line {} is written in a way that is not understood", at + 1);
        let level = *level.get_or_insert(indent);
        if indent < level || lines[at][..indent].contains('\t') {
            return Err(refused());
        }
        let is_item = text == "-" || text.starts_with("- ");
        if indent > level || is_item && !found.is_empty() {
            if let Some(last) = found.last_mut() {
                last.lines.end = at + 1;
                last.below.end = at + 1;
            }
            continue;
        }
        let (key, value) = text.split_once(':').ok_or_else(refused)?;
        // What is beside a key may be a plain value, but no mapping or reference.
        if value.trim().starts_with(['{', '&', '*', '|', '>']) && value.trim() != "{}" {
            return Err(refused());
        }
        found.push(Child {
            key: key.trim_matches(['"', '\'']).to_owned(),
            lines: at..at + 1,
            below: at + 1..at + 1,
        });
    }
    Ok(found)
}

/// A key with the mapping it holds.
#[derive(Debug)]
pub struct Block {
    lines: Vec<String>,
}

impl Block {
    pub fn new(lines: &[String]) -> Self {
        Self {
            lines: lines.to_vec(),
        }
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// The lines of a key, empty if it is not there.
    pub fn get(&self, key: &str) -> String {
        self.find(key)
            .map_or_else(String::new, |at| self.lines[at].concat())
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(at) = self.find(key) {
            self.lines.drain(at);
        }
    }

    /// Gives a key, in place or as the first, one value, or a mapping of lines `key: value`.
    pub fn set(&mut self, key: &str, values: &[String]) {
        let indent = " ".repeat(self.level());
        let new = match values {
            [value] if !value.contains(": ") => vec![format!("{indent}{key}: {value}\n")],
            _ => {
                let values = values.iter().map(|value| format!("{indent}  {value}\n"));
                [format!("{indent}{key}:\n")].into_iter().chain(values).collect()
            }
        };
        if let Some(header) = self.lines.first_mut() {
            *header = header.replacen("{}", "", 1).trim_end().to_owned() + "\n";
        }
        let at = self.find(key).unwrap_or(1..1);
        self.lines.splice(at, new);
    }

    fn level(&self) -> usize {
        let mut levels = self
            .lines
            .iter()
            .filter_map(|line| content(line).map(|(indent, _)| indent));
        let own = levels.next().unwrap_or_default();
        levels.next().unwrap_or(own + 2)
    }

    fn find(&self, key: &str) -> Option<Range<usize>> {
        let level = self.level();
        let is_key = |line: &String| {
            content(line).is_some_and(|(indent, text)| {
                indent == level && text.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
            })
        };
        let start = 1 + self.lines.iter().skip(1).position(is_key)?;
        let is_below = |line: &&String| match content(line) {
            None => false,
            Some((indent, text)) => indent > level || indent == level && text.starts_with('-'),
        };
        let length = self.lines[start + 1..].iter().take_while(is_below).count();
        Some(start..start + 1 + length)
    }
}

/// Indentation and text; `None` for comments and empty lines.
fn content(line: &str) -> Option<(usize, &str)> {
    let text = line.trim();
    let is_comment = text.is_empty() || text.starts_with('#');
    (!is_comment).then(|| (line.len() - line.trim_start().len(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    #[test]
    fn a_block_changes_in_place() {
        let mut block = Block::new(&lines(
            "  ens3:\n    # fixed\n    addresses:\n    - 10.0.0.5/24\n    routes:\n      - to: default\n        via: 10.0.0.1\n    mtu: 1400\n",
        ));
        assert!(block.get("routes").contains("via"));
        block.remove("routes");
        block.remove("addresses");
        block.set("mtu", &["9000".into()]);
        block.set("match", &["name: \"e*\"".into()]);
        assert_eq!(
            block.into_lines().concat(),
            "  ens3:\n    match:\n      name: \"e*\"\n    # fixed\n    mtu: 9000\n"
        );
    }

    #[test]
    fn an_empty_mapping_is_filled() {
        let mut block = Block::new(&lines("  ens3: {}\n"));
        block.set("dhcp4", &["true".into()]);
        assert_eq!(block.into_lines().concat(), "  ens3:\n    dhcp4: true\n");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "network: {ethernets: {}}\n",
            "a:\n\tb: 1\n",
            "  a: 1\nb: 2\n",
            "just text\n",
        ] {
            let lines = lines(text);
            let found =
                children(&lines, 0..lines.len()).and_then(|found| children(&lines, found[0].below.clone()));
            assert!(found.is_err(), "{text:?}: {found:?}");
        }
    }
}
