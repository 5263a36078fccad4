//! The audit log: who did what, when, to what, and what came of it.
//!
//! Entries are only ever added. The hash of each covers the one before, so that whoever changes, removes or slips in an
//! entry has to write all later ones anew; and who noted the hash of a late entry elsewhere sees even that. That is why
//! each entry goes to the program's log, too, with its hash.
//!
//! The hash is the SHA-256, in lower-case hexadecimal, of a JSON list in UTF-8 without spaces: the hash of the entry
//! before (the empty text for the first), then sequence, at, actor, address, action, subject, outcome (`done` or `refused`) and detail.

pub mod export;

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{
    auth::Actor,
    entities::audit::Model as Entry,
    secrets::sha256_hex,
    store::{Store, StoreError, audit::AuditSearch},
};

/// Who did something, and from which machine.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub name: &'a str,
    pub address: Option<IpAddr>,
}

/// Whoever has a shell on the hub's machine.
pub const COMMAND_LINE: By<'static> = By {
    name: "command line",
    address: None,
};

impl<'a> From<&'a Actor> for By<'a> {
    fn from(actor: &'a Actor) -> Self {
        Self {
            name: &actor.name,
            address: actor.address,
        }
    }
}

impl<'a> From<&'a str> for By<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, address: None }
    }
}

/// The hash of `entry`, if `before` is that of the one before it.
pub fn hash(before: &str, entry: &Entry) -> String {
    let covered = (
        before,
        entry.sequence,
        entry.at,
        &entry.actor,
        &entry.address,
        &entry.action,
        &entry.subject,
        *entry.outcome,
        &entry.detail,
    );
    let json = serde_json::to_vec(&covered).expect("numbers and texts are JSON");
    sha256_hex(&json)
}

/// An entry by its place and its hash: `1234:9f86d0…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub sequence: i64,
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').and_then(|(sequence, hash)| {
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let sequence = sequence.parse().ok().filter(|sequence| *sequence > 0)?;
            is_hash.then(|| (sequence, hash.to_ascii_lowercase()))
        });
        match parts {
            Some((sequence, hash)) => Ok(Self { sequence, hash }),
            None => {
                Err("a head is the number of an entry and its hash, such as 1234:9f86d081… with 64 digits")
            }
        }
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("entry {0} is not what was written: it, or the hash of one before it, was changed")]
    Changed(i64),
    #[error("entries {from} to {to} are missing")]
    Missing { from: i64, to: i64 },
    #[error("entry {0} comes a second time, or in the wrong place")]
    Misplaced(i64),
    #[error(
        "entry {} has the hash {found}, and not the one that was noted: all entries up to there may have been \
         written anew",
        noted.sequence
    )]
    Rewritten { noted: Head, found: String },
    #[error("the log ends with entry {end}, and entry {noted} was noted: its end was cut off")]
    CutOff { end: i64, noted: i64 },
}

/// Walks along a chain, from its first entry on.
#[derive(Debug, Default)]
pub struct Verifier {
    head: Head,
    noted: Option<Head>,
}

impl Verifier {
    /// `noted`: what somebody wrote down of a late entry, elsewhere.
    pub fn new(noted: Option<Head>) -> Self {
        Self {
            head: Head::default(),
            noted,
        }
    }

