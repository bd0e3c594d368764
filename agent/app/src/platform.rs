//! What this machine is.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
};
use whimbrel_wire::report::Platform;

/// The longest text that a report may carry as the board's name.
const BOARD_BYTES_MAX: usize = 255;

/// Describes the machine, as far as it lets itself be described.
pub(crate) fn platform() -> Platform {
    Platform {
        arch: std::env::consts::ARCH.to_owned(),
        board: board(),
        cores: available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(1),
        memory_bytes: meminfo_bytes("MemTotal:").unwrap_or(0),
    }
}

/// The host's name.
pub(crate) fn host_name() -> Option<String> {
    first_line("/proc/sys/kernel/hostname")
}

/// A field of `/proc/meminfo`, e.g. `MemTotal:`.
pub(crate) fn meminfo_bytes(field: &str) -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/meminfo").ok()?, field)
}

/// The memory that this process can have: the machine's, or less where its control groups say so.
pub(crate) fn memory_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| fs::read_to_string(path).ok());
    // `max` where there is none; the first version writes a number beyond any memory instead.
    limits.filter_map(|text| text.trim().parse().ok()).chain(meminfo_bytes("MemTotal:")).min()
}

/// The files that may hold a limit on memory: of each control group and all those around it.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (base, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let inner = Path::new(base).join(group.trim_start_matches('/'));
        let around = inner.ancestors().take_while(|dir| dir.starts_with(base));
        files.extend(around.map(|dir| dir.join(file)));
    }
    files
}

/// The most memory that this process has had.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The memory that this process has now.
pub(crate) fn rss_bytes() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Reads `FIELD   123 kB` among other lines.
fn kib_field(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn board() -> String {
    // A device tree on ARM boards, DMI on PCs.
    ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]
        .into_iter()
        .find_map(first_line)
        .unwrap_or_else(|| "unknown".to_owned())
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let mut end = line.len().min(BOARD_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    (end > 0).then(|| line[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_kib_become_bytes() {
        let text = "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS: 7 kB\n";
        assert_eq!(kib_field(text, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(kib_field(text, "VmPeak:"), None);
        assert_eq!(kib_field("VmHWM: 99999999999999999999 kB", "VmHWM:"), None);
    }

    #[test]
    fn limits_of_memory_are_those_of_all_groups_around() {
        let files = limit_files("4:cpu,memory:/a/b\n3:cpuset:/\n0::/c\nodd\n");
        let files: Vec<&str> = files.iter().filter_map(|file| file.to_str()).collect();
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/c/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected);
        assert!(memory_bytes() <= meminfo_bytes("MemTotal:"));
    }

    #[test]
    fn the_platform_fits_into_a_report() {
        let platform = platform();
        assert!(platform.cores > 0 && !platform.arch.is_empty());
        assert!(platform.board.len() <= BOARD_BYTES_MAX);
    }
}
