//! Disks that fill up and bytes that change.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, gone with the test.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, kilobytes: u64) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "none"])
            .arg(at)
            .status()
            .expect("mount can be started");
        assert!(status.success(), "a small file system cannot be mounted: this test needs root");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The newest segment of the backlog, if there is one with rows.
fn newest_segment(data: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(data.join("backlog/influx")).ok()?;
    let mut segments: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 64))
        .collect();
    segments.sort();
    segments.pop()
}

/// What a crash in the middle of an append leaves: the beginning of a frame.
pub fn tear(data: &Path, random: &mut fastrand::Rng) {
    let Some(path) = newest_segment(data) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    let from = random.usize(8..bytes.len()) / 8 * 8;
    let length = random.usize(1..4_000).min(bytes.len() - from);
    let part = bytes[from..from + length].to_vec();
    bytes.extend(part);
    std::fs::write(&path, bytes).unwrap();
}

/// Changes a byte somewhere in the rows that wait.
pub fn flip(data: &Path, random: &mut fastrand::Rng) {
    let Some(path) = newest_segment(data) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    let at = random.usize(8..bytes.len());
    bytes[at] ^= 1 << random.u8(0..8);
    std::fs::write(&path, bytes).unwrap();
}
