//! One operating system process that may outlive Weir.
//!
//! A process leads its own group, so that whatever it starts can be ended with it, and writes to a file and not to a pipe, so
//! that it goes on when Weir is killed. The next Weir finds it by pid, start time and boot: together they name one process
//! for ever, where a pid alone may be anybody's by then.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};

/// A log longer than this is cut when it is next looked at. The part before is kept in one older file.
const LOG_LIMIT: u64 = 8 << 20;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Added to Weir's own environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where it starts; a relative program path is looked up from here.
    pub(crate) folder: PathBuf,
    /// Where its output is appended.
    pub(crate) log: PathBuf,
}

/// Names one process for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pid: i32,
    /// Clock ticks between boot and start.
    started: u64,
    boot: String,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was ours to wait for.
    Status(ExitStatus),
    /// An earlier Weir had started it, so the system told its status to somebody else.
    Unknown,
}

/// A running process, or one that has just ended.
#[derive(Debug)]
pub(crate) struct Process {
    identity: Identity,
    exit: watch::Receiver<Option<Exit>>,
}

/// Why a process can't be started or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// No command at all.
    #[error("the command is empty")]
    NoCommand,
    /// The system refused to start it.
    #[error("start `{command}` in {}", folder.display())]
    Start {
        /// The program.
        command: String,
        /// Where.
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its log can't be written.
    #[error("open the log {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It vanished, or something else has its pid now.
    #[error("process {0} is gone")]
    Gone(i32),
}

impl ProcessError {
    /// Returns whether starting it once more can't help.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::NoCommand => true,
            Self::Start { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            }
            Self::Log { .. } | Self::Gone(_) => false,
        }
    }
}

impl Identity {
    /// Returns the identity of a process that runs now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        (state != 'Z' && state != 'X').then_some(Self { pid, started, boot })
    }

    /// Returns whether the process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to the whole group, if its leader is still the process that this names.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end between the two lines; then there is nothing left to do.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Process {
    /// Starts a process; `wake` is notified when it ends.
    ///
    /// # Errors
    /// When its log or the program itself can't be opened.
    pub(crate) fn start(launch: &Launch, wake: Arc<Notify>) -> Result<Self, ProcessError> {
        let (program, arguments) = launch.command.split_first().ok_or(ProcessError::NoCommand)?;
        let log_error = |source| ProcessError::Log { path: launch.log.clone(), source };
        let log = OpenOptions::new().create(true).append(true).open(&launch.log).map_err(log_error)?;
        let error_log = log.try_clone().map_err(log_error)?;
        let child = Command::new(program)
            .args(arguments)
            .envs(&launch.environment)
            .current_dir(&launch.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(error_log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(|source| ProcessError::Start {
                command: program.clone(),
                folder: launch.folder.clone(),
                source,
            })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let (tell, exit) = watch::channel(None);
        // A process that has ended before it could be looked at is a zombie that waits for us: its start time is readable.
        let started = stat(pid).map_or(0, |(_, started)| started);
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        tokio::spawn(wait_for_child(child, tell, wake));
        Ok(Self { identity: Identity { pid, started, boot }, exit })
    }

    /// Takes over a process that an earlier Weir started.
    ///
    /// # Errors
    /// When that very process no longer runs.
    pub(crate) fn adopt(identity: Identity, wake: Arc<Notify>) -> Result<Self, ProcessError> {
        let gone = || ProcessError::Gone(identity.pid);
        let pid = Pid::from_raw(identity.pid).ok_or_else(gone)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|_| gone())?;
        // Only now: the handle holds the process that had the pid a moment ago, and this shows which one that was.
        if !identity.is_alive() {
            return Err(gone());
        }
        let (tell, exit) = watch::channel(None);
        tokio::spawn(wait_for_stranger(handle, identity.clone(), tell, wake));
        Ok(Self { identity, exit })
    }

    /// Returns how it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Returns once it has ended.
    pub(crate) async fn ended(&self) {
        let mut exit = self.exit.clone();
        // An error means that the waiting task is gone, and with it the process or this program.
        let _ = exit.wait_for(Option::is_some).await;
    }

    /// Returns what names it.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Sends a signal to it and to whatever it started, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.exit().is_none() {
            self.identity.signal(signal);
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// Cuts a log that grew too long. The process goes on writing to the same file: it appends.
pub(crate) fn bound_log(path: &Path) -> io::Result<()> {
    if fs::metadata(path).map_or(0, |log| log.len()) > LOG_LIMIT {
        fs::copy(path, super::files::sibling(path, ".old"))?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

/// Returns the last line of a log that says anything, shortened.
pub(crate) fn last_words(path: &Path) -> Option<String> {
    let content = fs::read(path).ok()?;
    let tail = String::from_utf8_lossy(&content[content.len().saturating_sub(4096)..]).into_owned();
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(200).collect())
}

/// Returns the pids of processes whose environment was given `marker` (`NAME=value`) at their start.
pub(crate) fn marked(marker: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_marked = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes()))
    };
    pids.filter(is_marked).collect()
}

