//! Hooks: programs of the server's owner that bring applications to rest for the last pass of a
//! checkpoint, and set them going again.
//!
//! Each executable in `freeze.d`, in the order of names, is called with the argument `freeze` before the
//! pass, and in reverse order with `thaw` after it. Whoever was asked to freeze is asked to thaw,
//! whatever happens: after an error or a time-out, when the pass is called off, when the agent stops or
//! panics, and, by a mark on disk, when an agent starts after one that was killed.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use domain::ids::SourceServerId;
use rustix::process::{Pid, Signal, kill_process_group};
use tracing::warn;

/// How long one hook may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The hooks of one agent.
#[derive(Debug, Clone)]
pub struct Hooks {
    pub folder: PathBuf,
    /// A file that exists while something may be frozen.
    pub mark: PathBuf,
    pub server: SourceServerId,
    pub time_limit: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("cannot list the hooks in {folder}")]
    List {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mark in {mark} that hooks have frozen applications")]
    Mark {
        mark: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the hook {hook}")]
    Start {
        hook: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the hook {hook} {call} took longer than {} s and was ended", limit.as_secs_f32())]
    TimeOut {
        hook: PathBuf,
        call: &'static str,
        limit: Duration,
    },
    #[error("the hook {hook} {call} failed: {status}")]
    Failed {
        hook: PathBuf,
        call: &'static str,
        status: String,
    },
}

/// What is frozen now, for the panic hook. Of several agents in one process, all are thawed.
static FROZEN: Mutex<Vec<(u64, Hooks, Vec<PathBuf>)>> = Mutex::new(Vec::new());

/// Applications are at rest. Dropping it thaws them.
#[derive(Debug)]
#[must_use = "dropping it thaws at once"]
pub struct Frozen {
    ticket: u64,
}

impl Hooks {
    /// Calls `freeze` on every hook. If one fails, those that were called are thawed before this returns.
    pub fn freeze(&self) -> Result<Frozen, HookError> {
        let hooks = self.list()?;
        let ticket = rand::random();
        if hooks.is_empty() {
            return Ok(Frozen { ticket });
        }
        fs::write(&self.mark, b"").map_err(|source| HookError::Mark {
            mark: self.mark.clone(),
            source,
        })?;
        registry().push((ticket, self.clone(), Vec::new()));
        let frozen = Frozen { ticket };
        for hook in hooks {
            // Before the call: one that fails half-way is asked to thaw, too.
            if let Some((_, _, called)) = registry().iter_mut().find(|entry| entry.0 == ticket) {
                called.push(hook.clone());
            }
            self.call(&hook, "freeze")?;
        }
        Ok(frozen)
    }

    /// Thaws what an agent left frozen that was killed during a pass.
    pub fn thaw_left_over(&self) {
        if !self.mark.exists() {
            return;
        }
        warn!("an earlier agent ended while applications were frozen; thawing them");
        match self.list() {
            Ok(hooks) => self.thaw(&hooks),
            Err(error) => warn!("cannot thaw: {}", crate::cli::chain(&error)),
        }
    }

    /// Whether there are hooks to call.
    pub fn any(&self) -> bool {
        self.list().is_ok_and(|hooks| !hooks.is_empty())
    }

    fn thaw(&self, called: &[PathBuf]) {
        for hook in called.iter().rev() {
            if let Err(error) = self.call(hook, "thaw") {
                warn!("{}", crate::cli::chain(&error));
            }
        }
        if let Err(error) = fs::remove_file(&self.mark) {
            warn!("cannot remove {}: {error}", self.mark.display());
        }
    }

    /// Executable files in the folder, in the order of names. No folder, no hooks.
    fn list(&self) -> Result<Vec<PathBuf>, HookError> {
        let list_failed = |source| HookError::List {
            folder: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(list_failed(error)),
        };
        let mut hooks = Vec::new();
        for entry in entries {
            let path = entry.map_err(list_failed)?.path();
            if is_executable(&path) {
                hooks.push(path);
            }
        }
        hooks.sort();
        Ok(hooks)
    }

    fn call(&self, hook: &Path, call: &'static str) -> Result<(), HookError> {
        let start_failed = |source| HookError::Start {
            hook: hook.to_owned(),
            source,
        };
        let mut child = Command::new(hook)
            .arg(call)
            .env("ORGLIFT_SERVER_ID", self.server.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(start_failed)?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (ended, end) = mpsc::sync_channel(1);
        let waiter = std::thread::spawn(move || {
            // Nobody listens any more only if this thread was given up, which it is not.
            let _listened = ended.send(child.wait());
        });
        let outcome = match end.recv_timeout(self.time_limit) {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(HookError::Failed {
                hook: hook.to_owned(),
                call,
                status: status.to_string(),
            }),
            Ok(Err(source)) => Err(start_failed(source)),
            Err(_) => {
                // It may have ended by itself in this very moment.
                let _killed = group.map(|group| kill_process_group(group, Signal::KILL));
                Err(HookError::TimeOut {
                    hook: hook.to_owned(),
                    call,
                    limit: self.time_limit,
                })
            }
        };
        if waiter.join().is_err() {
            warn!("the thread that waited for {} panicked", hook.display());
        }
        outcome
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let entry = {
            let mut frozen = registry();
            let at = frozen.iter().position(|entry| entry.0 == self.ticket);
            at.map(|at| frozen.remove(at))
        };
        if let Some((_, hooks, called)) = entry {
            hooks.thaw(&called);
        }
    }
}

/// Makes a panic thaw even where it ends the process without unwinding.
pub fn thaw_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Whoever holds the lock is about to thaw, or it is this thread, within a few lines of code that do
        // not panic.
        if let Ok(mut frozen) = FROZEN.try_lock() {
            let entries = std::mem::take(&mut *frozen);
            drop(frozen);
            for (_, hooks, called) in entries {
                hooks.thaw(&called);
            }
        }
        before(info);
    }));
}

