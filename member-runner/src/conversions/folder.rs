//! What is kept of conversions, below the server's folder:
//!
//! ```text
//! inspection.json                      the last look
//! conversions/<job>/result.json        how it ended; without it, it has not
//! conversions/<job>/change-list.json   signed
//! conversions/<job>/console.txt, screenshot.png
//! conversions/<job>/work/              while it runs
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use domain::{
    conversion::{Conversion, ConversionState, Inspection},
    ids::{JobId, SourceServerId},
};

use protocol::artifacts::{Artifact, SignedChangeList};

use super::Shown;
use crate::{
    files::{self, FileError, context},
    machine::{CONSOLE_FILE, SCREENSHOT_FILE},
    server::{Server, server_dir},
};

const FOLDER: &str = "conversions";
const INSPECTION_FILE: &str = "inspection.json";
const RESULT_FILE: &str = "result.json";
const CHANGES_FILE: &str = "change-list.json";
/// Where a look works.
pub(super) const LOOK_FOLDER: &str = "inspection";

/// The work of one job.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn of(server: &Server, job: &JobId) -> Self {
        Self {
            path: server.dir().join(FOLDER).join(job.as_str()),
        }
    }

    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub fn clear_work(&self) {
        remove_work(&self.work());
    }

    pub fn keep_changes(&self, changes: &SignedChangeList) -> Result<(), FileError> {
        let text = serde_json::to_vec(changes).expect("its keys are text");
        files::replace(&self.path.join(CHANGES_FILE), &text)
    }

    /// What the machine of the rehearsal has shown. Not every one has a screen.
    pub fn keep_pictures(&self) -> Result<(), FileError> {
        for name in [CONSOLE_FILE, SCREENSHOT_FILE] {
            if let Some(contents) = files::read(&self.work().join(name))? {
                files::replace(&self.path.join(name), &contents)?;
            }
        }
        Ok(())
    }

    pub fn keep(&self, result: &ConversionState) -> Result<(), FileError> {
        fs::create_dir_all(&self.path).map_err(context("create", &self.path))?;
        let text = serde_json::to_vec_pretty(result).expect("its keys are text");
        files::replace(&self.path.join(RESULT_FILE), &text)
    }
}

/// What is shown of a server after a start. What cannot be read is made anew.
pub fn load(dir: &Path) -> Result<Shown, FileError> {
    let mut shown = Shown::default();
    if let Some(text) = files::read(&dir.join(INSPECTION_FILE))? {
        shown.inspection = serde_json::from_slice(&text).ok();
    }
    for job in jobs(dir)? {
        let result = files::read(&dir.join(FOLDER).join(job.as_str()).join(RESULT_FILE))?;
        if let Some(state) = result.and_then(|text| serde_json::from_slice(&text).ok()) {
            shown.conversion = Some(Conversion { job, state });
        }
    }
    Ok(shown)
}

pub(super) fn keep_inspection(server: &Server, inspection: &Inspection) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(inspection).expect("its keys are text");
    files::replace(&server.dir().join(INSPECTION_FILE), &text)
}

pub(super) fn remove_all_but(server: &Server, job: Option<&JobId>) -> Result<(), FileError> {
    for other in jobs(server.dir())? {
        if Some(&other) != job {
            let path = server.dir().join(FOLDER).join(other.as_str());
            fs::remove_dir_all(&path).map_err(context("remove", &path))?;
        }
    }
    Ok(())
}

/// A worker's folder that stays is in nobody's way.
pub(super) fn remove_work(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a worker's folder stays");
    }
}

fn jobs(dir: &Path) -> Result<Vec<JobId>, FileError> {
    let folder = dir.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(context("list", &folder)(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names
        .collect::<io::Result<_>>()
        .map_err(context("list", &folder))?;
    // Nobody else writes here.
    Ok(names
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

/// What there is of it; `None` if there is none. `dir` is the runner's folder.
pub fn artifact(
    dir: &Path,
    server: &SourceServerId,
    job: &JobId,
    artifact: Artifact,
) -> Result<Option<Vec<u8>>, FileError> {
    let name = match artifact {
        Artifact::ChangeList => CHANGES_FILE,
        Artifact::Console => CONSOLE_FILE,
        Artifact::Screenshot => SCREENSHOT_FILE,
    };
    files::read(&server_dir(dir, server).join(FOLDER).join(job.as_str()).join(name))
}
