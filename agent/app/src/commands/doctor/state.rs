//! State folder, clock, enrolment.

use super::report::Check;
use crate::{
    failure::chain,
    identity::{Identity, IdentityError},
};
use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

const FREE_BYTES_LITTLE: u64 = 256 << 20;
const FREE_BYTES_NONE: u64 = 16 << 20;
/// A certificate that ends sooner is told about.
const EXPIRY_SOON: Duration = Duration::days(30);
/// No agent of this version ran before.
const CLOCK_MIN: OffsetDateTime = datetime!(2025-01-01 0:00 UTC);
const CLOCK_MAX: OffsetDateTime = datetime!(2100-01-01 0:00 UTC);

/// Checks what the agent keeps, at the time given.
pub(super) fn checks(state_dir: &Path, now: OffsetDateTime) -> Vec<Check> {
    let identity = Identity::load(state_dir);
    let mut checks = vec![folder(state_dir), free_space(state_dir), clock(now, identity.as_ref().ok())];
    checks.push(enrolment(identity, now));
    checks
}

fn folder(dir: &Path) -> Check {
    const NAME: &str = "state folder";
    let shown = dir.display();
    let mode = match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => metadata.permissions().mode() & 0o7777,
        Ok(_) => {
            return Check::fail(NAME, format!("{shown} is not a folder")).hint("--state-dir names another");
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Check::warn(NAME, format!("{shown} does not exist yet"))
                .hint("`enroll` and `serve` make it, where they may");
        }
        Err(e) => return Check::fail(NAME, format!("{shown}: {e}")).hint("run this as the agent's user"),
    };
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Check::fail(NAME, format!("{shown} can be written by every user (mode {mode:o})"))
            .hint(format!("chmod o-w {shown}"));
    }
    // Whether files can be made in it shows only when one is; the unnamed one is gone at once.
    match tempfile::tempfile_in(dir) {
        Ok(_) => Check::ok(NAME, format!("{shown}, mode {mode:o}")),
        Err(e) => Check::fail(NAME, format!("{shown} cannot be written: {e}"))
            .hint("give the folder to the agent's user, or run this as that user"),
    }
}

fn free_space(dir: &Path) -> Check {
    const NAME: &str = "disk";
    // The folder may not exist yet: then that above it decides.
    let there = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("."));
    match fs2::available_space(there) {
        Ok(bytes) => judge_space(bytes, there),
        Err(e) => Check::warn(NAME, format!("{}: {e}", there.display())),
    }
}

fn judge_space(bytes: u64, dir: &Path) -> Check {
    const NAME: &str = "disk";
    let detail = format!("{} MiB free in {}", bytes >> 20, dir.display());
    match bytes {
        0..FREE_BYTES_NONE => Check::fail(NAME, detail).hint("make room: neither updates nor telemetry fit"),
        FREE_BYTES_NONE..FREE_BYTES_LITTLE => Check::warn(NAME, detail).hint("an update may not fit"),
        _ => Check::ok(NAME, detail),
    }
}

fn clock(now: OffsetDateTime, identity: Option<&Option<Identity>>) -> Check {
    const NAME: &str = "clock";
    const HINT: &str = "set the clock (NTP): certificates and signed metadata are refused at a wrong time";
    let shown = date(now);
    if now < CLOCK_MIN || now >= CLOCK_MAX {
        return Check::fail(NAME, format!("{shown} cannot be right")).hint(HINT);
    }
    match identity {
        Some(Some(identity)) if now < identity.info.not_before => {
            let detail = format!("{shown} is before the enrolment ({})", date(identity.info.not_before));
            Check::fail(NAME, detail).hint(HINT)
        }
        _ => Check::ok(NAME, shown),
    }
}

fn enrolment(identity: Result<Option<Identity>, IdentityError>, now: OffsetDateTime) -> Check {
    const NAME: &str = "enrolment";
    match identity {
        Ok(None) => Check::ok(NAME, "none: models come from --model only")
            .hint("`whimbrel-agent enroll` joins a fleet"),
        Err(error) => Check::fail(NAME, chain(&error)).hint(IdentityError::HINT),
        Ok(Some(identity)) => {
            let (who, end) = (&identity.membership, identity.info.not_after);
            let detail =
                format!("{} in tenant {} at {}, until {}", who.device, who.tenant, who.server, date(end));
            let hint = "enrol again with `whimbrel-agent enroll --force` and a new token";
            if let Err(error) = identity.tls_config() {
                return Check::fail(NAME, chain(&error)).hint(hint);
            }
            match end - now {
                left if left <= Duration::ZERO => {
                    Check::fail(NAME, format!("{detail}: the certificate has ended")).hint(hint)
                }
                left if left < EXPIRY_SOON => {
                    Check::warn(NAME, format!("{detail}: {} days left", left.whole_days())).hint(hint)
                }
                _ => Check::ok(NAME, detail),
            }
        }
    }
}

fn date(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::doctor::report::Status,
        identity::{Credentials, Membership, save},
        testing::Ca,
    };

    fn enrolled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        let ca = Ca::new("fleet");
        let device = ca.device("cam-1", "acme");
        let membership = Membership {
            device: "cam-1".parse().expect("valid"),
            tenant: "acme".parse().expect("valid"),
            server: "https://fleet:8443".parse().expect("valid"),
            mqtt_port: 8883,
        };
        let (key_pem, certificate_pem) = (&*device.key_pem, &*device.certificate_pem);
        save(dir.path(), &membership, &Credentials { key_pem, certificate_pem, ca_pem: &ca.pem() })
            .expect("saves");
        dir
    }

    #[test]
    fn space_and_clock_are_judged_by_what_they_are_needed_for() {
        let dir = Path::new("/");
        let status = |bytes| judge_space(bytes, dir).status;
        assert_eq!(
            [status(1 << 20), status(100 << 20), status(1 << 40)],
            [Status::Fail, Status::Warn, Status::Ok]
        );
        assert_eq!(clock(datetime!(1970-01-01 0:00 UTC), None).status, Status::Fail);
        assert_eq!(clock(datetime!(2026-01-01 0:00 UTC), None).status, Status::Ok);
    }

    #[test]
    fn a_certificate_is_told_about_before_and_after_its_end() {
        let dir = enrolled();
        let load = || Identity::load(dir.path()).expect("loads");
        let end = load().expect("enrolled").info.not_after;
        let status = |now| enrolment(Ok(load()), now).status;
        assert_eq!(status(end - Duration::days(31)), Status::Ok);
        assert_eq!(status(end - Duration::days(1)), Status::Warn);
        assert_eq!(status(end), Status::Fail);
        let before = load().expect("enrolled").info.not_before - Duration::seconds(1);
        // The test certificates begin long ago, so that another rule may refuse the time first.
        assert_eq!(clock(before, Some(&load())).status, Status::Fail);
    }

    #[test]
    fn folders_that_others_write_or_that_are_none_fail() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(folder(dir.path()).status, Status::Ok);
        assert_eq!(folder(&dir.path().join("absent")).status, Status::Warn);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("sets");
        assert_eq!(folder(dir.path()).status, Status::Fail);
        let file = dir.path().join("file");
        fs::write(&file, b"").expect("writes");
        assert_eq!(folder(&file).status, Status::Fail);
    }

    #[test]
    fn a_key_that_others_can_read_fails() {
        let dir = enrolled();
        let key = dir.path().join("identity/key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("sets");
        let check = enrolment(Identity::load(dir.path()), OffsetDateTime::now_utc());
        assert_eq!(check.status, Status::Fail);
        assert!(check.detail.contains("640"), "{}", check.detail);
    }
}