async fn wait_for_child(mut child: Child, tell: watch::Sender<Option<Exit>>, wake: Arc<Notify>) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let exit = child.wait().await.map_or(Exit::Unknown, Exit::Status);
    end_group(pid);
    tell.send_replace(Some(exit));
    wake.notify_one();
}

async fn wait_for_stranger(handle: OwnedFd, identity: Identity, tell: watch::Sender<Option<Exit>>, wake: Arc<Notify>) {
    // A pidfd becomes readable when its process ends.
    #[allow(deprecated, reason = "unsound for descriptors that are closed elsewhere; this one is owned by what waits")]
    let handle = AsyncFd::new(handle);
    if let Ok(handle) = handle {
        let _ = handle.readable().await;
    }
    end_group(Pid::from_raw(identity.pid));
    tell.send_replace(Some(Exit::Unknown));
    wake.notify_one();
}

/// Ends what a process started and left behind: it holds the port, and nobody else knows of it. A pid is not given to a new
/// process while it names a group, and the leader ended this very moment.
fn end_group(leader: Option<Pid>) {
    if let Some(leader) = leader {
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    }
}

/// Returns the state letter and the start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in brackets and may itself hold any character; fields are counted from the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(folder: &Path, command: &[&str]) -> Launch {
        Launch {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            environment: BTreeMap::from([("WEIR_TEST".to_owned(), folder.display().to_string())]),
            folder: folder.to_owned(),
            log: folder.join("log"),
        }
    }

    #[tokio::test]
    async fn a_process_ends_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start(&launch(folder.path(), &["sh", "-c", "sleep 600 & wait"]), Arc::default()).unwrap();
        let marker = format!("WEIR_TEST={}", folder.path().display());
        while marked(&marker).len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        process.signal(Signal::TERM);
        process.ended().await;
        while !marked(&marker).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_process_is_adopted_only_while_it_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(&launch(folder.path(), &["sleep", "600"]), Arc::default()).unwrap();
        let identity = process.identity().clone();
        let adopted = Process::adopt(identity.clone(), Arc::default()).unwrap();
        let other = Identity { started: identity.started + 1, ..identity.clone() };
        assert!(matches!(Process::adopt(other.clone(), Arc::default()), Err(ProcessError::Gone(_))));
        other.signal(Signal::KILL);
        assert!(identity.is_alive(), "a signal for another process with this pid was sent to it");
        adopted.signal(Signal::KILL);
        adopted.ended().await;
        process.ended().await;
        assert!(!identity.is_alive());
    }

    #[tokio::test]
    async fn a_command_that_does_not_exist_is_a_lasting_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Process::start(&launch(folder.path(), &["no-such-program"]), Arc::default()).unwrap_err();
        assert!(error.is_lasting(), "{error}");
        assert!(error.to_string().contains("no-such-program"));
    }

    #[test]
    fn the_last_words_of_a_log_are_its_last_line_with_text() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "first\nAddress already in use\n\n  \n").unwrap();
        assert_eq!(last_words(&log).as_deref(), Some("Address already in use"));
    }

    #[test]
    fn a_log_is_cut_when_it_is_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, vec![b'x'; LOG_LIMIT as usize + 1]).unwrap();
        bound_log(&log).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(fs::metadata(folder.path().join("log.old")).unwrap().len(), LOG_LIMIT + 1);
    }
}
