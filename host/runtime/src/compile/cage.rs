//! The child's side: shut oneself in, do one piece of work, answer, end.
//!
//! Runs in a process of its own that has done nothing else before, and stands back behind the calls of plugins. The order of the steps is the safety: the order (ours) is
//! read, then the cage closes, and only then is the first byte of the component (a stranger's) read.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Unwrapped;
use super::job::{self, Answer, Attempt, HEAD_BYTES_MAX, Order, Work};
use super::symbols;
use crate::engine::{self, Class};

/// The first argument of a compile child. Nobody types it, and no other argument stands beside it.
pub(crate) const MARKER: &str = "--hookloom-compile-child-1";

/// Bytes of a component that the child reads; the parent has its own, lower bound.
const COMPONENT_BYTES_MAX: usize = 1 << 30;

/// How much the child stands back behind calls, in steps of `nice`: a busy one is left a tenth of a processor.
const NICE: i32 = 10;

static ENTERED: AtomicBool = AtomicBool::new(false);

/// Does the work of a compile child and ends the process, if that is what this process was started for; else returns at once.
///
/// Call it before anything else in `main`, threads and logging included: [`Compiler::Child`](crate::Compiler::Child) starts the program again and relies
/// on it. A runtime is refused the child of its own program until this has been called.
///
/// ```
/// hookloom_runtime::run_if_compile_child(); // the first line of `main`
/// // … the program
/// ```
pub fn run_if_compile_child() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MARKER) {
        // Nothing is left to be done that could go on: not even destructors.
        std::process::exit(i32::from(run() != ExitCode::SUCCESS) * 70);
    }
    ENTERED.store(true, Ordering::Release);
}

/// Whether this program's `main` calls [`run_if_compile_child`].
pub(crate) fn is_entered() -> bool {
    ENTERED.load(Ordering::Acquire)
}

fn run() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Read by the parent.
            let _ = writeln!(io::stderr(), "compile child: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    rustix::process::nice(NICE)?;
    let mut stdin = io::stdin().lock();
    let order = job::read(&mut stdin, HEAD_BYTES_MAX)?;
    let order: Order = job::decode(&order)?;
    close(&order)?;
    let component = job::read(&mut stdin, COMPONENT_BYTES_MAX)?;
    let (answer, artefact) = match order.work {
        Work::Compile(class, unwrapped) => compile(&component, class, unwrapped.as_ref())?,
        Work::Symbolicate(frames) => (Answer::Symbols(symbols::find(&component, &frames)), Vec::new()),
        Work::Probe(attempts) => (Answer::Probed(attempts.iter().map(succeeds).collect()), Vec::new()),
    };
    let mut stdout = io::stdout().lock();
    job::write(&mut stdout, &job::encode(&answer)?)?;
    job::write(&mut stdout, &artefact)?;
    stdout.flush()
}

fn compile(component: &[u8], class: Class, unwrapped: Option<&Unwrapped>) -> io::Result<(Answer, Vec<u8>)> {
    let engine = engine::compile_only(class).map_err(|error| io::Error::other(format!("{error:#}")))?;
    Ok(match super::precompile(&engine, component, unwrapped) {
        Ok(artefact) => (Answer::Compiled(engine::fingerprint(&engine)), artefact),
        Err(error) => (Answer::Refused(format!("{error:#}")), Vec::new()),
    })
}

/// Closes the cage around this process. What can't be closed is an error: the work is not begun then.
fn close(order: &Order) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |resource, soft, hard| {
        setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })
            .map_err(|error| io::Error::other(format!("set the limit {resource:?}: {error}")))
    };
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, 0, 0)?;
    limit(Resource::Nproc, 0, 0)?;
    limit(Resource::As, order.memory_bytes_max, order.memory_bytes_max)?;
    // The soft limit ends the process with a signal of its own, by which the parent knows the cause; the hard one can't be ignored.
    limit(Resource::Cpu, order.cpu_seconds, order.cpu_seconds.saturating_add(1))?;
    #[cfg(target_os = "linux")]
    linux::close()?;
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io;

    use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    pub(super) fn close() -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let filter = filter().map_err(io::Error::other)?;
        seccompiler::apply_filter(&filter)
            .map_err(|error| io::Error::other(format!("install the filter of system calls: {error}")))
    }

    /// The system calls that compiling needs, with the arguments that it needs. Any other answers "no such system call", which
    /// libraries take as the sign to do without.
    fn filter() -> Result<BpfProgram, seccompiler::Error> {
        let always = [
            libc::SYS_brk,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_futex,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_clock_gettime,
            libc::SYS_getrandom,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_restart_syscall,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ];
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = always.map(|call| (call, Vec::new())).into();
        let masked = |index, mask, value| compare(index, SeccompCmpOp::MaskedEq(mask), value);
        let equal = |index, value| compare(index, SeccompCmpOp::Eq, value);
        let (exec, anonymous) = (bits(libc::PROT_EXEC), bits(libc::MAP_ANONYMOUS));
        // Its own three descriptors, and no other that it may have inherited.
        rules.insert(libc::SYS_read, vec![SeccompRule::new(vec![equal(0, 0)?])?]);
        for call in [libc::SYS_write, libc::SYS_writev] {
            rules.insert(call, vec![SeccompRule::new(vec![equal(0, 1)?])?, SeccompRule::new(vec![equal(0, 2)?])?]);
        }
        // Memory of no file, and none that could be executed: what it makes is run by somebody else or not at all.
        let fresh = vec![masked(2, exec, 0)?, masked(3, anonymous, anonymous)?];
        rules.insert(libc::SYS_mmap, vec![SeccompRule::new(fresh)?]);
        rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![masked(2, exec, 0)?])?]);
        // To abort.
        rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![equal(0, u64::from(std::process::id()))?])?]);
        let refuse = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or(1));
        let machine = std::env::consts::ARCH.try_into()?;
        Ok(SeccompFilter::new(rules, refuse, SeccompAction::Allow, machine)?.try_into()?)
    }

    fn compare(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
    }

    fn bits(flag: i32) -> u64 {
        u64::from(flag.unsigned_abs())
    }
}

/// Tries what must not succeed.
fn succeeds(attempt: &Attempt) -> bool {
    match attempt {
        Attempt::ReadFile(path) => std::fs::File::open(path).is_ok_and(|mut file| file.read(&mut [0; 1]).is_ok()),
        Attempt::WriteFile(path) => std::fs::write(path, "x").is_ok(),
        Attempt::ListFolder(path) => std::fs::read_dir(path).is_ok(),
        Attempt::Connect(address) => std::net::TcpStream::connect(address).is_ok(),
        Attempt::Listen => std::net::TcpListener::bind("127.0.0.1:0").is_ok(),
        Attempt::Exec => std::process::Command::new("/bin/true").status().is_ok(),
        Attempt::Thread => std::thread::Builder::new().spawn(|| {}).is_ok(),
        Attempt::Signal(process) => i32::try_from(*process)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|process| rustix::process::test_kill_process(process).is_ok()),
        Attempt::Environment(name) => std::env::var_os(name).is_some(),
        Attempt::Memory(bytes) => {
            Vec::<u8>::new().try_reserve_exact(usize::try_from(*bytes).unwrap_or(usize::MAX)).is_ok()
        }
    }
}
