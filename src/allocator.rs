//! The C library's allocator, told to share its memory. A leaf module.
//!
//! glibc gives threads arenas of their own, up to eight for each processor, and what one arena has freed another cannot
//! use. Batches are made on one thread and freed on another here, so that each arena in turn holds as much as all need
//! together: with the default a store that takes in rows at full speed keeps nearly twice the memory, at the same speed.

#![cfg_attr(
    target_env = "gnu",
    allow(unsafe_code, reason = "glibc's setting is a C function; the block says why it is sound")
)]

/// Lets the allocator have one arena for each processor, but two at least. For `main`, before it starts a thread: arenas
/// that there are already stay. Where the C library is another one it does nothing.
pub fn share_memory() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let arenas = libc::c_int::try_from(processors.max(2)).unwrap_or(2);
        // Refused, it costs memory only, and nobody listens to logs yet.
        // SAFETY: mallopt takes two numbers by value and may be called at any time; it holds its own locks.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
}
