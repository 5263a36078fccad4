//! `orglift-hub backup` and `restore`: all that a hub must not lose, in a folder.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::{Dir, home::Home};
use crate::{
    audit,
    changes::Changes,
    store::{Database, Store},
};

/// Beside the database: the authority, without which no machine knows the hub and no sealed secret can be read, and what
/// operators wrote.
const FILES: [&str; 4] = ["ca/ca.pem", "ca/ca-key.pem", "hub.toml", "prices.toml"];
const DATABASE: &str = "hub.db";

#[derive(Debug, Args)]
pub(super) struct Backup {
    #[command(flatten)]
    home: Home,
    /// A folder that does not exist yet. It will hold keys: keep it as safe as the hub itself.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// What `backup` made.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    #[command(flatten)]
    dir: Dir,
}

pub(super) async fn backup(Backup { home, to }: Backup) -> anyhow::Result<()> {
    let Database::File(from) = home.database()? else {
        bail!(
            "the records are in PostgreSQL: back them up by pg_dump or by archiving its log, and keep the folder {} \
             with them",
            home.dir.dir.display()
        );
    };
    ensure!(from.exists(), "there is no hub in {}", home.dir.dir.display());
    ensure!(
        !to.exists(),
        "{} is there already: name another folder",
        to.display()
    );
    let draft = to.with_file_name(format!(".{}.partial", name(&to)?));
    if draft.exists() {
        fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
    }
    private_folder(&draft)?;
    let store = home.open_store().await?;
    store
        .copy_to(&draft.join(DATABASE))
        .await
        .context("cannot copy the database")?;
    copy_files(&home.dir.dir, &draft)?;
    let head = check(&draft).await?;
    fs::rename(&draft, &to).with_context(|| format!("cannot make {}", to.display()))?;
    sync(to.parent().unwrap_or(Path::new(".")))?;
    println!("{}: whole; the audit log ends with {head}", to.display());
    Ok(())
}

pub(super) async fn restore(
    Restore {
        from,
        dir: Dir { dir },
    }: Restore,
) -> anyhow::Result<()> {
    ensure!(
        from.join(DATABASE).exists(),
        "{} is no backup of a hub",
        from.display()
    );
    for taken in [DATABASE, "ca"] {
        ensure!(
            !dir.join(taken).exists(),
            "{} holds a hub already: name an empty folder, and put what is there aside if this one is to replace it",
            dir.display()
        );
    }
    private_folder(&dir)?;
    copy_files(&from, &dir)?;
    // Last: without it, the folder holds no hub.
    copy_private(&from.join(DATABASE), &dir.join(DATABASE))?;
    sync(&dir)?;
    let head = check(&dir).await?;
    println!("{}: whole; the audit log ends with {head}", dir.display());
    println!(
        "What came after the backup is unknown to this hub: start it, then run `orglift-hub resources`."
    );
    Ok(())
}

/// Whether a copy can be read to its end. Returns the head of its audit log.
async fn check(dir: &Path) -> anyhow::Result<audit::Head> {
    let store = Store::open(&Database::in_folder(dir), Changes::default())
        .await
        .context("cannot open the copy")?;
    let broken = store.damage().await?;
    ensure!(broken.is_empty(), "the copy is damaged: {}", broken.join("; "));
    let head = audit::verify(&store, None).await?;
    store.close().await;
    head.context("the audit log is not what was written")
}

fn name(folder: &Path) -> anyhow::Result<&str> {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} is not a name for a folder", folder.display()))
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    private_folder(&to.join("ca"))?;
    for file in FILES {
        let source = from.join(file);
        if source.exists() {
            copy_private(&source, &to.join(file))?;
        }
    }
    sync(&to.join("ca"))
}

fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = || -> io::Result<()> {
        let mut source = fs::File::open(from)?;
        let mut target = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)?;
        io::copy(&mut source, &mut target)?;
        target.sync_all()
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn private_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot write {}", folder.display()))
}
