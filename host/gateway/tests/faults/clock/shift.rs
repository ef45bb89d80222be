//! Preloaded into a process, moves its wall clock by as many seconds as stand in the file that `HOOKLOOM_TEST_CLOCK` names. What
//! it measures time spans with stays as it is. Compiled by the test that uses it.

use std::{
    ffi::{c_int, c_long},
    path::PathBuf,
    sync::OnceLock,
};

const CLOCK_REALTIME: c_int = 0;

#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(not(target_arch = "x86_64"))]
const CLOCK_GETTIME: c_long = 113;

#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanos: c_long,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Takes the place of libc's function.
///
/// # Safety
/// As for that: `time` is valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let result = unsafe { syscall(CLOCK_GETTIME, clock, time) };
    if result == 0 && clock == CLOCK_REALTIME {
        unsafe { (*time).seconds += shift() };
    }
    result as c_int
}

fn shift() -> i64 {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("HOOKLOOM_TEST_CLOCK").map(PathBuf::from));
    let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
