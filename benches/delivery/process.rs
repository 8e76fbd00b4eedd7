//! Time and memory of processes, as the kernel tells them.

use std::path::Path;

/// What the kernel shows times of processes in, whatever it counts in.
const TICKS: f64 = 100.0;

/// Processor time in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// Of this process.
    pub own: f64,
    /// Of processes that it started and that have ended.
    pub ended: f64,
}

/// What this process and its ended children have used so far.
pub fn cpu() -> Cpu {
    let fields = stat("self");
    Cpu { own: fields[11] + fields[12], ended: fields[13] + fields[14] }
}

/// What a process that still runs has used so far.
pub fn cpu_of(process: u32) -> f64 {
    let fields = stat(&process.to_string());
    fields[11] + fields[12]
}

/// The fields behind the name, in seconds as far as they are times.
fn stat(process: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, behind) = text.rsplit_once(')').unwrap();
    behind.split_whitespace().map(|field| field.parse::<f64>().unwrap_or(0.0) / TICKS).collect()
}

/// Resident memory now, MiB.
pub fn resident() -> u64 {
    status("VmRSS:")
}

/// Largest resident memory since [`forget_peak`], MiB.
pub fn peak() -> u64 {
    status("VmHWM:")
}

/// Starts the kernel's record of this process's largest memory anew.
pub fn forget_peak() {
    // Where the kernel does not allow it the peak is that of the whole run, which is never too small.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Bytes of all files in a folder.
pub fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
