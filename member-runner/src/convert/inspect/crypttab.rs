//! crypttab(5): what a guest decrypts when it starts.

use super::table::{BadLine, Field, entries};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrypttabEntry {
    /// Counted from 1.
    pub line: usize,
    /// Below `/dev/mapper`.
    pub name: String,
    /// As in fstab: `UUID=…`, `/dev/sda2`.
    pub device: String,
    /// A file with the key; `None` where somebody is asked for a passphrase.
    pub key: Option<String>,
    pub options: Vec<String>,
}

impl CrypttabEntry {
    /// Whether the guest waits for a person when it starts.
    pub fn asks(&self) -> bool {
        let given = [
            "noauto",
            "nofail",
            "tpm2-device",
            "fido2-device",
            "pkcs11-uri",
            "keyscript",
        ];
        let is_given = |option: &String| {
            let name = option.split('=').next().unwrap_or_default();
            given.contains(&name)
        };
        self.key.is_none() && !self.options.iter().any(is_given)
    }
}

pub fn parse(text: &str) -> (Vec<CrypttabEntry>, Vec<BadLine>) {
    entries(text, entry)
}

fn entry(line: usize, fields: &[Field]) -> Result<CrypttabEntry, &'static str> {
    let [name, device, rest @ ..] = fields else {
        return Err("it has fewer than two fields");
    };
    let key = rest.first().filter(|key| *key != "none" && *key != "-");
    Ok(CrypttabEntry {
        line,
        name: name.clone(),
        device: device.clone(),
        key: key.cloned(),
        options: rest
            .get(1)
            .map_or(Vec::new(), |all| all.split(',').map(str::to_owned).collect()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_gives_the_key_is_told() {
        let text = "# <name> <device> <key> <options>\n\
                    root UUID=1 none luks,discard\n\
                    data\t/dev/sdb1 /etc/keys/data luks\n\
                    sealed UUID=2 - tpm2-device=auto\n\
                    swap /dev/sda3 /dev/urandom swap\n\
                    alone\n";
        let (entries, bad) = parse(text);
        let asks: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.asks()))
            .collect();
        assert_eq!(
            asks,
            [
                ("root", true),
                ("data", false),
                ("sealed", false),
                ("swap", false)
            ]
        );
        assert_eq!(entries[0].options, ["luks", "discard"]);
        assert_eq!(bad, [BadLine::new(6, "it has fewer than two fields")]);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,300}") {
            for entry in parse(&text).0 {
                entry.asks();
            }
        }
    }
}
