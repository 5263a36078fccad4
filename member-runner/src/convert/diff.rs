//! What changed in a text, line by line.

use domain::changes::Diff;
use similar::TextDiff;

/// Longer files have a digest and no diff.
pub const DIFFED_BYTES_MAX: usize = 256 << 10;
/// The time that a diff takes grows with the square of the lines that differ, and a guest chooses how many do.
const DIFFED_LINES_MAX: usize = 10_000;

/// What stands before a secret in the files that conversion changes: passphrases in keyfiles and netplan.
const SECRET_KEYS: [&str; 6] = [
    "psk",
    "password",
    "passphrase",
    "secret",
    "private-key",
    "wep-key",
];
const HIDDEN: &str = "(hidden)";

/// What a diff is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// There is no file.
    Nothing,
    Text(String),
    Binary,
    TooLong,
    /// Nobody is to see it.
    Private,
}

impl Contents {
    pub fn of(bytes: Vec<u8>) -> Self {
        if bytes.len() > DIFFED_BYTES_MAX {
            return Self::TooLong;
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.split(['\n', '\r']).count() > DIFFED_LINES_MAX => Self::TooLong,
            Ok(text) if !text.contains('\0') => Self::Text(text),
            _ => Self::Binary,
        }
    }
}

/// `None` where neither side has a line.
pub fn diff(before: &Contents, after: &Contents) -> Option<Diff> {
    let text = |contents: &'_ Contents| match contents {
        Contents::Nothing => Ok(String::new()),
        Contents::Text(text) => Ok(text.clone()),
        Contents::Binary => Err("not text"),
        Contents::TooLong => Err("too long"),
        Contents::Private => Err("private"),
    };
    match (text(before), text(after)) {
        (Ok(old), Ok(new)) if old.is_empty() && new.is_empty() => None,
        (Ok(old), Ok(new)) => {
            let unified = TextDiff::from_lines(&old, &new).unified_diff().to_string();
            Some(Diff::Text {
                unified: unified.split_inclusive(['\n', '\r']).map(hide_secret).collect(),
            })
        }
        (Err(because), _) | (_, Err(because)) => Some(Diff::LeftOut {
            because: because.to_owned(),
        }),
    }
}

/// A line of a diff without the secret in it, as far as its key tells.
fn hide_secret(line: &str) -> String {
    let entry = line.split_once(['=', ':']);
    let is_secret = entry.is_some_and(|(start, value)| {
        let key = start.trim_end().trim_end_matches('"').to_ascii_lowercase();
        SECRET_KEYS.iter().any(|secret| key.ends_with(secret)) && !value.trim().is_empty()
    });
    match entry {
        Some((key, _)) if is_secret => format!("{key}{}{HIDDEN}\n", &line[key.len()..=key.len()]),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(before: &str, after: &str) -> String {
        let contents = |text: &str| Contents::of(text.into());
        match diff(&contents(before), &contents(after)) {
            Some(Diff::Text { unified }) => unified,
            other => panic!("no diff: {other:?}"),
        }
    }

    #[test]
    fn a_diff_shows_what_changed_and_three_lines_around() {
        let before = "one\ntwo\nthree\nfour\nfive\nsix\n";
        insta::assert_snapshot!(unified(before, &before.replace("five", "5")), @r"
        @@ -2,5 +2,5 @@
         two
         three
         four
        -five
        +5
         six
        ");
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let before = "[wifi-security]\npsk=correct horse\n\"password\": \"battery\"\nkey-mgmt=wpa-psk\nx=1\n";
        let diff = unified(before, &before.replace("x=1", "x=2"));
        assert!(!diff.contains("horse") && !diff.contains("battery"), "{diff}");
        assert!(
            diff.contains("key-mgmt=wpa-psk") && diff.contains("psk=(hidden)"),
            "{diff}"
        );
    }

    #[test]
    fn what_is_not_text_or_too_long_says_so() {
        let because = |before: &[u8]| match diff(&Contents::of(before.to_vec()), &Contents::Nothing) {
            Some(Diff::LeftOut { because }) => because,
            other => panic!("not left out: {other:?}"),
        };
        assert_eq!(because(b"\x7fELF\0"), "not text");
        assert_eq!(because(&[0xff]), "not text");
        assert_eq!(because(&vec![b'a'; DIFFED_BYTES_MAX + 1]), "too long");
        assert_eq!(because(&b"\n".repeat(DIFFED_LINES_MAX + 1)), "too long");
    }
}