fn registry() -> std::sync::MutexGuard<'static, Vec<(u64, Hooks, Vec<PathBuf>)>> {
    FROZEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    struct World {
        folder: tempfile::TempDir,
        hooks: Hooks,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let hooks = Hooks {
                folder: folder.path().join("freeze.d"),
                mark: folder.path().join("frozen"),
                server: SourceServerId::from_entropy(1),
                time_limit: Duration::from_secs(5),
            };
            fs::create_dir(&hooks.folder).unwrap();
            Self { folder, hooks }
        }

        fn hook(&self, name: &str, body: &str) {
            let log = self.folder.path().join("log");
            let script = format!("#!/bin/sh\necho {name} $1 >> {}\n{body}\n", log.display());
            let path = self.hooks.folder.join(name);
            // Written by another process: a descriptor open for writing here could be inherited by a hook that
            // another test starts at this moment, and exec would find the file busy.
            let status = Command::new("sh")
                .args(["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh"])
                .arg(script)
                .arg(&path)
                .status()
                .unwrap();
            assert!(status.success());
        }

        fn log(&self) -> Vec<String> {
            let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn hooks_freeze_in_order_and_thaw_in_reverse() {
        let world = World::new();
        world.hook("20-db", "test -n \"$ORGLIFT_SERVER_ID\"");
        world.hook("10-web", "");
        fs::write(world.hooks.folder.join("README"), "not a hook").unwrap();
        assert!(world.hooks.any());
        let frozen = world.hooks.freeze().unwrap();
        assert_eq!(world.log(), ["10-web freeze", "20-db freeze"]);
        assert!(world.hooks.mark.exists());
        drop(frozen);
        assert_eq!(world.log()[2..], ["20-db thaw", "10-web thaw"]);
        assert!(!world.hooks.mark.exists());
    }

    #[test]
    fn a_failed_freeze_thaws_those_that_were_called_and_no_other() {
        let world = World::new();
        world.hook("1", "");
        world.hook("2", "test $1 = thaw");
        world.hook("3", "");
        let failed = world.hooks.freeze();
        assert!(matches!(failed, Err(HookError::Failed { .. })), "{failed:?}");
        assert_eq!(world.log(), ["1 freeze", "2 freeze", "2 thaw", "1 thaw"]);
    }

    #[test]
    fn a_hook_that_hangs_is_ended_with_its_children() {
        let mut world = World::new();
        world.hooks.time_limit = Duration::from_millis(300);
        world.hook("1", "test $1 = thaw || sleep 30");
        let started = Instant::now();
        let failed = world.hooks.freeze();
        assert!(matches!(failed, Err(HookError::TimeOut { .. })), "{failed:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(world.log(), ["1 freeze", "1 thaw"]);
    }

    #[test]
    fn a_panic_thaws() {
        let world = World::new();
        world.hook("1", "");
        let hooks = world.hooks.clone();
        let thread = std::thread::spawn(move || {
            let _frozen = hooks.freeze().unwrap();
            panic!("in the middle of a pass");
        });
        assert!(thread.join().is_err());
        assert_eq!(world.log(), ["1 freeze", "1 thaw"]);
    }

    #[test]
    fn what_a_killed_agent_left_is_thawed_by_the_next() {
        let world = World::new();
        world.hook("1", "");
        world.hooks.thaw_left_over();
        assert!(world.log().is_empty());
        fs::write(&world.hooks.mark, "").unwrap();
        world.hooks.thaw_left_over();
        assert_eq!(world.log(), ["1 thaw"]);
        assert!(!world.hooks.mark.exists());
    }
}
