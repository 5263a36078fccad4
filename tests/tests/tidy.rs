//! What the compiler does not check: where things may be named, and how long a file may grow.
//!
//! The files are those that git tracks, and new ones that it does not ignore. A test names every place that breaks
//! its rule, so that one run shows the whole work.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A file that needs more has more than one subject.
const SOURCE_LINES: usize = 800;
/// `main` reads the command line and calls the library beside it.
const MAIN_LINES: usize = 60;
/// An overview that is longer is not read.
const GUIDES: [(&str, usize); 2] = [("ARCHITECTURE.md", 250), ("README.md", 200)];

/// Lists what is forbidden, and so has to name it.
const THIS_FILE: &str = "tests/tests/tidy.rs";

const SOURCES: [&str; 7] = ["rs", "html", "css", "js", "mjs", "sql", "sh"];

/// Which crates of ours a crate may name. The lab and the tests may name all.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("identity", &["domain"]),
    ("cloud", &["domain"]),
    ("migrations", &[]),
    ("agent", &["domain", "protocol", "identity"]),
    ("member-runner", &["domain", "protocol", "identity", "cloud"]),
    ("hub", &["domain", "protocol", "identity", "cloud", "migrations"]),
];

/// Crates that are pure: whatever runs, waits or connects belongs to their users.
const PURE: [&str; 2] = ["domain", "protocol"];
const IMPURE: [&str; 6] = ["tokio", "reqwest", "axum", "rustls", "rustix", "chrono"];

#[test]
fn source_files_have_one_subject() {
    let too_long = repository()
        .into_iter()
        .filter(|file| file.is_source() && file.lines() > SOURCE_LINES)
        .map(|file| format!("{}: {} lines, at most {SOURCE_LINES}", file.path, file.lines()));
    assert_none(too_long);
}

#[test]
fn main_only_starts_the_program() {
    let too_long = repository()
        .into_iter()
        .filter(|file| file.path.ends_with("src/main.rs") && file.lines() > MAIN_LINES)
        .map(|file| format!("{}: {} lines, at most {MAIN_LINES}", file.path, file.lines()));
    assert_none(too_long);
}

#[test]
fn guides_stay_short() {
    let files = repository();
    let mut wrong = Vec::new();
    for (name, most) in GUIDES {
        match files.iter().find(|file| file.path == name).map(File::lines) {
            None => wrong.push(format!("{name}: missing")),
            Some(lines) if lines > most => wrong.push(format!("{name}: {lines} lines, at most {most}")),
            Some(_) => {}
        }
    }
    assert_none(wrong);
}

#[test]
fn the_aws_sdk_has_one_home() {
    let in_code = [
        "aws_sdk_",
        "aws_config",
        "aws_smithy_",
        "aws_types",
        "aws_credential_types",
    ];
    let in_manifests = [
        "aws-sdk-",
        "aws-config",
        "aws-smithy-",
        "aws-types",
        "aws-credential-types",
    ];
    let files = repository();
    let code = files
        .iter()
        .filter(|file| file.is("rs") && !file.path.starts_with("cloud/src/aws"));
    let manifests = files
        .iter()
        .filter(|file| file.is_member_manifest() && file.path != "cloud/Cargo.toml");
    assert_none(
        code.flat_map(|file| file.code_with(&in_code))
            .chain(manifests.flat_map(|file| file.code_with(&in_manifests))),
    );
}

#[test]
fn the_database_has_one_home() {
    let homes = ["hub/", "migrations/"];
    let files = repository();
    let elsewhere = files
        .iter()
        .filter(|file| !homes.iter().any(|home| file.path.starts_with(home)));
    assert_none(elsewhere.flat_map(|file| {
        if file.is_member_manifest() {
            file.code_with(&["sea-orm", "sqlx"])
        } else if file.is("rs") {
            file.code_with(&["sea_orm", "sqlx::"])
        } else {
            Vec::new()
        }
    }));
}

