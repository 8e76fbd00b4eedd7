//! `filesystem`: `statvfs` of the mounted local filesystems.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use procfs::{Current, MountEntry};

use super::{Config, Measured, Moment, float, is_ignored, rows, unreadable};
use crate::model::Identity;

/// Filesystems that hold files on a device of this machine. A positive list, because `statvfs` on a network
/// filesystem whose server is gone blocks for minutes, and pseudo filesystems have no size.
const LOCAL: [&str; 16] = [
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "overlay",
    "reiserfs", "squashfs", "vfat", "xfs", "zfs",
];

#[derive(Debug)]
pub(super) struct Filesystem {
    ignore: Vec<String>,
}

impl Filesystem {
    pub(super) fn new(config: &Config) -> Self {
        Self { ignore: config.ignore_mountpoints.clone() }
    }

    pub(super) fn measure(&mut self, at: Moment, identity: &Identity) -> Measured {
        let mounts = Vec::<MountEntry>::current().map_err(|e| unreadable("/proc/mounts", e))?;
        let mut batch = rows("filesystem", identity)?;
        let mut seen = HashSet::new();
        for mount in mounts {
            if !LOCAL.contains(&mount.fs_vfstype.as_str()) || is_ignored(&self.ignore, &mount.fs_file) {
                continue;
            }
            // Bind mounts show one filesystem many times; the first mount stands for it. What this process may
            // not look at is left out, like `df` leaves it out.
            let Ok(root) = std::fs::metadata(&mount.fs_file) else { continue };
            let Ok(space) = rustix::fs::statvfs(mount.fs_file.as_str()) else { continue };
            if space.f_blocks == 0 || !seen.insert(root.dev()) {
                continue;
            }
            let used = (space.f_blocks - space.f_bfree) * space.f_frsize;
            let available = space.f_bavail * space.f_frsize;
            let inodes = space.f_files > 0;
            batch
                .row(at.tick)
                .set("device", &mount.fs_spec)?
                .set("mountpoint", &mount.fs_file)?
                .set("used_bytes", float(used))?
                .set("limit_bytes", float(space.f_blocks * space.f_frsize))?
                .set("available_bytes", float(available))?
                .set("utilization", float(used) / float((used + available).max(1)))?
                .set("inodes_used", inodes.then(|| float(space.f_files - space.f_ffree)))?
                .set("inodes_limit", inodes.then(|| float(space.f_files)))?;
        }
        batch.finish()
    }
}
