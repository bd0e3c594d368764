//! A virtual environment with the packages that tests and benchmarks use as independent peers.

use crate::command::{apt_install, exists, run, target_dir};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Makes the environment `name` with everything in the given requirements files; kept between calls, remade when they change.
/// Returns its Python.
pub(crate) fn environment(name: &str, requirements: &[PathBuf]) -> Result<PathBuf> {
    let mut wanted = String::new();
    for file in requirements {
        wanted += &fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    }
    let dir = target_dir().join("python").join(name);
    let (stamp, python) = (dir.join("requirements.txt"), dir.join("bin/python"));
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) && works(&python) {
        return Ok(python);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    if !exists("python3") || !has_venv() {
        apt_install(&["python3", "python3-venv"])?;
    }
    eprintln!("making the Python environment {}", dir.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    for file in requirements {
        pip.arg("-r").arg(file);
    }
    run(pip.stdin(Stdio::null()))?;
    // Written last: an environment that was cut off in the making is made again.
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(python)
}

fn has_venv() -> bool {
    quiet(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

fn works(python: &Path) -> bool {
    quiet(Command::new(python).arg("--version"))
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
