//! Which programs a world runs: the real binaries, or this one under their names.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Hub,
    Runner,
    Agent,
}

#[derive(Debug, Clone)]
pub enum Programs {
    /// `orglift-lab` itself, which holds all of them: `orglift-lab hub serve …`.
    Lab(PathBuf),
    /// A folder with `orglift-hub`, `orglift-runner` and `orglift-agent`.
    Folder(PathBuf),
}

impl Program {
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Hub => "orglift-hub",
            Self::Runner => "orglift-runner",
            Self::Agent => "orglift-agent",
        }
    }

    fn subcommand(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Runner => "runner",
            Self::Agent => "agent",
        }
    }
}

impl Programs {
    /// The program that is running now, which must be `orglift-lab`.
    pub fn this_one() -> anyhow::Result<Self> {
        // Not `current_exe`: its path is gone once a new build replaces the file.
        let own = Path::new("/proc/self/exe");
        Ok(Self::Lab(if own.exists() {
            own.to_owned()
        } else {
            std::env::current_exe().context("cannot find this program's own file")?
        }))
    }

    /// The binaries of [`folder_under_test`].
    pub fn beside_this_test() -> anyhow::Result<Self> {
        let folder = folder_under_test()?;
        for program in [Program::Hub, Program::Runner, Program::Agent] {
            let binary = folder.join(program.binary());
            if !binary.exists() {
                bail!(
                    "{} is missing: build the programs first, `cargo build --workspace --bins`",
                    binary.display()
                );
            }
        }
        Ok(Self::Folder(folder))
    }

    /// A file that is the agent where it bears that name.
    pub fn agent(&self) -> PathBuf {
        match self {
            Self::Lab(lab) => lab.clone(),
            Self::Folder(folder) => folder.join(Program::Agent.binary()),
        }
    }

    /// The program's file and the arguments that come before its own.
    pub(crate) fn command(&self, program: Program) -> (PathBuf, Vec<OsString>) {
        match self {
            Self::Lab(lab) => (lab.clone(), vec![program.subcommand().into()]),
            Self::Folder(folder) => (folder.join(program.binary()), Vec::new()),
        }
    }
}

/// The folder of programs that a test runs: the one that `ORGLIFT_BIN_DIR` names, or that into which they were built with
/// the test, `target/<profile>/`; the test itself is in `target/<profile>/deps/`.
pub fn folder_under_test() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("ORGLIFT_BIN_DIR") {
        return Ok(folder.into());
    }
    let test = std::env::current_exe().context("cannot find this test's own file")?;
    let folder = test
        .ancestors()
        .nth(2)
        .context("this test is in no target folder")?;
    Ok(folder.to_owned())
}
