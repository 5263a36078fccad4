//! What goes on on a file system while it is replicated.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::Signal;

use crate::place::{Mounted, run, sh};

/// What fio writes, over and over.
const FIO: &str = "fio --name=load --size=4m --bs=4k --ioengine=psync --thread --verify=crc32c --verify_state_save=0 --do_verify=0 \
                   --output=/dev/null";

/// A program that ends with its test.
pub struct Program(Child);

impl Program {
    /// Of the shell, which is to be replaced by it: `exec …`.
    pub fn start(line: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::null()).env("LC_ALL", "C");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        configure(&mut command);
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                Ok(rustix::process::set_parent_process_death_signal(Some(
                    Signal::KILL,
                ))?)
            });
        }
        Self(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It ends now, or when what it writes to is thawed.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// fio writes blocks with checksums, and files come and go.
pub struct Load {
    _fio: Program,
    stop: Arc<AtomicBool>,
    churn: Option<JoinHandle<()>>,
}

impl Load {
    pub fn on(mounted: &Mounted) -> Self {
        let file = mounted.path("data").display().to_string();
        // Every block once, so that each can be verified ever after.
        run(&format!(
            "{FIO} --filename={file} --rw=write --end_fsync=1 && sync -f {file}"
        ));
        let line = format!(
            "exec {FIO} --filename={file} --rw=randwrite --norandommap --randrepeat=0 --time_based --runtime=600 \
             --rate_iops=300 --fsync=16"
        );
        let stop = Arc::new(AtomicBool::new(false));
        let (dir, stopped) = (mounted.dir.clone(), stop.clone());
        Self {
            _fio: Program::start(&line, |_| ()),
            stop,
            churn: Some(std::thread::spawn(move || churn(&dir, &stopped))),
        }
    }

    /// Whether the data of an exported file system, mounted, are what fio wrote.
    pub fn verify(mounted: &Mounted) -> Result<(), String> {
        let file = mounted.path("data").display().to_string();
        let verify = FIO.replace("--do_verify=0", "--verify_fatal=1");
        sh(&format!("{verify} --filename={file} --rw=read --readonly")).map(drop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // After a failure something may be frozen, and is thawed only later.
        if let Some(churn) = self.churn.take().filter(|_| !std::thread::panicking()) {
            churn.join().unwrap();
        }
    }
}

/// Makes, renames, fills and deletes files, some of them while they are open.
fn churn(dir: &Path, stop: &AtomicBool) {
    let mut held: Vec<File> = Vec::new();
    for round in 0_usize.. {
        if stop.load(Relaxed) {
            return;
        }
        let path = dir.join(format!("draft-{}", round % 40));
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![u8::try_from(round % 251).unwrap(); 3000 * (1 + round % 5)])
            .unwrap();
        if round % 4 == 0 {
            file.sync_all().unwrap();
        }
        fs::rename(&path, dir.join(format!("file-{}", round % 30))).unwrap();
        if round % 7 == 0 {
            fs::remove_file(dir.join(format!("file-{}", round % 30))).unwrap();
            held.push(file);
        }
        if held.len() > 5 {
            held.clear();
        }
        pause(Duration::from_millis(5));
    }
}

/// On a thread of its own.
pub fn pause(time: Duration) {
    // Nobody ever sends.
    let (_sender, nothing) = std::sync::mpsc::sync_channel::<()>(0);
    let _timed_out = nothing.recv_timeout(time);
}

/// A database's shell that is fed one transaction after the other, and notes when each was committed.
pub struct Transactions {
    stop: Arc<AtomicBool>,
    committed: Arc<Mutex<Vec<Committed>>>,
    feeder: Option<JoinHandle<()>>,
    _shell: Program,
}

#[derive(Debug, Clone, Copy)]
pub struct Committed {
    pub row: u64,
    /// By the clock on the wall, in milliseconds since 1970: not later than this.
    pub at_ms: i64,
}

impl Transactions {
    /// `shell` is asked to print the number of a row when it was committed: not by the statement that makes it, since
    /// SQLite shows what that returns before it commits.
    pub fn through(shell: &str, statement: impl Fn(u64) -> String + Send + 'static) -> Self {
        let mut shell = Program::start(shell, |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        });
        let (mut input, output) = (shell.0.stdin.take().unwrap(), shell.0.stdout.take().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(Mutex::new(Vec::new()));
        let (stopped, noted) = (stop.clone(), committed.clone());
        let feeder = std::thread::spawn(move || {
            let mut answers = BufReader::new(output).lines();
            for row in 1.. {
                if stopped.load(Relaxed) || writeln!(input, "{}", statement(row)).is_err() {
                    return;
                }
                let Some(Ok(answer)) = answers.next() else { return };
                assert_eq!(answer.trim(), row.to_string());
                let at_ms = chrono::Utc::now().timestamp_millis();
                noted.lock().unwrap().push(Committed { row, at_ms });
                pause(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            committed,
            feeder: Some(feeder),
            _shell: shell,
        }
    }

    /// The last row that must be there at an instant.
    pub fn before(&self, at_ms: i64) -> u64 {
        let committed = self.committed.lock().unwrap();
        let before = committed.iter().rfind(|one| one.at_ms < at_ms);
        before.map_or(0, |one| one.row)
    }

    pub fn count(&self) -> usize {
        self.committed.lock().unwrap().len()
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.feeder.take().unwrap().join().unwrap();
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
