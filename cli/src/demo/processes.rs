//! The demo's server and agents: real processes, whose output is kept and which never outlive the demo.

use crate::error::Failure;
use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    sync::watch,
};

/// Lines of standard output that are kept; programs print a handful before they are ready.
const LINES_MAX: usize = 1000;
/// How much of a log is shown with a failure.
const TAIL_BYTES: i64 = 2048;
/// How often, and how far apart, a killed process is looked at before it is left to the system.
const END_POLLS: u32 = 200;
const END_POLL: Duration = Duration::from_millis(10);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Its name in messages and the name of its log file.
    pub(crate) name: String,
    /// The binary.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// The folder for its log.
    pub(crate) logs: PathBuf,
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    started: Instant,
    lines: watch::Receiver<Vec<String>>,
}

impl Program {
    /// Starts it, its standard error appended to its log file.
    ///
    /// # Errors
    /// When the binary or the log cannot be opened.
    pub(crate) fn start(&self) -> Result<Process, Failure> {
        let attempted = || format!("starting {} ({})", self.name, self.path.display());
        let log = self.log();
        let stderr = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| Failure::failed(format!("opening {}", log.display()), e))?;
        let mut command = self.command();
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().map_err(|e| {
            Failure::failed(attempted(), e).hint("build it, or name its folder with --bin-dir")
        })?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::failed(attempted(), "no standard output"))?;
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(collect(stdout, sender));
        Ok(Process { name: self.name.clone(), log, child, started, lines })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time, or does not succeed; with the end of what it wrote.
    pub(crate) async fn finish(&self, within: Duration) -> Result<(), Failure> {
        let attempted = || format!("running {}", self.name);
        let log = self.log();
        let stderr = std::fs::File::create(&log)
            .map_err(|e| Failure::failed(format!("opening {}", log.display()), e))?;
        let mut child = self
            .command()
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|e| Failure::failed(format!("starting {}", self.path.display()), e))?;
        let status = tokio::time::timeout(within, child.wait())
            .await
            .map_err(|_| Failure::failed(attempted(), format!("not done within {} s", within.as_secs())))?
            .map_err(|e| Failure::failed(attempted(), e))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::failed(attempted(), format!("it ended with {status}: {}", tail(&log))))
    }

    fn log(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null()).kill_on_drop(true);
        // Ctrl-C in the terminal is for the demo, which then ends its processes in order.
        command.process_group(0);
        // The demo's processes obey their arguments, not settings that were meant for others.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WHIMBREL_") {
                command.env_remove(&name);
            }
        }
        command
    }
}

impl Process {
    /// Its name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// When it was started.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// Waits for a line of its standard output that begins with `prefix`, and gives what follows.
    ///
    /// # Errors
    /// When the program ends or the time is up before, with the end of its log.
    pub(crate) async fn line(&mut self, prefix: &str, within: Duration) -> Result<String, Failure> {
        let attempted = format!("waiting for {} to print {prefix:?}", self.name);
        let found =
            |lines: &Vec<String>| lines.iter().find_map(|l| l.strip_prefix(prefix)).map(str::to_owned);
        let waited = tokio::time::timeout(within, self.lines.wait_for(|l| found(l).is_some()))
            .await
            .map(|lines| lines.ok().and_then(|lines| found(&lines)));
        let why = match waited {
            Ok(Some(rest)) => return Ok(rest),
            Ok(None) => "the process ended".to_owned(),
            Err(_) => format!("not within {} s", within.as_secs()),
        };
        Err(Failure::failed(attempted, format!("{why}; {}", self.tail())))
    }

    /// Whether it ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    ///
    /// # Errors
    /// When it had ended before.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|e| Failure::failed(format!("killing {}", self.name), e))
    }

    /// The end of its log, on one line, for messages.
    pub(crate) fn tail(&self) -> String {
        format!("log of {}: {}", self.name, tail(&self.log))
    }
}

/// Ended, and seen to have ended, so that its folder can be removed.
impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.start_kill();
        for _ in 0..END_POLLS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(END_POLL);
        }
    }
}

/// Keeps lines as they come, and goes on reading so that the program is never blocked by a full pipe.
async fn collect(stdout: ChildStdout, sender: watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        sender.send_modify(|kept| {
            if kept.len() < LINES_MAX {
                kept.push(line);
            }
        });
    }
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-length.min(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => "empty".to_owned(),
        Ok(text) => text,
        Err(e) => format!("unreadable ({e})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &Path, script: &str) -> Program {
        Program {
            name: "shell".into(),
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            logs: dir.to_owned(),
        }
    }

    #[tokio::test]
    async fn lines_are_found_in_any_order_and_logs_are_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let program = shell(dir.path(), "echo one: 1; echo two: 2; echo broken >&2; exec sleep 600");
        let mut process = program.start().expect("starts");
        assert_eq!(process.line("two: ", Duration::from_secs(60)).await.expect("printed"), "2");
        assert_eq!(process.line("one: ", Duration::from_secs(60)).await.expect("printed"), "1");
        assert!(process.ended().is_none());
        process.kill().await.expect("kills");
        assert!(process.ended().is_some());
    }

    #[tokio::test]
    async fn a_program_that_ends_early_is_reported_with_its_log() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut process = shell(dir.path(), "echo port taken >&2; exit 1").start().expect("starts");
        let failure = process.line("ready", Duration::from_secs(60)).await.expect_err("never ready");
        assert!(failure.why.contains("the process ended") && failure.why.contains("port taken"), "{failure}");
        let failure = shell(dir.path(), "echo no token >&2; exit 4").finish(Duration::from_secs(60)).await;
        assert!(failure.expect_err("failed").why.contains("no token"));
    }

    #[tokio::test]
    async fn an_absent_binary_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut program = shell(dir.path(), "");
        program.path = dir.path().join("whimbrel-absent");
        let failure = program.start().expect_err("absent");
        assert!(failure.to_string().contains("whimbrel-absent"));
        assert!(failure.hint.is_some());
    }
}
