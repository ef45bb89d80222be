//! What the tests work with: a folder, the real binary, and commands that go on.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

/// A folder to work in.
pub struct Desk(pub tempfile::TempDir);

impl Desk {
    pub fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
        command.arg("plugin").args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        for variable in ["HOOKLOOM_TOKEN", "HOOKLOOM_SERVER", "HOOKLOOM_APP", "HOOKLOOM_CONFIG"] {
            command.env_remove(variable);
        }
        command
    }

    #[track_caller]
    pub fn check(&self, arguments: &[&str], code: i32, words: &[&str]) -> String {
        check(&mut self.command(arguments), code, words)
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program of one line.
    pub fn script(&self, file: &str, line: &str) {
        self.write(file, &format!("#!/bin/sh\n{line}\n"));
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A project whose component is there already: the golden plugin, which maps and reshapes.
    pub fn golden(&self, name: &str, kind: &str, budget: &str) -> String {
        let manifest = format!("[plugin]\nname = \"{name}\"\nlanguage = \"rust\"\nkind = \"{kind}\"\n{budget}");
        self.write(&format!("{name}/plugin.toml"), &manifest);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/v1.0/plugin.wasm");
        golden.to_owned()
    }
}

#[track_caller]
pub fn check(command: &mut Command, code: i32, words: &[&str]) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "{command:?}\n{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    said
}

/// A command that goes on until it is stopped.
pub struct Running {
    pub child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (send, lines) = mpsc::sync_channel(1_000);
        std::thread::spawn(move || said.map(|line| send.send(line)).find(Result::is_err));
        Running { child, lines }
    }

    /// Waits for a line with these words, and answers it; one that never comes ends the test.
    #[track_caller]
    pub fn says(&mut self, words: &str) -> String {
        let mut said: Vec<String> = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => said.push(line),
                Err(error) => panic!("`{words}` is missing in {said:?}: {error}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
