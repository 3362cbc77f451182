//! The operating system, through libc: entry, memory, files. All `unsafe` of the program is in this file.

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt::Write;

// The C library that comes with the target; the standard library would have asked for it.
#[link(name = "c")]
unsafe extern "C" {}

// The precompiled `alloc` is made for unwinding and names the two functions of it. Nothing here unwinds.
// SAFETY: the only function of this name; it is never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

// SAFETY: `aligned_alloc` gives blocks of at least the size and with the alignment asked for, and any block
// of it may go to `free`.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let align = layout.align().max(size_of::<usize>());
        // SAFETY: the alignment is a power of 2, as `Layout` guarantees, and at least that of a pointer.
        unsafe { libc::aligned_alloc(align, layout.size()).cast() }
    }
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller got `block` from `alloc`.
        unsafe { libc::free(block.cast()) }
    }
}

/// Writes to a file descriptor without a buffer.
struct Descriptor(c_int);

impl Write for Descriptor {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: `rest` is readable for its length.
            let n = unsafe { libc::write(self.0, rest.as_ptr().cast::<c_void>(), rest.len()) };
            rest = usize::try_from(n).ok().and_then(|n| rest.get(n..)).ok_or(core::fmt::Error)?;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Descriptor(libc::STDERR_FILENO), "onebit-mini: {info}");
    // SAFETY: always sound.
    unsafe { libc::abort() }
}

// SAFETY: the only `main` of the program, with C's signature.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let arguments: Option<Vec<&str>> = (1..count.max(1) as usize)
        // SAFETY: C's start-up code gives `count` texts that end with 0 and live as long as the process.
        .map(|i| unsafe { CStr::from_ptr(*arguments.add(i)) }.to_str().ok())
        .collect();
    let result = match arguments {
        Some(arguments) => crate::run(&arguments),
        None => Err("an argument is not UTF-8".to_owned()),
    };
    let written = match &result {
        Ok(text) => Descriptor(libc::STDOUT_FILENO).write_str(text),
        Err(message) => writeln!(Descriptor(libc::STDERR_FILENO), "onebit-mini: {message}"),
    };
    c_int::from(result.is_err() || written.is_err())
}

/// An environment variable, if it is set and UTF-8.
pub fn variable(name: &CStr) -> Option<&'static str> {
    // SAFETY: `name` ends with 0. Nothing in this program changes the environment, so the text stays.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() { None } else { CStr::from_ptr(value).to_str().ok() }
    }
}

/// The content of a file.
///
/// # Errors
/// Names the file.
pub fn read(path: &str) -> Result<Vec<u8>, String> {
    let refuse = |_| format!("{path}: cannot be read");
    let name = CString::new(path).map_err(|e| refuse(e.to_owned()))?;
    // SAFETY: `name` ends with 0.
    let file = unsafe { libc::open(name.as_ptr(), libc::O_RDONLY) };
    if file < 0 {
        return Err(format!("{path}: cannot be opened"));
    }
    let mut bytes = Vec::new();
    let mut piece = [0u8; 1 << 14];
    let end = loop {
        // SAFETY: `piece` is writable for its length.
        let n = unsafe { libc::read(file, piece.as_mut_ptr().cast::<c_void>(), piece.len()) };
        match usize::try_from(n) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            other => break other,
        }
    };
    // SAFETY: `file` is open and not used any more.
    unsafe { libc::close(file) };
    match end {
        Ok(_) => Ok(bytes),
        Err(_) => Err(format!("{path}: cannot be read")),
    }
}
