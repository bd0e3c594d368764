//! `cargo xtask dist`: a release archive for one of the boards in `targets/`.

use crate::{
    command::{self, cargo, exists, output, root, target_dir},
    demo::PROGRAMS,
    target::{self, Target},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let dir = root().join("targets");
    let name = match args {
        [] => format!("generic-{}", std::env::consts::ARCH),
        [flag, name] if flag == "--target" => name.clone(),
        _ => {
            eprintln!(
                "error: reading the arguments: expected --target NAME\nhint: {}",
                target::names(&dir)?.join(", ")
            );
            return Ok(ExitCode::from(2));
        }
    };
    let target = Target::read(&dir, &name)?;
    build(&target)?;
    pack(&target)?;
    Ok(ExitCode::SUCCESS)
}

fn build(target: &Target) -> Result<()> {
    let sysroot =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", &target.triple]))?;
    if !Path::new(sysroot.trim()).exists() {
        bail!("the standard library for {0} is not installed: run `rustup target add {0}`", target.triple);
    }
    let mut build = cargo(&["build", "--release", "--target", &target.triple]);
    for package in PROGRAMS {
        build.args(["--package", package]);
    }
    let flag_name = target.triple.replace('-', "_");
    if let Some(linker) =
        target.linker.as_ref().filter(|_| !target.triple.starts_with(std::env::consts::ARCH))
    {
        if !exists(linker) {
            bail!("the linker {linker} is not installed (cross/README.md names the package)");
        }
        build.env(format!("CARGO_TARGET_{}_LINKER", flag_name.to_uppercase()), linker);
        build.env(format!("CC_{flag_name}"), linker);
    }
    build.env(
        format!("CARGO_TARGET_{}_RUSTFLAGS", flag_name.to_uppercase()),
        format!("-Ctarget-cpu={}", target.cpu),
    );
    command::run(&mut build)
}

/// Puts the programs and licences into `dist/whimbrel-VERSION-NAME.tar.gz`, with its SHA-256 beside it, and prints the sizes.
fn pack(target: &Target) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let stem = format!("whimbrel-{version}-{}", target.name);
    let dist = root().join("dist");
    let stage = dist.join(&stem);
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
    }
    fs::create_dir_all(&stage).with_context(|| format!("making {}", stage.display()))?;
    let built = target_dir().join(&target.triple).join("release");
    for program in ["whimbrel-agent", "whimbrel-fleet", "whimbrel"] {
        let bytes = fs::copy(built.join(program), stage.join(program))
            .with_context(|| format!("copying {program} from {}", built.display()))?;
        println!("{program:<16} {bytes:>12} bytes");
    }
    for file in ["LICENSE-MIT", "LICENSE-APACHE", "README.md"] {
        fs::copy(root().join(file), stage.join(file)).with_context(|| format!("copying {file}"))?;
    }
    let archive = format!("{stem}.tar.gz");
    // Fixed order, owner and times: the same programs give the same archive.
    command::run(Command::new("tar").current_dir(&dist).args([
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "-czf",
        &archive,
        &stem,
    ]))?;
    let sum = output(Command::new("sha256sum").current_dir(&dist).arg(&archive))?;
    fs::write(dist.join(format!("{archive}.sha256")), &sum).context("writing the checksum")?;
    print!("{sum}");
    Ok(())
}
