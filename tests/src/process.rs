//! Programs as child processes.

use crate::PATIENCE;
use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// The path of one of the programs.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let dir = env::var_os("WHIMBREL_BIN_DIR").map_or_else(
        || {
            // target/debug/deps/test -> target/debug
            let test = env::current_exe().expect("a test knows its own path");
            test.ancestors().nth(2).expect("a test lies in deps/").to_path_buf()
        },
        PathBuf::from,
    );
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace --bins`", path.display());
    path
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The standard output of a success.
    ///
    /// # Panics
    /// When the program failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "failed\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>) -> Finished {
    finish(Command::new(program).args(args))
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Finished {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
    Finished {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A program that runs until it is told to stop, or until this value goes.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it writes to standard error goes to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = fs::File::create(&log).expect("the log can be created");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, log }
    }

    /// Every line up to and including `ready`.
    ///
    /// # Panics
    /// When the program ends first, or says nothing for long.
    #[must_use]
    pub fn until_ready(&self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => return seen,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("not ready in time: {seen:?}\n{}", self.log()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before it was ready: {seen:?}\n{}", self.log())
                }
            }
        }
    }

    /// The address of its HTTP listener, when it is ready within this time.
    #[must_use]
    pub fn ready_within(&self, time: Duration) -> Option<String> {
        let end = Instant::now() + time;
        let mut http = None;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line == "ready" {
                return http;
            }
            http = line
                .strip_prefix("listening: ")
                .filter(|a| a.starts_with("http://"))
                .map(ToOwned::to_owned)
                .or(http);
        }
        None
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Asks it to end (SIGTERM), waits, and gives its exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|s| s.success()),
            "kill -TERM {pid}"
        );
        crate::eventually("the program to end", || self.child.try_wait().expect("it is our child")).code()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- {}", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The value of the line that starts with `prefix`.
///
/// # Panics
/// When there is none.
pub(crate) fn value<'a>(lines: &'a [String], prefix: &str) -> &'a str {
    lines
        .iter()
        .find_map(|line| line.strip_prefix(prefix))
        .unwrap_or_else(|| panic!("no line starts with {prefix:?}: {lines:?}"))
}
