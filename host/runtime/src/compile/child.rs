//! The parent's side: start a child, hand it the work, take its answer, and never be held up, flooded or fooled by it.
//!
//! One child a piece of work. This thread alone feeds and drains the child's pipes, watches the clock, and reaps the child in any
//! case. What it reads is bounded by what it allows. How the child ended is translated here and nowhere else.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::cage;
use super::job::{self, Answer, HEAD_BYTES_MAX, Order, Work};
use super::limits::ChildCompiler;
use crate::CompileError;
use crate::compile::error::CompileBound;

/// Bytes of the child's standard error that are kept.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// Processor time for reading debug information.
const SYMBOLS_CPU_SECONDS: u64 = 2;

/// How often a child that has closed its pipes is asked whether it has ended.
const END_POLL: Duration = Duration::from_millis(1);

/// What a child answered, and the artefact if there is one.
pub(crate) type Answered = (Answer, Vec<u8>);

/// Has a child do `work` on `component`.
///
/// # Errors
/// [`CompileError::Limit`] where it came to a limit; [`CompileError::Compiler`] where it could not be started or failed in a way
/// that no component may cause.
pub(crate) fn run(config: &ChildCompiler, work: Work, component: &[u8]) -> Result<Answered, CompileError> {
    let cpu_seconds = match work {
        // Nobody waits for it long, and whoever made the component gains nothing by it.
        Work::Symbolicate(_) => SYMBOLS_CPU_SECONDS,
        _ => config.cpu_seconds(component.len()),
    };
    let deadline = Instant::now() + config.wall_clock_for(cpu_seconds);
    let order = Order { memory_bytes_max: config.memory_bytes_max, cpu_seconds, work };
    let input = input(&order, component).map_err(|error| failed(format!("make the order: {error}")))?;
    let mut child = Running::start(config).map_err(|error| failed(format!("start the compile child: {error}")))?;
    let bytes_max = HEAD_BYTES_MAX + config.artefact_bytes_max + 16;
    let exchanged = exchange(&mut child.0, [&input, component], bytes_max, deadline);
    let end = match exchanged {
        Ok(ref pipes) if pipes.is_whole => child.wait(deadline),
        // It has broken a bound or the pipes; nothing that it still does matters.
        _ => child.kill(),
    };
    let pipes = exchanged.map_err(|error| failed(format!("talk with the compile child: {error}")))?;
    let end = end.map_err(|error| failed(format!("wait for the compile child: {error}")))?;
    let complaint = String::from_utf8_lossy(&pipes.complaint).into_owned();
    let limit = |bound, allowed| CompileError::Limit { bound, needed: None, allowed };
    match end {
        End::Exited(status) if status.success() => parse(&pipes.answer, config),
        End::Exited(status) => Err(explain(status, &complaint, &order)),
        End::Killed if pipes.answer.len() > bytes_max => {
            Err(limit(CompileBound::ArtefactBytes, config.artefact_bytes_max as u64))
        }
        End::Killed => Err(limit(CompileBound::WallClockSeconds, config.wall_clock_for(cpu_seconds).as_secs())),
    }
}

/// The order as it goes over the pipe, and the length of what follows.
fn input(order: &Order, component: &[u8]) -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    job::write(&mut input, &job::encode(order)?)?;
    input.extend_from_slice(&(component.len() as u64).to_le_bytes());
    Ok(input)
}

fn parse(answer: &[u8], config: &ChildCompiler) -> Result<Answered, CompileError> {
    let mut rest = answer;
    let parse = |rest: &mut &[u8]| -> io::Result<Answered> {
        let head = job::read(rest, HEAD_BYTES_MAX)?;
        let artefact = job::read(rest, config.artefact_bytes_max)?;
        Ok((job::decode(&head)?, artefact))
    };
    parse(&mut rest).map_err(|error| failed(format!("the compile child's answer can't be read: {error}")))
}

/// From the way a child ended to what that means.
fn explain(status: ExitStatus, complaint: &str, order: &Order) -> CompileError {
    let limit = |bound, allowed| CompileError::Limit { bound, needed: None, allowed };
    let memory = order.memory_bytes_max;
    let signal = status.signal().and_then(Signal::from_named_raw);
    // The words are those of Rust's runtime; tests fail when they change.
    if signal == Some(Signal::XCPU) {
        limit(CompileBound::CpuSeconds, order.cpu_seconds)
    } else if complaint.contains("memory allocation of") || complaint.contains("annot allocate memory") {
        limit(CompileBound::MemoryBytes, memory)
    } else if complaint.contains("has overflowed its stack") {
        limit(CompileBound::Stack, 0)
    } else if signal == Some(Signal::KILL) {
        // Not ours, which is told apart: the system's, which ends what takes the most memory when there is none left.
        limit(CompileBound::MachineMemory, 0)
    } else {
        let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        failed(format!("the compile child ended with {status}: {}", crate::call::escape(last, 300).0))
    }
}

