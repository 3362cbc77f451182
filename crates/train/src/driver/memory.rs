//! How this process keeps memory.

/// Keeps memory that was freed, for the whole process and from now on.
///
/// A step of a training needs the same few hundred megabytes as the one before. The C library of Linux gives large
/// buffers back to the system and takes fresh pages for the next, which cost a quarter of the time of a step
/// (docs/performance.md). A program that trains calls this once, at its start; elsewhere than on Linux with glibc it does
/// nothing.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in
        [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, 64 << 20)]
    {
        // SAFETY: `mallopt` takes any numbers, and holds the allocator's own lock.
        unsafe { libc::mallopt(parameter, value) };
    }
}
