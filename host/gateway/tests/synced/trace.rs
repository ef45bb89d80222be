//! Records what a process and its threads write, sync and answer, in the order in which it happened.

use std::{
    collections::{HashMap, HashSet},
    env,
    ffi::OsStr,
    fs::File,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    process::Command,
    sync::Arc,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::load::{Answers, Gateway, Phase};

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Database,
    Log,
}

/// Something that the gateway did.
#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes were written and the call had returned.
    Written { file: Store, offset: u64, bytes: Arc<[u8]> },
    /// A file was cut or lengthened.
    Resized { file: Store, length: u64 },
    /// A sync began; `number` names it.
    SyncBegins { file: Store, number: u64 },
    /// A sync had ended well.
    SyncEnds { number: u64 },
    /// The bytes of an answer `202` are about to be handed to the system.
    Answered { id: String },
}

/// In the process that becomes the gateway: makes the parent its tracer, and becomes it.
pub fn become_traced(arguments: &[String]) -> ! {
    ptrace::traceme().expect("a process may ask to be traced; a container without ptrace can't run this test");
    let error = Command::new(&arguments[0]).args(&arguments[1..]).exec();
    panic!("{}: {error}", arguments[0]);
}

/// Starts the gateway, loads it in the phases of [`Phase`], and records it until it is stopped.
pub fn record(gateway: &Gateway) -> (Vec<Step>, Answers) {
    let mut command = Command::new(env::current_exe().unwrap());
    let mut child = command.arg("--traced").args(gateway.command()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)), "it stops where it begins");
    let threads = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
    ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | threads).unwrap();
    let load = gateway.load(child.id());
    let mut recorder = Recorder::new(gateway, pid);
    recorder.run();
    // The tracer has seen its end already.
    let _ = child.wait();
    (recorder.steps, load.join().unwrap())
}

/// One call between its entry and its return.
struct Call {
    number: u64,
    arguments: [u64; 4],
    sync: Option<u64>,
}

struct Recorder<'a> {
    gateway: &'a Gateway,
    steps: Vec<Step>,
    memory: File,
    files: HashMap<u64, Store>,
    positions: HashMap<u64, u64>,
    calls: HashMap<Pid, Call>,
    known: HashSet<Pid>,
    syncs: u64,
    main: Pid,
}

impl<'a> Recorder<'a> {
    fn new(gateway: &'a Gateway, pid: Pid) -> Self {
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let known = HashSet::from([pid]);
        let (steps, files, positions, calls) = (Vec::new(), HashMap::new(), HashMap::new(), HashMap::new());
        Self { gateway, steps, memory, files, positions, calls, known, syncs: 0, main: pid }
    }

