//! What this machine's `/proc` and control groups say of a container's first process, where it is the same machine's.
//!
//! containerd may be reached from a container that has process numbers of its own: so a process counts as the
//! container's only if its control group says so.

use std::fs;
use std::path::Path;

use procfs::process::Process;
use serde_json::json;

use super::resources;
use crate::model::Timestamp;
use crate::model::resource::Size;

/// When the process began, up to a second too early, because the kernel tells the time of its boot in whole seconds; but
/// the same each time. `None` if it is not the container's as far as we can see.
pub(super) fn started(pid: u32, id: &str, cgroups_path: Option<&str>) -> Option<Timestamp> {
    let process = Process::new(i32::try_from(pid).ok().filter(|pid| *pid > 0)?).ok()?;
    let groups = process.cgroups().ok()?;
    if !groups.0.iter().any(|group| is_of(&group.pathname, id, cgroups_path)) {
        return None;
    }
    let ticks = process.stat().ok()?.starttime;
    let boot = procfs::boot_time_secs().ok()?;
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(procfs::ticks_per_second().max(1));
    let boot = u128::from(boot) * 1_000_000_000;
    i64::try_from(boot + nanos).ok().map(Timestamp)
}

/// Whether a container's control group has lost a process because its memory was full. The group outlives the process
/// until the task is deleted.
pub(super) fn was_out_of_memory(cgroups_path: Option<&str>) -> bool {
    let Some(path) = cgroups_path.filter(|path| path.starts_with('/') && !path.contains("..")) else {
        return false;
    };
    let (first, second) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
    let files = [
        Path::new(first).join(&path[1..]).join("memory.oom_control"),
        Path::new(second).join(&path[1..]).join("memory.events"),
    ];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| counts_kills(&text))
}

/// The limits that the kernel holds a control group to; `None` where its files cannot be read from here.
pub(super) fn limits_in_force(cgroups_path: Option<&str>) -> Option<Size> {
    let path = cgroups_path.filter(|path| path.starts_with('/') && !path.contains(".."))?;
    let read = |file: &str| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok();
    if let (Some(cpu), Some(memory)) =
        (read(&format!("{}/cpu.max", &path[1..])), read(&format!("{}/memory.max", &path[1..])))
    {
        let (quota, period) = cpu.trim().split_once(' ')?;
        return Some(in_force(quota, period, &memory));
    }
    let quota = read(&format!("cpu{path}/cpu.cfs_quota_us"))?;
    let period = read(&format!("cpu{path}/cpu.cfs_period_us"))?;
    Some(in_force(&quota, &period, &read(&format!("memory{path}/memory.limit_in_bytes"))?))
}

fn in_force(quota: &str, period: &str, memory: &str) -> Size {
    let number = |text: &str| text.trim().parse::<i64>().ok();
    resources::size_of(&json!({ "linux": { "resources": {
        "cpu": { "quota": number(quota), "period": number(period) },
        "memory": { "limit": number(memory) },
    }}}))
}

fn counts_kills(text: &str) -> bool {
    let kills = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
    kills.filter_map(|count| count.trim().parse::<u64>().ok()).any(|count| count > 0)
}

fn is_of(group: &str, id: &str, cgroups_path: Option<&str>) -> bool {
    // systemd's groups are called prefix-name.scope, and its paths are written slice:prefix:name.
    let named = |name: &str| {
        group.split('/').map(|part| part.strip_suffix(".scope").unwrap_or(part)).any(|part| {
            let before = part.strip_suffix(name).filter(|_| !name.is_empty());
            before.is_some_and(|before| before.is_empty() || before.ends_with('-'))
        })
    };
    named(id) || cgroups_path.and_then(|path| path.rsplit([':', '/']).next()).is_some_and(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_another_group_is_not_taken_for_the_container() {
        let pid = std::process::id();
        assert_eq!(started(pid, "no-such-container", None), None);
        assert_eq!(started(0, "a", None), None);
        assert!(is_of("/default/web", "web", None));
        assert!(is_of("/kubepods.slice/cri-containerd-0a1b.scope", "0a1b", None));
        assert!(is_of("/rig/web", "0a1b", Some("/rig/web")));
        assert!(!is_of("/rig/other", "0a1b", Some("/rig/web")));
        assert!(!is_of("/rig/web", "b", Some("/rig/")));
    }

    #[test]
    fn limits_are_read_in_both_kinds_of_words() {
        let half = in_force("50000", "100000\n", "67108864\n");
        assert_eq!((half.vcpus, half.memory_bytes), (Some("0.5".parse().unwrap()), Some(64 << 20)));
        assert_eq!(in_force("max", "100000", "max\n"), Size::default());
        assert_eq!(in_force("-1\n", "100000", "9223372036854771712\n"), Size::default());
    }

    #[test]
    fn kills_are_read_from_both_kinds_of_group() {
        assert!(counts_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert!(counts_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n"));
        assert!(!counts_kills("oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"));
        assert!(!was_out_of_memory(Some("/../etc")));
    }
}