    pub fn next(&mut self, entry: &Entry) -> Result<(), Broken> {
        let awaited = self.head.sequence + 1;
        if entry.sequence > awaited {
            return Err(Broken::Missing {
                from: awaited,
                to: entry.sequence - 1,
            });
        }
        if entry.sequence < awaited {
            return Err(Broken::Misplaced(entry.sequence));
        }
        if entry.hash != hash(&self.head.hash, entry) {
            return Err(Broken::Changed(entry.sequence));
        }
        self.head = Head {
            sequence: entry.sequence,
            hash: entry.hash.clone(),
        };
        match &self.noted {
            Some(noted) if noted.sequence == entry.sequence && noted.hash != entry.hash => {
                Err(Broken::Rewritten {
                    noted: noted.clone(),
                    found: entry.hash.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The latest entry, if the chain is whole.
    pub fn end(self) -> Result<Head, Broken> {
        match self.noted {
            Some(noted) if noted.sequence > self.head.sequence => Err(Broken::CutOff {
                end: self.head.sequence,
                noted: noted.sequence,
            }),
            _ => Ok(self.head),
        }
    }
}

/// Entries that are read at a time.
pub const PAGE: u64 = 2000;

/// Walks along the whole log of a store.
pub async fn verify(store: &Store, noted: Option<Head>) -> Result<Result<Head, Broken>, StoreError> {
    let mut verifier = Verifier::new(noted);
    let mut after = 0;
    loop {
        let page = store.audit_after(&AuditSearch::default(), after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(verifier.end());
        };
        after = last.sequence;
        for entry in &page {
            if let Err(broken) = verifier.next(entry) {
                return Ok(Err(broken));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entities::audit::Outcome;

    fn chain(length: i64) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for sequence in 1..=length {
            let mut entry = Entry {
                sequence,
                at: 1_700_000_000_000 + sequence,
                actor: "ann".into(),
                address: "192.0.2.7".into(),
                action: "start a test".into(),
                subject: format!("s-{sequence}"),
                outcome: Outcome::Done.into(),
                detail: String::new(),
                hash: String::new(),
            };
            entry.hash = hash(entries.last().map_or("", |last| &last.hash), &entry);
            entries.push(entry);
        }
        entries
    }

    fn verify(entries: &[Entry], noted: Option<Head>) -> Result<Head, Broken> {
        let mut verifier = Verifier::new(noted);
        for entry in entries {
            verifier.next(entry)?;
        }
        verifier.end()
    }

    fn head(entry: &Entry) -> Head {
        format!("{}:{}", entry.sequence, entry.hash).parse().unwrap()
    }

    /// Auditors compute it, too: it must never change. `printf '%s' '["",1,1700000000001,"ann",…]' | sha256sum`
    #[test]
    fn the_hash_is_of_these_bytes() {
        let entry = &chain(1)[0];
        let json = r#"["",1,1700000000001,"ann","192.0.2.7","start a test","s-1","done",""]"#;
        assert_eq!(entry.hash, sha256_hex(json.as_bytes()));
        assert_eq!(
            entry.hash,
            "c17ef622fd0ce616fb5f24e8f75b3dd6c4bb68ab80921ef3bcf01acdd85d69cb"
        );
    }

    #[test]
    fn a_whole_chain_ends_with_its_head() {
        let entries = chain(5);
        assert_eq!(verify(&[], None), Ok(Head::default()));
        assert_eq!(verify(&entries, None), Ok(head(&entries[4])));
        assert_eq!(verify(&entries, Some(head(&entries[2]))), Ok(head(&entries[4])));
    }

    #[test]
    fn what_was_cut_off_or_written_anew_is_seen_by_a_noted_head() {
        let entries = chain(5);
        let noted = Some(head(&entries[4]));
        assert_eq!(
            verify(&entries[..3], noted.clone()),
            Err(Broken::CutOff { end: 3, noted: 5 })
        );
        let mut anew = chain(4);
        anew.push(Entry {
            actor: "bob".into(),
            ..entries[4].clone()
        });
        anew[4].hash = hash(&anew[3].hash, &anew[4]);
        assert!(matches!(verify(&anew, noted), Err(Broken::Rewritten { .. })));
        assert!(
            verify(&anew, None).is_ok(),
            "of which the chain alone tells nothing"
        );
    }

    proptest! {
        #[test]
        fn no_entry_is_changed_removed_moved_or_added_unnoticed(
            length in 1_i64..20,
            at in any::<prop::sample::Index>(),
            how in 0..11,
        ) {
            let mut entries = chain(length);
            let index = at.index(entries.len());
            let entry = &mut entries[index];
            match how {
                0 => entry.actor.push('x'),
                1 => entry.address.clear(),
                2 => entry.action = "finalize cutover".into(),
                3 => entry.subject.push('1'),
                4 => entry.outcome = Outcome::Refused.into(),
                5 => entry.at += 1,
                6 => entry.hash = "0".repeat(64),
                // A border that was moved between two fields.
                7 => { let first = entry.subject.remove(0); entry.action.push(first); }
                8 => { let twice = entry.clone(); entries.insert(index, twice); }
                9 => entry.detail.push('.'),
                _ => { entries.remove(index); }
            }
            let noted = chain(length).pop().map(|last| head(&last));
            prop_assert!(verify(&entries, noted).is_err());
            if how < 10 || index + 1 < usize::try_from(length).unwrap() {
                prop_assert!(verify(&entries, None).is_err());
            }
        }
    }
}