fn failed(detail: String) -> CompileError {
    CompileError::Compiler { detail }
}

/// How a child ended.
enum End {
    Exited(ExitStatus),
    Killed,
}

/// A child that is reaped in any case.
struct Running(Child);

impl Running {
    fn start(config: &ChildCompiler) -> io::Result<Running> {
        // Not the path of the file, which an upgrade may have replaced: the program that this process runs.
        let own =
            if cfg!(target_os = "linux") { Path::new("/proc/self/exe").to_owned() } else { std::env::current_exe()? };
        let mut command = Command::new(config.program.as_ref().unwrap_or(&own));
        command.arg0("hookloom-compile").arg(cage::MARKER).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Running)
    }

    /// Waits for the end of a child that has closed its pipes; kills it at the deadline.
    fn wait(&mut self, deadline: Instant) -> io::Result<End> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(End::Exited(status));
            }
            if Instant::now() >= deadline {
                return self.kill();
            }
            std::thread::sleep(END_POLL);
        }
    }

    fn kill(&mut self) -> io::Result<End> {
        // It may have ended by itself in the meantime: then its own end tells more.
        if let Some(status) = self.0.try_wait()? {
            return Ok(End::Exited(status));
        }
        self.0.kill()?;
        self.0.wait()?;
        Ok(End::Killed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that has been waited for is not there any more: both do nothing then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came out of a child.
struct Pipes {
    answer: Vec<u8>,
    complaint: Vec<u8>,
    /// Both ends were reached, within the bounds and in time.
    is_whole: bool,
}

/// Writes all pieces, and reads until the child closes its pipes, writes more than `bytes_max`, or the deadline passes.
fn exchange(child: &mut Child, pieces: [&[u8]; 2], bytes_max: usize, deadline: Instant) -> io::Result<Pipes> {
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    for fd in [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)] {
        rustix::io::ioctl_fionbio(fd.ok_or_else(|| io::Error::other("the child has no pipes"))?, true)?;
    }
    let [mut order, mut component] = pieces;
    let mut pipes = Pipes { answer: Vec::new(), complaint: Vec::new(), is_whole: false };
    while stdout.is_some() || stderr.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(pipes);
        }
        let fds = (stdin.as_ref(), stdout.as_ref(), stderr.as_ref());
        wait_ready(fds.0.map(AsFd::as_fd), [fds.1.map(AsFd::as_fd), fds.2.map(AsFd::as_fd)], left)?;
        if let Some(pipe) = &mut stdin {
            let piece = if order.is_empty() { &mut component } else { &mut order };
            match pipe.write(piece) {
                Ok(written) => *piece = &piece[written..],
                Err(error) if is_not_now(&error) => {}
                // The child has ended or stopped listening; it says itself why.
                Err(_) => stdin = None,
            }
            if order.is_empty() && component.is_empty() {
                stdin = None;
            }
        }
        drain(&mut stdout, &mut pipes.answer, bytes_max.saturating_add(1))?;
        if pipes.answer.len() > bytes_max {
            return Ok(pipes);
        }
        let room = COMPLAINT_BYTES_MAX.saturating_sub(pipes.complaint.len());
        let mut said = Vec::new();
        drain(&mut stderr, &mut said, 64 << 10)?;
        pipes.complaint.extend(said.into_iter().take(room));
    }
    pipes.is_whole = true;
    Ok(pipes)
}

/// Waits until one of the pipes can go on, or the time is over.
fn wait_ready(
    input: Option<std::os::fd::BorrowedFd<'_>>,
    outputs: [Option<std::os::fd::BorrowedFd<'_>>; 2],
    left: Duration,
) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = input.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::OUT)).collect();
    fds.extend(outputs.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is there, until `into` has `bytes_max`; at the end of the pipe, lets go of it.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>, bytes_max: usize) -> io::Result<()> {
    let mut piece = [0; 64 << 10];
    while let Some(reader) = pipe {
        let room = piece.len().min(bytes_max.saturating_sub(into.len()));
        if room == 0 {
            return Ok(());
        }
        match reader.read(&mut piece[..room]) {
            Ok(0) => *pipe = None,
            Ok(read) => into.extend_from_slice(&piece[..read]),
            Err(error) if is_not_now(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
