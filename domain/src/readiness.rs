//! Boot readiness: what a look at a server's disks found out about booting elsewhere, days before anybody cuts over.
//!
//! A [`Finding`] says what is the matter and what to do about it. Its words quote files of the source server, so
//! that they are bounded and free of control characters however they were made: by a runner, or read from one.

use serde::{Deserialize, Serialize};

/// The longest text or remedy, in characters. A longer one is cut.
pub const TEXT_CHARS_MAX: usize = 600;

/// The longest code, in bytes.
pub const CODE_LEN_MAX: usize = 64;

/// The most findings of an inspection.
pub const FINDINGS_MAX: usize = 64;

/// What a finding means for a launch, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The instance would not boot, could not be reached, or would miss data that was replicated.
    Blocks,
    /// It boots, and something of it may not work.
    Warns,
    /// Conversion takes care of it, and the owner should know.
    Informs,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Warns => "warns",
            Self::Informs => "informs",
        }
    }
}

/// One thing that was found. An inspection has at most one finding with a given code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Told")]
pub struct Finding {
    pub class: Class,
    /// Names the kind of finding, in kebab-case: `grub-legacy`. Another version may know other kinds.
    pub code: String,
    /// What is the matter, with what.
    pub text: String,
    /// What an operator can do about it; `None` where nothing has to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A finding as anybody may send it.
#[derive(Deserialize)]
struct Told {
    class: Class,
    code: String,
    text: String,
    #[serde(default)]
    remedy: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the code of a finding is 1 to {CODE_LEN_MAX} lower-case letters, digits and hyphens")]
pub struct InvalidCode;

impl Finding {
    pub fn blocks(code: &str, text: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self::new(Class::Blocks, code, text.as_ref(), Some(remedy.as_ref()))
    }

    pub fn warns(code: &str, text: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self::new(Class::Warns, code, text.as_ref(), Some(remedy.as_ref()))
    }

    pub fn informs(code: &str, text: impl AsRef<str>) -> Self {
        Self::new(Class::Informs, code, text.as_ref(), None)
    }

    fn new(class: Class, code: &str, text: &str, remedy: Option<&str>) -> Self {
        Self {
            class,
            code: code.to_owned(),
            text: clean(text),
            remedy: remedy.map(clean),
        }
    }
}

impl TryFrom<Told> for Finding {
    type Error = InvalidCode;

    fn try_from(told: Told) -> Result<Self, InvalidCode> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=CODE_LEN_MAX).contains(&told.code.len()) || !told.code.bytes().all(allowed) {
            return Err(InvalidCode);
        }
        Ok(Self::new(
            told.class,
            &told.code,
            &told.text,
            told.remedy.as_deref(),
        ))
    }
}

/// Without control characters, which would let a file of the server write into a terminal or forge a line of a log.
fn clean(text: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut cut: String = text.chars().take(TEXT_CHARS_MAX).map(printable).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}

/// Whether a server would boot as an instance, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Readiness {
    /// No launchable checkpoint was looked at yet.
    NotInspected,
    Ready,
    ReadyWithWarnings,
    Blocked,
}

impl Readiness {
    pub const ALL: [Self; 4] = [
        Self::NotInspected,
        Self::Ready,
        Self::ReadyWithWarnings,
        Self::Blocked,
    ];

    /// `None` where nobody has looked.
    pub fn of(findings: Option<&[Finding]>) -> Self {
        let Some(findings) = findings else {
            return Self::NotInspected;
        };
        match findings.iter().map(|finding| finding.class).min() {
            Some(Class::Blocks) => Self::Blocked,
            Some(Class::Warns) => Self::ReadyWithWarnings,
            Some(Class::Informs) | None => Self::Ready,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::NotInspected => "NOT_INSPECTED",
            Self::Ready => "READY",
            Self::ReadyWithWarnings => "READY_WITH_WARNINGS",
            Self::Blocked => "BLOCKED",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_gravest_finding_decides() {
        let blocks = Finding::blocks("a", "", "");
        let warns = Finding::warns("b", "", "");
        let informs = Finding::informs("c", "");
        assert_eq!(Readiness::of(None), Readiness::NotInspected);
        assert_eq!(Readiness::of(Some(&[])), Readiness::Ready);
        let found = [informs, warns, blocks];
        assert_eq!(Readiness::of(Some(&found[..1])), Readiness::Ready);
        assert_eq!(Readiness::of(Some(&found[..2])), Readiness::ReadyWithWarnings);
        assert_eq!(Readiness::of(Some(&found)), Readiness::Blocked);
    }

    #[test]
    fn findings_are_stored_as_they_are_read() {
        let findings = [
            Finding::blocks(
                "grub-legacy",
                "It boots by GRUB 0.97.",
                "Install GRUB 2 on the server.",
            ),
            Finding::warns(
                "fstab-network-mount",
                "/data is mounted from 10.0.0.7:/data.",
                "Let the target subnet reach it.",
            ),
            Finding::informs("cloud-init-missing", "cloud-init is not installed."),
        ];
        insta::assert_json_snapshot!(findings);
        for finding in findings {
            let stored = serde_json::to_value(&finding).unwrap();
            assert_eq!(stored["class"], finding.class.name());
            assert_eq!(serde_json::from_value::<Finding>(stored).unwrap(), finding);
        }
    }

    #[test]
    fn a_summary_is_stored_under_the_name_that_people_read() {
        for readiness in Readiness::ALL {
            let stored = serde_json::to_value(readiness).unwrap();
            assert_eq!(stored, readiness.name());
        }
    }

    #[test]
    fn a_finding_of_a_stranger_is_cut_and_cleaned() {
        let told = |code: &str, text: &str| {
            serde_json::from_value::<Finding>(serde_json::json!({
                "class": "blocks", "code": code, "text": text,
            }))
        };
        let long = told("x", &"é".repeat(TEXT_CHARS_MAX + 1)).unwrap();
        assert_eq!(long.text.chars().count(), TEXT_CHARS_MAX);
        assert!(long.text.ends_with('…'));
        assert_eq!(told("x", "a\u{1b}[2J\nb").unwrap().text, "a\u{fffd}[2J\u{fffd}b");
        for bad in ["", "Upper", "a b", "a_b", "ä", &"x".repeat(CODE_LEN_MAX + 1)] {
            assert!(told(bad, "").is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_runner_makes_a_hub_reads_unchanged(text: String, remedy: String) {
            let made = Finding::warns("any-code", text, remedy);
            let read: Finding = serde_json::from_value(serde_json::to_value(&made).unwrap()).unwrap();
            prop_assert_eq!(read, made);
        }
    }
}
