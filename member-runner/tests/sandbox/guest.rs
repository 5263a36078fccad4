//! A guest made of programs of this machine, with their libraries, in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use member_runner::convert::sandbox::Sandbox;
use tempfile::TempDir;

pub const RUNNER: &str = env!("CARGO_BIN_EXE_orglift-runner");

const PROGRAMS: [&str; 4] = ["sh", "cat", "sleep", "perl"];

pub struct Guest {
    pub root: TempDir,
}

impl Guest {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder is made");
        for folder in ["bin", "boot", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir(root.path().join(folder)).expect("a folder is made");
        }
        let guest = Self { root };
        for program in PROGRAMS {
            let path = Path::new("/usr/bin").join(program);
            fs::copy(&path, guest.path(&format!("/bin/{program}"))).expect("a program is copied");
            for library in libraries(&path) {
                let to = guest.path(&library);
                fs::create_dir_all(to.parent().expect("a library has a folder")).expect("a folder is made");
                fs::copy(&library, to).expect("a library is copied");
            }
        }
        guest
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub fn sandbox(&self) -> Sandbox {
        Sandbox::new(self.root.path(), Path::new(RUNNER))
    }

    /// What a script for the shell says, which must end well.
    pub fn shell(&self, script: &str) -> String {
        said(&self.sandbox(), "/bin/sh", script)
    }

    /// The same for perl, which can call the system in every way.
    pub fn perl(&self, script: &str) -> String {
        said(&self.sandbox(), "/bin/perl", script)
    }
}

fn said(sandbox: &Sandbox, program: &str, script: &str) -> String {
    // Perl takes a script by -e, the shell by -c.
    let option = if program.ends_with("perl") { "-e" } else { "-c" };
    let output = sandbox
        .run(program, &[option, script])
        .unwrap_or_else(|error| panic!("{error}"));
    output.whole().expect("it said little")
}

/// What `ldd` says, in which every absolute path is that of a library.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd runs");
    String::from_utf8(listed.stdout)
        .expect("paths of libraries are UTF-8")
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect()
}
