//! TUF repositories on a plain web server, and the two clients that are compared on them: `whimbrel-update` and python-tuf's.

use crate::process::{Finished, Process, binary, finish, value};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The Python with the packages of the `requirements.txt` beside each script.
///
/// # Panics
/// When the tests are not run by `cargo xtask test`, which makes it.
#[must_use]
pub fn python() -> PathBuf {
    let python = env::var_os("WHIMBREL_PYTHON");
    python.expect("`cargo xtask test` makes the environment and names it here").into()
}

/// A script of `tests/tuf/`.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuf").join(name)
}

/// A folder that Python's web server serves, as any other would, until the value goes.
pub struct Served {
    _server: Process,
    base: String,
}

impl Served {
    /// Serves `dir`; the server's log lies beside it.
    ///
    /// # Panics
    /// When the server does not come up.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let mut command = Command::new(python());
        command.arg(script("serve.py")).arg(dir);
        let server = Process::start(&mut command, dir.with_extension("log"));
        let lines = server.until_ready();
        let base = format!("http://127.0.0.1:{}", value(&lines, "port: "));
        Self { _server: server, base }
    }

    /// The address of a folder in it.
    #[must_use]
    pub fn url(&self, folder: &str) -> String {
        format!("{}/{folder}", self.base)
    }
}

/// Whose client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `whimbrel-update`.
    Ours,
    /// `tuf.ngclient`.
    Python,
}

/// A TUF client with a folder of trust and one of downloads.
pub struct Client {
    kind: Kind,
    dir: PathBuf,
    root: PathBuf,
}

impl Client {
    /// One that begins its trust with the root in the file `root`.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn new(kind: Kind, dir: &Path, root: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder for the client");
        let client = Self { kind, dir: dir.to_owned(), root: root.to_owned() };
        if kind == Kind::Ours {
            let mut init = Command::new(binary("whimbrel-update"));
            init.arg("--metadata-dir").arg(client.trust()).arg("init").arg(root);
            drop(finish(&mut init).ok());
        }
        client
    }

    /// Refreshes, then downloads targets.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn download(&self, metadata_url: &str, targets_url: &str, names: &[&str]) -> Finished {
        let downloads = self.dir.join("downloads");
        let mut command = match self.kind {
            Kind::Ours => Command::new(binary("whimbrel-update")),
            Kind::Python => Command::new(python()),
        };
        match self.kind {
            Kind::Ours => {
                command.arg("--metadata-dir").arg(self.trust()).args(["--metadata-url", metadata_url]);
                command.args(["--target-base-url", targets_url]).arg("--target-dir").arg(downloads);
                for name in names {
                    command.args(["--target-name", name]);
                }
                command.arg(if names.is_empty() { "refresh" } else { "download" });
            }
            Kind::Python => {
                command.arg(script("client.py")).arg(self.trust()).args([metadata_url, targets_url]);
                command.arg(downloads).arg(&self.root).args(names);
            }
        }
        finish(&mut command)
    }

    /// What it downloaded as this target.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn downloaded(&self, name: &str) -> Vec<u8> {
        // Both clients keep a target under its name as one percent-encoded segment.
        let file = self.dir.join("downloads").join(name.replace('/', "%2F").replace(' ', "%20"));
        fs::read(&file).unwrap_or_else(|e| panic!("{:?}: {}: {e}", self.kind, file.display()))
    }

    fn trust(&self) -> PathBuf {
        self.dir.join("trust")
    }
}
