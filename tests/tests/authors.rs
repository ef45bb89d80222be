//! `docs/authors.md` is followed word for word, with the real binary, in a folder outside the repository: from `new` to a message that
//! is delivered through a running gateway, once for each language.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use hookloom_tests::plugins;

/// The only words of the page that a test has to replace: the port may be taken.
const ADDRESS: &str = "127.0.0.1:8071";

/// The commands of the chapter, for one language: blocks marked `sh` are for all, `sh LANGUAGE` for that one.
fn commands(page: &str, language: &str) -> String {
    let chapter = page.split("\n## ").find(|chapter| chapter.starts_with("In ten minutes")).unwrap();
    let own = format!("sh {language}");
    let mut commands = String::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if mark == "sh" || mark == own {
            commands.push_str(&block.join("\n"));
            commands.push('\n');
        }
    }
    assert!(commands.contains(&format!("--lang {language}")), "the page has no commands for {language}");
    commands
}

fn follow(language: &str) {
    let page = std::fs::read_to_string(plugins::root().join("docs/authors.md")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let commands = commands(&page, language).replace(ADDRESS, &port.to_string());
    let folder = tempfile::tempdir().unwrap();
    let binary = plugins::binary();
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    // The gateway that the page starts must not outlive the test.
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\nset -x\n{commands}");
    // The page waits for things in loops; where one never comes, the test ends all the same.
    let mut bash = Command::new("timeout");
    bash.args(["900", "bash", "-c", &script]).current_dir(folder.path()).env("PATH", path).stdin(Stdio::null());
    for variable in ["HOOKLOOM_TOKEN", "HOOKLOOM_SERVER", "HOOKLOOM_APP", "HOOKLOOM_CONFIG"] {
        bash.env_remove(variable);
    }
    let output = bash.output().unwrap();
    let (said, steps) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{steps}");
    assert!(said.contains(r#""text":"Ada: Hi""#), "the message arrived: {said}");
    assert!(said.contains(" replaced "), "its call is shown: {said}");
}

#[test]
fn the_page_is_followed_in_rust() {
    follow("rust");
}

#[test]
fn the_page_is_followed_in_javascript() {
    follow("js");
}

#[test]
fn the_page_is_followed_in_python() {
    follow("python");
}

#[test]
fn the_page_is_followed_in_c() {
    follow("c");
}
