//! What this machine's `/proc` and control groups say of a container's first process, where it is the same machine's.
//!
//! containerd may be reached from a container that has process numbers of its own: so a process counts as the
//! container's only if its control group says so.

use std::fs;
use std::path::Path;

use procfs::process::Process;

use crate::model::Timestamp;

/// When the process began; `None` if it is not the container's as far as we can see.
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

fn counts_kills(text: &str) -> bool {
    let kills = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
    kills.filter_map(|count| count.trim().parse::<u64>().ok()).any(|count| count > 0)
}

fn is_of(group: &str, id: &str, cgroups_path: Option<&str>) -> bool {
    let named = |name: &str| group.split('/').any(|part| part.contains(name));
    // systemd's paths are written slice:prefix:name.
    let path = cgroups_path.map(|path| path.rsplit([':', '/']).next().unwrap_or_default());
    named(id) || path.is_some_and(|name| name.len() > 3 && named(name))
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
    }

    #[test]
    fn kills_are_read_from_both_kinds_of_group() {
        assert!(counts_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert!(counts_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n"));
        assert!(!counts_kills("oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"));
        assert!(!was_out_of_memory(Some("/../etc")));
    }
}
