//! Which distribution a guest is, by what it says and by the package manager that is there.

use super::guest::Guest;

/// As os-release names it: `debian`, `12`; in its absence as the files before it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    pub id: String,
    pub id_like: Vec<String>,
    pub version: String,
    pub pretty_name: String,
}

/// Decides where things are and which programs make them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Debian,
    RedHat,
    Suse,
    Other,
}

pub fn distribution(guest: &Guest) -> Option<Distribution> {
    ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| of_os_release(&guest.text(path)?))
        .or_else(|| of_release_line(&guest.first_line("/etc/redhat-release")?))
        .or_else(|| of_release_line(&guest.first_line("/etc/SuSE-release")?))
        .or_else(|| {
            let version = guest.first_line("/etc/debian_version")?;
            Some(Distribution {
                id: "debian".into(),
                id_like: Vec::new(),
                pretty_name: format!("Debian GNU/Linux {version}"),
                version,
            })
        })
}

/// By name first: a name of ours is sure, while a Debian may have rpm installed.
pub fn family(guest: &Guest, distribution: Option<&Distribution>) -> Family {
    let by_name = distribution.and_then(|it| {
        std::iter::once(&it.id)
            .chain(&it.id_like)
            .find_map(|name| match name.as_str() {
                "debian" | "ubuntu" => Some(Family::Debian),
                "rhel" | "fedora" | "centos" => Some(Family::RedHat),
                name if name.starts_with("suse")
                    || name.starts_with("opensuse")
                    || name.starts_with("sle") =>
                {
                    Some(Family::Suse)
                }
                _ => None,
            })
    });
    by_name.unwrap_or_else(|| {
        if guest.has("/var/lib/dpkg/status") {
            Family::Debian
        } else if guest.has("/usr/bin/zypper") {
            Family::Suse
        } else if guest.has_folder("/var/lib/rpm") || guest.has_folder("/usr/lib/sysimage/rpm") {
            Family::RedHat
        } else {
            Family::Other
        }
    })
}

/// os-release(5). `None` without an `ID`.
fn of_os_release(text: &str) -> Option<Distribution> {
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (name == key).then(|| unquoted(value))
        });
        // As a shell does that reads the file: the last one counts.
        values.next_back().unwrap_or_default()
    };
    let id = value("ID");
    if id.is_empty() {
        return None;
    }
    Some(Distribution {
        id_like: value("ID_LIKE")
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect(),
        version: value("VERSION_ID"),
        pretty_name: Some(value("PRETTY_NAME"))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| id.clone()),
        id,
    })
}

/// `CentOS release 6.10 (Final)`, `Red Hat Enterprise Linux Server release 7.9 (Maipo)`.
fn of_release_line(line: &str) -> Option<Distribution> {
    let known = [
        ("red hat enterprise", "rhel", "fedora"),
        ("centos", "centos", "rhel"),
        ("oracle", "ol", "rhel"),
        ("rocky", "rocky", "rhel"),
        ("almalinux", "almalinux", "rhel"),
        ("scientific", "scientific", "rhel"),
        ("suse", "sles", "suse"),
        ("opensuse", "opensuse", "suse"),
    ];
    let lower = line.to_lowercase();
    let (_, id, parent) = known.iter().find(|(start, ..)| lower.starts_with(start))?;
    let starts_with_digit = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    Some(Distribution {
        id: (*id).into(),
        id_like: vec![(*parent).into()],
        version: line
            .split_whitespace()
            .find(starts_with_digit)
            .unwrap_or_default()
            .into(),
        pretty_name: line.to_owned(),
    })
}

/// A value of a file that shells read: `"Debian \"12\""`, `'x'`, `x`.
pub fn unquoted(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let text = "# comment\nNAME=x\nID='rocky'\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n\
                    PRETTY_NAME=\"Rocky \\\"9\\\"\"\n";
        let found = of_os_release(text).unwrap();
        assert_eq!(found.id, "rocky");
        assert_eq!(found.id_like, ["rhel", "centos", "fedora"]);
        assert_eq!(found.version, "9.4");
        assert_eq!(found.pretty_name, "Rocky \"9\"");
        assert_eq!(of_os_release("NAME=x\n"), None);
    }

    #[test]
    fn older_files_say_the_same_in_a_sentence() {
        let found = of_release_line("CentOS release 6.10 (Final)").unwrap();
        assert_eq!((found.id.as_str(), found.version.as_str()), ("centos", "6.10"));
        let found = of_release_line("Red Hat Enterprise Linux Server release 7.9 (Maipo)").unwrap();
        assert_eq!((found.id.as_str(), found.version.as_str()), ("rhel", "7.9"));
        assert_eq!(of_release_line("Something else 3"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,400}", line: String) {
            of_os_release(&text);
            of_os_release(&format!("ID={line}\nPRETTY_NAME=\"{line}"));
            of_release_line(&format!("centos {line}"));
            unquoted(&line);
        }
    }
}