#[test]
fn pages_and_the_api_read_only_what_is_in_sight() {
    let files = repository();
    let shown = files.iter().filter(|file| {
        let is_shown = ["hub/src/web/", "hub/src/api/"]
            .iter()
            .any(|folder| file.path.starts_with(folder));
        // Who signs in has no sight yet.
        is_shown && !file.path.contains("tests") && !file.path.ends_with("sign_in.rs")
    });
    let unlimited = shown.flat_map(|file| file.code_with(&["hub.store"]));
    assert_none(unlimited.filter(|line| !line.contains("hub.store.seen_by(")));
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let files = repository();
    let ours: Vec<&str> = MAY_USE
        .iter()
        .map(|(name, _)| *name)
        .chain(["lab", "tests"])
        .collect();
    let mut wrong = Vec::new();
    for (name, may_use) in MAY_USE {
        let path = format!("{name}/Cargo.toml");
        let Some(manifest) = files.iter().find(|file| file.path == path) else {
            wrong.push(format!("{path}: missing"));
            continue;
        };
        for dependency in manifest.dependencies() {
            if ours.contains(&dependency) && !may_use.contains(&dependency) {
                wrong.push(format!("{path}: `{name}` must not know `{dependency}`"));
            }
            if PURE.contains(&name) && IMPURE.contains(&dependency) {
                wrong.push(format!(
                    "{path}: `{name}` is pure, and must not know `{dependency}`"
                ));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn nothing_is_left_undone_or_untested() {
    let words = ["todo!(", "unimplemented!(", "#[ignore"];
    let files = repository();
    assert_none(
        files
            .iter()
            .filter(|file| file.is("rs"))
            .flat_map(|file| file.code_with(&words)),
    );
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let folders = ["work", "root", "Users"].map(|name| format!("/{name}/"));
    let mut wrong = Vec::new();
    for file in repository() {
        for (number, line) in (1..).zip(file.text.lines()) {
            if folders.iter().any(|folder| starts_a_path(line, folder)) {
                wrong.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_none(wrong);
}

/// Whether an absolute path in `line` begins with `folder`; `target/work/` is a relative one.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.~*})>".contains(c))
    })
}

/// A text file of the repository; `path` is relative to its root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }

    /// Whether people write it here: what is minified was written elsewhere.
    fn is_source(&self) -> bool {
        SOURCES.iter().any(|extension| self.is(extension)) && !self.path.contains(".min.")
            || self.text.starts_with("#!")
    }

    /// The manifest at the root lists versions for all members, and is none of them.
    fn is_member_manifest(&self) -> bool {
        self.path.ends_with("/Cargo.toml")
    }

    fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Every line, comments left out, that has one of `words`; as `path:line: text`.
    fn code_with(&self, words: &[&str]) -> Vec<String> {
        if self.path == THIS_FILE {
            return Vec::new();
        }
        let is_code = |line: &str| !line.starts_with("//") && !line.starts_with("# ");
        (1..)
            .zip(self.text.lines().map(str::trim))
            .filter(|(_, line)| is_code(line) && words.iter().any(|word| line.contains(word)))
            .map(|(number, line)| format!("{}:{number}: {line}", self.path))
            .collect()
    }

    /// Names of the crates that a manifest depends on, those of its tests left out.
    fn dependencies(&self) -> Vec<&str> {
        let mut in_dependencies = false;
        let mut names = Vec::new();
        for line in self.text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
            } else if in_dependencies && line.starts_with(|c: char| c.is_alphanumeric()) {
                names.extend(line.split(['.', ' ', '=']).next());
            }
        }
        names
    }
}

/// The text files that git tracks or would track.
fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listing = Command::new("git")
        // A checkout may belong to another user than the one who tests it.
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .expect("git lists the files of the repository");
    assert!(
        listing.status.success(),
        "git: {}",
        String::from_utf8_lossy(&listing.stderr)
    );
    let paths = String::from_utf8(listing.stdout).expect("paths of the repository are UTF-8");
    let files: Vec<File> = paths
        .split_terminator('\0')
        // What is not text, or was deleted and not yet committed, has no lines to check.
        .filter_map(|path| {
            Some(File {
                path: path.to_owned(),
                text: fs::read_to_string(root.join(path)).ok()?,
            })
        })
        .collect();
    assert!(!files.is_empty(), "git lists no file in {}", root.display());
    files
}

fn assert_none(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