    fn run(&mut self) {
        resume(self.main, None);
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    self.call(pid);
                    resume(pid, None);
                }
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.calls.remove(&pid);
                    if pid == self.main {
                        return;
                    }
                }
                // A new thread stops once before it begins; the event of its maker is for nobody either.
                Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)) if self.known.insert(pid) => resume(pid, None),
                Ok(WaitStatus::PtraceEvent(pid, ..)) => resume(pid, None),
                // The program has just replaced this one: its memory is another.
                Ok(WaitStatus::Stopped(pid, Signal::SIGTRAP)) => resume(pid, None),
                Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, Some(signal)),
                Ok(_) => {}
                Err(Errno::ECHILD) => return,
                Err(error) => panic!("wait for the gateway: {error}"),
            }
        }
    }

    fn call(&mut self, pid: Pid) {
        let Ok(registers) = ptrace::getregs(pid) else { return };
        match self.calls.remove(&pid) {
            None => {
                let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
                let mut call = Call { number: registers.orig_rax, arguments, sync: None };
                self.entered(&mut call);
                self.calls.insert(pid, call);
            }
            Some(call) => {
                let mut registers = registers;
                if call.sync.is_some() && self.gateway.phase() == Phase::SyncsFail {
                    registers.rax = (-i64::from(libc::EIO)).cast_unsigned();
                    ptrace::setregs(pid, registers).unwrap();
                }
                self.returned(&call, registers.rax.cast_signed());
            }
        }
    }

    fn entered(&mut self, call: &mut Call) {
        let [descriptor, address, length, _] = call.arguments;
        match i64::try_from(call.number).unwrap_or(-1) {
            libc::SYS_fsync | libc::SYS_fdatasync => {
                if let Some(&file) = self.files.get(&descriptor) {
                    self.syncs += 1;
                    call.sync = Some(self.syncs);
                    self.steps.push(Step::SyncBegins { file, number: self.syncs });
                }
            }
            // Not when it returns: another thread may have been given the number for a file of the store by then.
            libc::SYS_close => {
                self.files.remove(&descriptor);
            }
            libc::SYS_write | libc::SYS_sendto if !self.files.contains_key(&descriptor) => {
                let bytes = self.read(address, length);
                self.answer(&bytes);
            }
            libc::SYS_writev if !self.files.contains_key(&descriptor) => {
                let bytes = self.read_pieces(address, length);
                self.answer(&bytes);
            }
            libc::SYS_sendmsg if !self.files.contains_key(&descriptor) => {
                // struct msghdr: name, its length, then the pieces and their number.
                let header = self.read(address, 32);
                let bytes = self.read_pieces(word(&header, 16), word(&header, 24));
                self.answer(&bytes);
            }
            _ => {}
        }
    }

    fn returned(&mut self, call: &Call, result: i64) {
        let [first, second, third, fourth] = call.arguments;
        let Ok(done) = u64::try_from(result) else { return };
        match i64::try_from(call.number).unwrap_or(-1) {
            libc::SYS_openat => self.opened(second, done),
            libc::SYS_open => self.opened(first, done),
            libc::SYS_lseek => {
                self.positions.insert(first, done);
            }
            libc::SYS_pwrite64 => self.wrote(first, second, done, fourth),
            libc::SYS_write => {
                let offset = self.positions.get(&first).copied().unwrap_or_default();
                self.wrote(first, second, done, offset);
                self.positions.insert(first, offset + done);
            }
            libc::SYS_ftruncate => {
                if let Some(&file) = self.files.get(&first) {
                    self.steps.push(Step::Resized { file, length: second });
                }
            }
            libc::SYS_fsync | libc::SYS_fdatasync => {
                if let Some(number) = call.sync {
                    self.steps.push(Step::SyncEnds { number });
                }
            }
            libc::SYS_pwritev | libc::SYS_pwritev2 | libc::SYS_fallocate if self.files.contains_key(&first) => {
                panic!("the store is written by call {} of {third} parts, which this test doesn't record", call.number);
            }
            _ => {}
        }
    }

    fn opened(&mut self, path: u64, descriptor: u64) {
        let bytes = self.read(path, 4096);
        let path = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        self.positions.remove(&descriptor);
        match self.gateway.file(OsStr::new(&*String::from_utf8_lossy(path))) {
            Some(file) => self.files.insert(descriptor, file),
            None => self.files.remove(&descriptor),
        };
    }

    fn wrote(&mut self, descriptor: u64, address: u64, length: u64, offset: u64) {
        if let Some(&file) = self.files.get(&descriptor) {
            let bytes = self.read(address, length).into();
            self.steps.push(Step::Written { file, offset, bytes });
        }
    }

    /// Notes an answer that accepts, by the id that it begins with.
    fn answer(&mut self, bytes: &[u8]) {
        if !bytes.starts_with(b"HTTP/1.1 202") {
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
        self.steps.push(Step::Answered { id: id.expect("what is accepted has an id").to_owned() });
    }

    fn read_pieces(&self, address: u64, count: u64) -> Vec<u8> {
        let table = self.read(address, count.min(64) * 16);
        table.chunks_exact(16).flat_map(|piece| self.read(word(piece, 0), word(piece, 8))).collect()
    }

    /// What is there of the process's memory.
    fn read(&self, address: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length.min(16 << 20)).unwrap()];
        let mut read = 0;
        while read < bytes.len() {
            match self.memory.read_at(&mut bytes[read..], address + read as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
        bytes.truncate(read);
        bytes
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_ne_bytes)
}

/// Lets a thread run to its next call. It may have ended by itself.
fn resume(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("let the gateway go on: {error}"),
    }
}
