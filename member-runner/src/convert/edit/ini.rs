//! Files of sections and keys, as those of NetworkManager and systemd-networkd. Lines that are not touched stay as
//! they are.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ini {
    sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    /// `None` before the first heading.
    name: Option<String>,
    /// The heading among them.
    lines: Vec<String>,
}

impl Ini {
    pub fn parse(text: &str) -> Self {
        let mut sections = vec![Section {
            name: None,
            lines: Vec::new(),
        }];
        for line in text.lines() {
            if let Some(name) = heading(line) {
                sections.push(Section {
                    name: Some(name.to_owned()),
                    lines: Vec::new(),
                });
            }
            if let Some(last) = sections.last_mut() {
                last.lines.push(line.to_owned());
            }
        }
        Self { sections }
    }

    fn text(&self) -> String {
        self.sections
            .iter()
            .flat_map(|section| &section.lines)
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }

    /// The text that this was parsed from, where nothing changed, as the last line may have no end.
    pub fn text_or(&self, parsed: &str) -> String {
        if *self == Self::parse(parsed) {
            parsed.to_owned()
        } else {
            self.text()
        }
    }

    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.sections
            .iter()
            .filter(|found| found.name.as_deref() == Some(section))
            .flat_map(|found| &found.lines)
            .find_map(|line| entry(line).and_then(|(found, value)| (found == key).then_some(value)))
    }

    /// Sets a key in place, or as the last of its section; the section must be there.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        if self.get(section, key) == Some(value) {
            return;
        }
        self.remove(section, |found| found == key);
        let line = format!("{key}={value}");
        let found = self
            .sections
            .iter_mut()
            .find(|found| found.name.as_deref() == Some(section));
        if let Some(section) = found {
            let end = section
                .lines
                .iter()
                .rposition(|line| !line.trim().is_empty())
                .map_or(0, |at| at + 1);
            section.lines.insert(end, line);
        }
    }

    pub fn remove(&mut self, section: &str, unwanted: impl Fn(&str) -> bool) {
        for found in &mut self.sections {
            if found.name.as_deref() == Some(section) {
                found
                    .lines
                    .retain(|line| !entry(line).is_some_and(|(key, _)| unwanted(key)));
            }
        }
    }

    pub fn remove_section(&mut self, unwanted: &str) {
        self.sections
            .retain(|section| section.name.as_deref() != Some(unwanted));
    }
}

fn heading(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']')
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_changes() {
        let text = "# mine\n[Match]\nName=ens3\n\n[Network]\nDNS=1.1.1.1\nDNS=9.9.9.9\n\n[Route]\nGateway=10.0.0.1\n";
        let mut file = Ini::parse(text);
        assert_eq!(file.text(), text);
        assert_eq!(file.get("Match", "Name"), Some("ens3"));
        file.set("Match", "Name", "ens3");
        assert_eq!(file.text(), text);
        file.set("Match", "Name", "en* eth*");
        file.remove("Network", |key| key == "DNS");
        file.set("Network", "DHCP", "yes");
        file.remove_section("Route");
        assert_eq!(
            file.text(),
            "# mine\n[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n\n"
        );
    }
}
