//! Counts system calls and instructions of a thread exactly, by tracing it from another process.
//!
//! Single-stepping takes the place of a processor's counters, which virtual machines often lack: no noise of the machine can
//! move what it counts. The traced program stops at marks, and what lies between the second and the third mark is reported,
//! less what the marks themselves cost (between the first and the second).

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// System calls of the traced thread.
    SystemCalls,
    /// Instructions of the traced thread outside the kernel. A repeated string instruction is one.
    Instructions,
}

/// In the traced program, on the thread to be traced: makes the parent its tracer.
pub fn begin() -> Result<()> {
    ptrace::traceme().context("be traced")
}

/// In the traced program: a mark.
pub fn mark() {
    raise(Signal::SIGSTOP).expect("a thread can signal itself");
}

/// Runs a program that calls [`begin`] and sets three [`mark`]s, and counts what it does between the last two.
pub fn count(program: &Path, arguments: &[&OsStr], what: Count) -> Result<u64> {
    let mut child = Command::new(program).args(arguments).spawn().context("start the traced program")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let counted = until_mark(pid, None).and_then(|_| {
        if what == Count::SystemCalls {
            ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)
                .context("tell system calls from signals")?;
        }
        let marks = until_mark(pid, Some(what))?;
        let all = until_mark(pid, Some(what))?;
        ptrace::detach(pid, None).context("let the traced program go")?;
        Ok(all.saturating_sub(marks))
    });
    if counted.is_err() {
        // It may be gone already.
        let _ = child.kill();
    }
    child.wait().context("end the traced program")?;
    counted
}

/// Lets the program run until its next mark, counting. Before the first mark it runs already.
fn until_mark(pid: Pid, what: Option<Count>) -> Result<u64> {
    let (mut stops, mut steps, mut last) = (0_u64, 0_u64, 0_u64);
    let mut signal = None;
    let mut running = what.is_none();
    loop {
        if !running {
            match what {
                None => ptrace::cont(pid, signal.take()),
                Some(Count::SystemCalls) => ptrace::syscall(pid, signal.take()),
                Some(Count::Instructions) => ptrace::step(pid, signal.take()),
            }
            .context("let the traced program run")?;
        }
        running = false;
        match waitpid(pid, None).context("wait for the traced program")? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) if what == Some(Count::SystemCalls) => return Ok(stops / 2),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(steps),
            WaitStatus::PtraceSyscall(_) => stops += 1,
            WaitStatus::Stopped(_, Signal::SIGTRAP) if what == Some(Count::Instructions) => {
                let address = instruction(pid)?;
                steps += u64::from(address != last);
                last = address;
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            status => bail!("the traced program ended before its last mark: {status:?}"),
        }
    }
}

/// The address of the next instruction.
#[cfg(target_arch = "x86_64")]
fn instruction(pid: Pid) -> Result<u64> {
    Ok(ptrace::getregs(pid).context("read the traced program's registers")?.rip)
}

/// Where the registers are named otherwise: each step is an instruction.
#[cfg(not(target_arch = "x86_64"))]
fn instruction(_: Pid) -> Result<u64> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STEP: AtomicU64 = AtomicU64::new(1);
    Ok(STEP.fetch_add(1, Ordering::Relaxed))
}
