//! `orglift-hub audit`: the log as a file, and whether it is what was written.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::home::Home;
use crate::{
    audit::{self, Broken, Head, Verifier, export},
    store::{Store, audit::AuditSearch},
};

/// The log is not what was written.
const BROKEN: u8 = 5;

/// Longer than any entry that the hub writes.
const LINE_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check that no entry was changed, removed or slipped in, and print the number and the hash of the latest one. Note
    /// it elsewhere, and give it next time: then even a log that was written anew as a whole is noticed. Exits with 0 if
    /// the log is whole, 5 if it is not.
    Verify(Verify),
    /// Print the log, oldest entry first.
    Export {
        #[command(flatten)]
        home: Home,
        /// JSON lines can be verified later, by `audit verify --file`.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: export::Format,
    },
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    home: Home,
    /// What an earlier check printed.
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Option<Head>,
    /// Check an exported file, in JSON lines, instead of the hub's log.
    #[arg(long)]
    file: Option<PathBuf>,
}

pub(super) async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify(Verify { home, head, file }) => {
            let found = match file {
                Some(file) => verify_file(&file, head)?,
                None => audit::verify(&home.open_store().await?, head).await?,
            };
            match found {
                Ok(head) => println!("{head}"),
                Err(broken) => {
                    eprintln!("orglift-hub: the audit log is not what was written: {broken}");
                    return Ok(ExitCode::from(BROKEN));
                }
            }
        }
        AuditCommand::Export { home, format } => print(&home.open_store().await?, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn print(store: &Store, format: export::Format) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let failed = "cannot write the log";
    out.write_all(format.head().as_bytes()).context(failed)?;
    let mut after = 0;
    loop {
        let page = store
            .audit_after(&AuditSearch::default(), after, audit::PAGE)
            .await?;
        let Some(last) = page.last() else {
            return out.flush().context(failed);
        };
        after = last.sequence;
        for entry in &page {
            out.write_all(format.line(entry).as_bytes()).context(failed)?;
        }
    }
}

fn verify_file(path: &Path, noted: Option<Head>) -> anyhow::Result<Result<Head, Broken>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut verifier = Verifier::new(noted);
    for number in 1.. {
        let mut line = String::new();
        let context = || format!("cannot read line {number} of {}", path.display());
        io::Read::take(&mut reader, LINE_MAX)
            .read_line(&mut line)
            .with_context(context)?;
        if line.is_empty() {
            break;
        }
        let Ok(entry) = serde_json::from_str(&line) else {
            bail!(
                "line {number} of {} is not an entry: give a file that `audit export --format jsonl` wrote",
                path.display()
            );
        };
        if let Err(broken) = verifier.next(&entry) {
            return Ok(Err(broken));
        }
    }
    Ok(verifier.end())
}
