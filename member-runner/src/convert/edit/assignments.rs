//! Files of shell assignments, `KEY="value"`, as /etc/default/grub and ifcfg files are. Lines that are not touched
//! stay as they are.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignments {
    lines: Vec<String>,
}

impl Assignments {
    pub fn parse(text: &str) -> Self {
        Self {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// The text that this was parsed from, where nothing changed, as the last line may have no end.
    pub fn text_or(&self, parsed: &str) -> String {
        if *self == Self::parse(parsed) {
            parsed.to_owned()
        } else {
            self.text()
        }
    }

    /// The value without its quotes. The last assignment counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().rev().find_map(|line| {
            let (found, value) = split(line)?;
            (found == key).then(|| unquoted(value))
        })
    }

    /// Sets a key in place, or at the end. What changes nothing keeps its quotes.
    pub fn set(&mut self, key: &str, value: &str) {
        if self.get(key) == Some(value) {
            return;
        }
        let found = |line: &String| split(line).is_some_and(|(found, _)| found == key);
        match self.lines.iter_mut().rev().find(|line| found(line)) {
            Some(line) => {
                // What stands in single quotes may have double ones in it.
                let is_plain = value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.:=".contains(c));
                let quote = match line.trim_end().chars().next_back() {
                    Some('\'') => "'",
                    Some('"') => "\"",
                    _ if is_plain => "",
                    _ => "\"",
                };
                *line = format!("{key}={quote}{value}{quote}");
            }
            None => self.lines.push(format!("{key}=\"{value}\"")),
        }
    }

    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.lines
            .retain(|line| !split(line).is_some_and(|(key, _)| unwanted(key)));
    }
}

/// `None` for what is no assignment, or one that goes on in the next line.
fn split(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim().split_once('=')?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_whole = unquoted(value) != value || !value.starts_with(['"', '\'']);
    (is_key && is_whole).then_some((key, value))
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_changes() {
        let text = "# a comment\n\nA='one two'\nB=3\nif true; then\n";
        let mut file = Assignments::parse(text);
        assert_eq!(file.get("A"), Some("one two"));
        file.set("A", "one two");
        assert_eq!(file.text(), text);
        file.set("B", "4");
        file.set("C", "5");
        file.remove(|key| key == "A");
        assert_eq!(file.text(), "# a comment\n\nB=4\nif true; then\nC=\"5\"\n");
    }
}
