//! What is at a path, before or after a change.

use std::io::Read;

use domain::{changes::State, digest::Digest};

use crate::convert::{
    diff::{Contents, DIFFED_BYTES_MAX},
    tree::{Kind, Tree, TreeError},
};

/// The longest file that gets a digest. A sparse one could keep us reading for years.
const DIGESTED_BYTES_MAX: u64 = 4 << 30;

#[derive(Debug)]
pub struct Found {
    pub state: State,
    pub contents: Contents,
}

impl Found {
    pub fn file(contents: Vec<u8>) -> Self {
        Self {
            state: State::of(&contents),
            contents: Contents::of(contents),
        }
    }

    /// What has no contents of its own.
    pub fn plain(state: State) -> Self {
        Self {
            state,
            contents: Contents::Nothing,
        }
    }

    pub fn private(self) -> Self {
        let contents = match self.contents {
            Contents::Nothing => Contents::Nothing,
            _ => Contents::Private,
        };
        Self { contents, ..self }
    }
}

/// What is at a path itself: a symbolic link is not followed.
pub fn find(tree: &Tree, path: &str) -> Result<Option<Found>, TreeError> {
    match tree.kind(path)? {
        None => Ok(None),
        Some(Kind::File) => read(tree, path),
        Some(Kind::Folder) => Ok(Some(Found::plain(State::Folder))),
        Some(Kind::Link) => {
            let target = tree.link(path)?.unwrap_or_default();
            Ok(Some(Found::plain(State::Link { target })))
        }
        Some(_) => Ok(Some(Found::plain(State::Special))),
    }
}

/// Long files are digested piece by piece: kernels and initramfs are among what is watched.
fn read(tree: &Tree, path: &str) -> Result<Option<Found>, TreeError> {
    let Some(file) = tree.open_file(path)? else {
        return Ok(None);
    };
    let failed = |source| TreeError::Io {
        verb: "read",
        path: path.to_owned(),
        source,
    };
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > DIGESTED_BYTES_MAX {
        return Err(TreeError::TooLong {
            path: path.to_owned(),
            bytes,
            limit: DIGESTED_BYTES_MAX,
        });
    }
    let mut file = file.take(DIGESTED_BYTES_MAX);
    let mut start = Vec::new();
    (&mut file)
        .take(DIFFED_BYTES_MAX as u64 + 1)
        .read_to_end(&mut start)
        .map_err(failed)?;
    if start.len() <= DIFFED_BYTES_MAX {
        return Ok(Some(Found::file(start)));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&start);
    hasher.update_reader(&mut file).map_err(failed)?;
    Ok(Some(Found {
        state: State::File {
            bytes: hasher.count(),
            digest: Digest(*hasher.finalize().as_bytes()),
        },
        contents: Contents::TooLong,
    }))
}
