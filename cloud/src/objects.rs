//! Objects that outlive the machine that writes them: a bucket, or a folder in its place.
//!
//! What is read may have been written by anybody. Readers know how much they take, and check what they got.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use crate::files::write_whole;

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("cannot {operation} object {key:?}: {detail}")]
    Failed {
        operation: &'static str,
        key: String,
        detail: String,
    },
    #[error("object {key:?} has more than {most} bytes")]
    TooLong { key: String, most: usize },
    #[error("{0:?} is not a key: letters, digits, `.`, `_`, `-` and `/` make one")]
    Key(String),
}

/// Every call is made once: who asks decides whether to ask again.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug {
    /// Takes the place of an object of the same key, at once.
    async fn put(&self, key: &str, contents: Vec<u8>) -> Result<(), ObjectError>;

    /// `None` if there is no such object; an error if it has more than `most` bytes, of which none is kept.
    async fn get(&self, key: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError>;

    /// Keys that begin with `prefix`. Those that are no keys of ours are left out.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError>;

    /// One that is gone is no error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;
}

/// Of this form a key is the same in a path, in a URL and in a signature.
pub(crate) fn checked(key: &str) -> Result<&str, ObjectError> {
    let part = |part: &str| {
        let marks = "._-";
        !part.is_empty()
            && !part.bytes().all(|byte| byte == b'.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
    };
    if key.len() <= 512 && key.split('/').all(part) {
        return Ok(key);
    }
    Err(ObjectError::Key(key.chars().take(64).collect()))
}

/// Objects as files of a folder.
#[derive(Debug)]
pub struct FolderObjects {
    dir: PathBuf,
}

impl FolderObjects {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

#[async_trait]
impl ObjectStore for FolderObjects {
    async fn put(&self, key: &str, contents: Vec<u8>) -> Result<(), ObjectError> {
        let path = self.dir.join(checked(key)?);
        write_whole(&path, &contents).map_err(failed("write", key))
    }

    async fn get(&self, key: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError> {
        use io::Read;
        let mut contents = Vec::new();
        let read = fs::File::open(self.dir.join(checked(key)?))
            .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut contents));
        match read {
            Ok(_) if contents.len() > most => Err(ObjectError::TooLong {
                key: key.to_owned(),
                most,
            }),
            Ok(_) => Ok(Some(contents)),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", key)(error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let mut keys = Vec::new();
        list_into(&mut keys, &self.dir, "").map_err(failed("list", prefix))?;
        keys.retain(|key| key.starts_with(prefix) && checked(key).is_ok());
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match fs::remove_file(self.dir.join(checked(key)?)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", key)(error)),
            _ => Ok(()),
        }
    }
}

fn list_into(keys: &mut Vec<String>, dir: &Path, above: &str) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            list_into(keys, &entry.path(), &format!("{above}{name}/"))?;
        } else {
            keys.push(format!("{above}{name}"));
        }
    }
    Ok(())
}

fn failed(operation: &'static str, key: &str) -> impl FnOnce(io::Error) -> ObjectError {
    let key = key.to_owned();
    move |error| ObjectError::Failed {
        operation,
        key,
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_is_listed_and_read_until_it_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let objects = FolderObjects::new(dir.path().join("objects"));
        assert_eq!(objects.list("").await.unwrap(), Vec::<String>::new());
        objects.put("a/1", b"one".to_vec()).await.unwrap();
        objects.put("a/1", b"once more".to_vec()).await.unwrap();
        objects.put("b/1", b"other".to_vec()).await.unwrap();
        assert_eq!(objects.list("a/").await.unwrap(), ["a/1"]);
        assert_eq!(objects.get("a/1", 9).await.unwrap().unwrap(), b"once more");
        let long = objects.get("a/1", 8).await.unwrap_err();
        assert!(matches!(long, ObjectError::TooLong { most: 8, .. }), "{long}");
        for _ in 0..2 {
            objects.delete("a/1").await.unwrap();
            assert_eq!(objects.get("a/1", 9).await.unwrap(), None);
        }
    }

    #[test]
    fn a_key_is_no_way_out_of_its_place() {
        for key in ["a", "servers/s-1/7", "a.b/c_d-e"] {
            assert!(checked(key).is_ok(), "{key}");
        }
        for key in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "a b",
            "a?b",
            "ä",
            &"a".repeat(513),
        ] {
            assert!(checked(key).is_err(), "{key}");
        }
    }
}
