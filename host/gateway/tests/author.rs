//! What an author does with the real binary on projects: its output, and an exit code for each thing that can be wrong.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread::JoinHandle,
    time::Duration,
};

/// A folder to work in.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookloom"));
        command.arg("plugin").args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        for variable in ["HOOKLOOM_TOKEN", "HOOKLOOM_SERVER", "HOOKLOOM_APP", "HOOKLOOM_CONFIG"] {
            command.env_remove(variable);
        }
        command
    }

    #[track_caller]
    fn check(&self, arguments: &[&str], code: i32, words: &[&str]) -> String {
        check(&mut self.command(arguments), code, words)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program of one line.
    fn script(&self, file: &str, line: &str) {
        self.write(file, &format!("#!/bin/sh\n{line}\n"));
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A project whose component is there already: the golden plugin, which maps and reshapes.
    fn golden(&self, name: &str, kind: &str, budget: &str) -> String {
        let manifest = format!("[plugin]\nname = \"{name}\"\nlanguage = \"rust\"\nkind = \"{kind}\"\n{budget}");
        self.write(&format!("{name}/plugin.toml"), &manifest);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/v1.0/plugin.wasm");
        golden.to_owned()
    }
}

#[track_caller]
fn check(command: &mut Command, code: i32, words: &[&str]) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "{command:?}\n{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    said
}

#[test]
fn a_new_project_builds_and_passes_its_tests_at_once() {
    let desk = Desk::new();
    for kind in ["mapper", "reshaper"] {
        let name = format!("my-{kind}");
        desk.check(&["new", &name, "--lang", "rust", "--kind", kind], 0, &["made", "hookloom plugin test"]);
        desk.check(&["test", &name], 0, &["ok", "2 fixtures", "fuel"]);
        // Natively too, with nothing from this repository.
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet"]).current_dir(desk.path(&name));
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO") && name != "CARGO_HOME") {
            cargo.env_remove(variable);
        }
        check(cargo.env_remove("RUSTFLAGS"), 0, &["2 passed"]);
    }
    let said = desk.check(&["build", "my-mapper", "--release"], 0, &["code ", "constants ", "names of functions "]);
    assert!(said.contains("my_mapper.wasm"), "{said}");
    desk.check(&["check", "my-mapper"], 0, &["ok: mapper, contract 1.0.0"]);
    desk.check(&["run", "my-reshaper", "--input", r#"{"name":"A","message":"b"}"#], 0, &[r#"{"text":"A: b"}"#]);

    let profile = desk.path("mapper.cpuprofile");
    let arguments = ["bench", "my-mapper", "--profile", profile.to_str().unwrap(), "--seconds", "1"];
    let limits = hookloom::limits::FIELDS.iter().map(|field| field.key);
    let words: Vec<&str> = ["job-completed", "into the guest", "samples"].into_iter().chain(limits).collect();
    desk.check(&arguments, 0, &words);
    let profile: serde_json::Value = serde_json::from_slice(&fs::read(profile).unwrap()).unwrap();
    assert_eq!(profile["nodes"][0]["callFrame"]["functionName"], "(root)");

    desk.check(&["new", "my-mapper", "--kind", "mapper"], 6, &["my-mapper exists already"]);
    desk.check(&["new", "My Mapper", "--kind", "mapper"], 6, &["`My Mapper` can't be a plugin's name", "lower-case"]);
    desk.check(&["new", "other"], 2, &["--kind"]);
    desk.check(&["new", "other", "--kind", "mapper", "--lang", "cobol"], 2, &["cobol", "rust"]);
    let words = ["./no/such", "--sdk", "there is no such folder", "a version such as 0.1"];
    desk.check(&["new", "other", "--kind", "mapper", "--sdk", "./no/such"], 2, &words);
    assert!(!desk.path("other").exists());

    // An author's mistake is shown in the compiler's words.
    desk.write("my-mapper/src/lib.rs", "fn broken( {");
    desk.check(&["test", "my-mapper"], 7, &["does not build", "src/lib.rs:1"]);
    desk.write("my-mapper/plugin.toml", "[plugin]\nname = \"my-mapper\"\nlanguage = \"rust\"\nknd = \"mapper\"\n");
    desk.check(&["build", "my-mapper"], 6, &["my-mapper/plugin.toml", "line 4", "unknown field `knd`"]);
    desk.check(&["test", "nowhere"], 6, &["nowhere", "hookloom plugin new"]);
}

#[test]
fn a_fixture_that_differs_is_shown_place_by_place_and_can_be_accepted() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    desk.write("notes/fixtures/one/input.json", r#"{"eventType": "a.b", "name": "Ada"}"#);
    let test = ["test", "notes", "--wasm", &golden];
    desk.check(&test, 6, &["notes/fixtures/one/expect.json is missing", "--update"]);
    let said = desk.check(&[&test[..], &["--update"]].concat(), 0, &["updated", "one", "before (nothing)"]);
    assert!(said.contains(r#"now    {"kind":"replaced","value":{"#), "what is accepted is shown: {said}");
    let expected = fs::read_to_string(desk.path("notes/fixtures/one/expect.json")).unwrap();
    desk.check(&test, 0, &["ok: 1 fixtures"]);
    desk.write("notes/fixtures/one/expect.json", r#"{"kind": "replaced", "value": {"never": 1}}"#);
    desk.check(&test, 9, &["differs", "one", "expected", "got", "failed: 1 of 1 fixtures"]);
    desk.check(&[&test[..], &["--update"]].concat(), 0, &["updated", "/body/never", "before 1", "now    (nothing)"]);
    assert_eq!(fs::read_to_string(desk.path("notes/fixtures/one/expect.json")).unwrap(), expected);
    desk.write("notes/fixtures/one/input.json", "{\n  \"a\": }");
    desk.check(&test, 6, &["notes/fixtures/one/input.json", "line 2"]);
}

#[test]
fn what_a_payload_holds_does_not_steer_the_terminal() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    let name = "\u{202e}right to left\u{9b}2J";
    let input = serde_json::json!({ "name": name, "eventType": "a.b" }).to_string();
    let is_harmless = |said: String| assert!(!said.contains(['\u{202e}', '\u{9b}']), "{said:?}");
    let run = desk.command(&["run", &golden, "--kind", "reshaper", "--input", &input]).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let body: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(body["payload"]["name"], name, "it means the same: {said}");
    is_harmless(said);
    let rules = r#"[{"key": "thanks", "name": "Thanks", "trigger": "a.b"}]"#;
    let run = ["run", &golden, "--kind", "mapper", "--input", &input, "--rules", rules];
    is_harmless(desk.check(&run, 0, &[r#""name": "\u202eright to left\u009b2J""#]));

    desk.write("notes/fixtures/one/input.json", &input);
    desk.write("notes/fixtures/one/expect.json", r#"{"kind": "dropped", "value": "never"}"#);
    is_harmless(desk.check(&["test", "notes", "--wasm", &golden], 9, &["\\u{202e}right to left\\u{9b}2J"]));
}

#[test]
fn a_budget_fails_the_test_with_what_was_used_and_allowed() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "[budget]\nfuel = 100\nmemory_bytes = 65_536\n");
    desk.write("notes/fixtures/one/input.json", "{}");
    let test = ["test", "notes", "--wasm", &golden, "--update"];
    let words = ["too much", "units of fuel, and plugin.toml allows 100", "bytes of memory", "before (nothing)"];
    desk.check(&test, 9, &words);
    desk.golden("notes", "reshaper", "[budget]\nfuel = 100_000_000\n");
    desk.check(&test, 0, &["ok: 1 fixtures"]);
    let bench = ["bench", "notes", "--wasm", &golden];
    let said = desk.check(&bench, 0, &["budget: fuel"]);
    // The bytes of the answer, as the limit counts them.
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("notes/fixtures/one/expect.json")).unwrap()).unwrap();
    let bytes = expected["value"].to_string().len().to_string();
    let row = said.lines().find(|line| line.starts_with("output_bytes_max")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some(bytes.as_str()), "{row}");
    for seconds in ["0", "61"] {
        desk.check(&[&bench[..], &["--seconds", seconds]].concat(), 2, &["--seconds", "is not in 1..=60"]);
    }
}

#[test]
fn a_component_is_told_all_that_is_wrong_with_it_at_once() {
    let desk = Desk::new();
    let text = r#"(component (import "wasi:cli/environment@0.2.0" (instance)) (import "hookloom:plugin/host@9.0.0" (instance)))"#;
    fs::write(desk.path("old.wasm"), wat::parse_str(text).unwrap()).unwrap();
    let words =
        ["refused [unknown_contract]", "9.0.0", "refused [forbidden_imports]", "without WASI", "refused [no_export]"];
    desk.check(&["check", "old.wasm"], 3, &words);
    desk.check(&["run", "old.wasm", "--input", "{}"], 3, &["refused [unknown_contract]"]);
    desk.check(&["check", "none.wasm"], 1, &["none.wasm"]);
}

#[test]
fn a_machine_that_can_keep_nothing_says_so_and_works() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    let check_with = |cache: &str, words: &[&str]| {
        let mut command = desk.command(&["check", &golden]);
        check(command.env("XDG_CACHE_HOME", desk.path(cache)), 0, &[&["ok: mapper and reshaper"], words].concat())
    };
    assert!(!check_with("good", &[]).contains("not kept"));
    desk.write("file", "");
    check_with("file", &["what is compiled here is not kept: could not make", "file/hookloom"]);
    desk.write("key/hookloom/compiled.key", "short");
    check_with("key", &["is not kept", "key/hookloom/compiled.key", "it must have 32 bytes: remove it"]);
    desk.write("folder/hookloom/compiled", "");
    check_with("folder", &["is not kept: open the cache folder", "folder/hookloom/compiled"]);
    // A folder in the place of what is kept can't be written over.
    let compiled = desk.path("good/hookloom/compiled");
    for entry in fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>() {
        fs::remove_file(&entry).unwrap();
        fs::create_dir(entry).unwrap();
    }
    check_with("good", &["what is compiled here is not kept: its folder can't be written, or the disk is full"]);
}

#[test]
fn a_component_that_does_both_is_accepted_and_a_call_of_it_is_asked_for_its_kind() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    desk.check(&["check", &golden], 0, &["ok: mapper and reshaper"]);
    let run = ["run", &golden, "--input", "{}"];
    desk.check(&run, 1, &["maps and reshapes", "--kind"]);
    let said = desk.check(&[&run[..], &["--kind", "reshaper"]].concat(), 0, &["fuel"]);
    assert!(!said.contains("maps and reshapes"), "{said}");
}

#[test]
fn run_takes_what_a_fixture_has() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "mapper", "");
    desk.write("rules.json", r#"[{"key": "thank-you", "trigger": "job_completed"}]"#);
    let run = |kind: &str, input: &str, code: i32, words: &[&str]| {
        let run = ["run", &golden, "--kind", kind, "--input", input, "--rules", "@rules.json"];
        // However it is laid out, and quoted within a string.
        let bare = |text: &str| text.replace(['\\', ' ', '\n'], "");
        let said = bare(&desk.check(&run, code, &[]));
        for word in words {
            assert!(said.contains(&bare(word)), "`{word}` is missing in {said}");
        }
    };
    run("mapper", r#"{"name": "Ada"}"#, 0, &[r#"["thank-you", "thank-you", "job_completed"]"#, r#""name": "Ada""#]);
    let event = r#"{"kind": "map", "event": {"id": "evt_9", "payload": {"name": "Bo"}},
        "rules": [{"key": "own", "name": "Own", "trigger": "t"}]}"#;
    run("mapper", event, 0, &[r#"["own", "Own", "t"]"#, r#""id": "evt_9""#, r#""name": "Bo""#]);
    let message = r#"{"kind": "reshape", "origin": "human", "eventType": "a.b", "payload": {"name": "Cy"}}"#;
    run("reshaper", message, 0, &[r#""origin":"human""#, r#""eventType":"a.b""#, r#""payload":{"name":"Cy"}"#]);
    run("reshaper", r#"{"eventType": "a.b"}"#, 0, &[r#""eventType":"a.b","id""#]);
    let told = ["run", &golden, "--kind", "reshaper", "--input", message, "--event-type", "c.d"];
    desk.check(&told, 0, &[r#""eventType":"c.d""#]);
    for kind in ["mapper", "reshaper"] {
        run(kind, "not json", 1, &["--input is no JSON", "line 1 column 2"]);
    }
    run("mapper", r#"{"kind": "map"}"#, 1, &["--input", "missing field `event`"]);
    desk.write("rules.json", "{}");
    run("mapper", "{}", 1, &["--rules must be an array"]);
}

#[test]
fn a_file_that_is_too_long_to_be_a_replay_is_not_read_to_its_end() {
    let desk = Desk::new();
    fs::File::create(desk.path("long.json")).unwrap().set_len((128 << 20) + 1).unwrap();
    desk.check(&["replay", "long.json"], 5, &["long.json has more than 134217728 bytes: that is no replay file"]);
}

#[test]
fn a_missing_compiler_has_an_exit_code_of_its_own() {
    let desk = Desk::new();
    desk.check(&["new", "notes", "--kind", "reshaper"], 0, &[]);
    // A machine with the plainest tools only.
    fs::create_dir(desk.path("bin")).unwrap();
    for tool in ["bash", "mkdir", "sed", "flock", "cat", "rm", "id"] {
        let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        let found = found.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, desk.path("bin").join(tool)).unwrap();
    }
    let mut command = desk.command(&["test", "notes"]);
    command.env("PATH", desk.path("bin")).env("HOOKLOOM_WASM_TOOLCHAIN", "rustup");
    command.env("HOOKLOOM_TOOLCHAIN_DIR", desk.path("toolchain"));
    check(&mut command, 8, &["rustup target add wasm32-unknown-unknown"]);
}

/// Tests a new project on a machine that has these programs alone, each a line of shell.
#[track_caller]
fn check_missing(language: &str, programs: &[(&str, &str)], missing: &str) {
    let desk = Desk::new();
    desk.check(&["new", "notes", "--kind", "reshaper", "--lang", language], 0, &[]);
    for (program, line) in programs {
        desk.script(&format!("bin/{program}"), line);
    }
    check(desk.command(&["test", "notes"]).env("PATH", desk.path("bin")), 8, &[missing]);
}

#[test]
fn each_missing_tool_is_named_with_the_command_that_installs_it() {
    let clang = "there is no clang here: `apt-get install clang lld`";
    check_missing("c", &[], clang);
    let linker = "there is no wasm-ld here: `apt-get install clang lld`";
    let no_such =
        r#"echo 'clang: error: unable to execute command: Executable "wasm-ld-14" doesn'"'"'t exist!' >&2; exit 1"#;
    check_missing("c", &[("clang", no_such)], linker);
    let no_name = "echo \"clang: error: invalid linker name in '-fuse-ld=lld'\" >&2; exit 1";
    check_missing("c", &[("clang", no_name)], linker);
    let node = "there is no node here: `apt-get install nodejs npm`";
    check_missing("js", &[], node);
    check_missing("js", &[("npm", "exec node")], node);
    check_missing("js", &[("node", "exit 0")], "there is no npm here: `apt-get install nodejs npm`");
    let python = "there is no python3 here: `apt-get install python3 python3-venv`";
    check_missing("python", &[], python);
    let no_venv = "echo 'not created successfully because ensurepip is not available.'; exit 1";
    let venv = "there is no python3 with venv here: `apt-get install python3 python3-venv`";
    check_missing("python", &[("python3", no_venv)], venv);
}

#[test]
fn a_gateway_that_is_not_there_or_none_is_told_from_a_wrong_address() {
    let desk = Desk::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://{closed}");
    let logs = ["logs", "--plugin", "notes", "--app", "shop", "--server"];
    let with = |server: &str| -> Command {
        let mut command = desk.command(&[&logs[..], &[server]].concat());
        command.env("HOOKLOOM_TOKEN", "hl_nobody");
        command
    };
    check(&mut with(&server), 10, &[&format!("the gateway at {server} can't be reached"), "is --server right"]);
    let said = check(&mut with(&server), 10, &["refused"]);
    assert_eq!(said.matches("refused").count(), 1, "the cause is told once: {said}");
    check(&mut with("shop"), 1, &["--server shop is no URL"]);
    check(&mut with("ftp://shop"), 1, &["https:// or http://"]);
    check(
        with(&server).env("HOOKLOOM_TOKEN", "hl_one\nhl_two"),
        1,
        &["HOOKLOOM_TOKEN must hold a key and nothing else"],
    );
    desk.check(&[&logs[..], &[&server]].concat(), 1, &["HOOKLOOM_TOKEN", "--token-file"]);
    desk.check(&["logs", "--plugin", "notes"], 2, &["--server", "--app"]);
    desk.check(&["activate", "plv_1", "--app", "shop", "--server", &server], 6, &["--plugin", "plugin.toml"]);
}

/// A server that gives its visitors one answer after the other; what they asked comes out of the thread.
fn answering(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || answers.iter().map(|answer| converse(&listener, answer)).collect());
    (server, asked)
}

fn converse(listener: &TcpListener, answer: &[u8]) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut asked, mut body) = (String::new(), 0);
    while !asked.ends_with("\r\n\r\n") {
        let begin = asked.len();
        assert_ne!(reader.read_line(&mut asked).unwrap(), 0, "{asked}");
        body = asked[begin..].strip_prefix("content-length: ").map_or(body, |bytes| bytes.trim().parse().unwrap());
    }
    std::io::copy(&mut reader.take(body), &mut std::io::sink()).unwrap();
    // Who has heard enough hangs up.
    let _ = stream.write_all(answer);
    asked
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

#[test]
fn each_strange_answer_is_told_as_what_it_is() {
    let desk = Desk::new();
    let check_answer = |answer: Vec<u8>, words: &[&str]| {
        let (server, asked) = answering(vec![answer]);
        let mut command = desk.command(&["logs", "--plugin", "notes", "--app", "shop", "--server", &server]);
        let said = check(command.env("HOOKLOOM_TOKEN", "hl_nobody"), 10, words);
        assert!(!said.contains("plugin=notes"), "the query is cut: {said}");
        assert!(asked.join().unwrap()[0].contains("authorization: Bearer hl_nobody"));
        said
    };
    let elsewhere = answer("308 Permanent Redirect", "location: https://other.example/api\r\n", "");
    check_answer(
        elsewhere,
        &["/api/v1/app/shop/call answered 308", "sends on to https://other.example/api", "--server"],
    );
    check_answer(answer("503 Service Unavailable", "", "<html>"), &["answered 503", "out of order", "<html>"]);
    check_answer(answer("200 OK", "", "\u{1b}[2Jhello"), &["answered 200 OK and no JSON", "\\u{1b}[2Jhello"]);
    let endless = answer("200 OK", "", &"x".repeat(65 << 20));
    check_answer(endless, &["answered more than 64 MiB"]);
}

#[test]
fn a_proxy_of_the_environment_is_gone_through_unless_the_gateway_is_on_this_machine() {
    let desk = Desk::new();
    let logs = ["logs", "--plugin", "notes", "--app", "shop", "--server"];
    let (proxy, asked) = answering(vec![answer("200 OK", "", r#"{"data": [], "done": true}"#)]);
    let with = |server: &str| -> Command {
        let mut command = desk.command(&[&logs[..], &[server]].concat());
        command
            .env("HOOKLOOM_TOKEN", "hl_nobody")
            .env("http_proxy", &proxy)
            .env_remove("no_proxy")
            .env_remove("NO_PROXY");
        command
    };
    check(&mut with("http://hooks.invalid"), 0, &["no calls"]);
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("GET http://hooks.invalid/api/v1/app/shop/call?plugin=notes"), "{asked:?}");
    let (server, _) = answering(vec![answer("200 OK", "", r#"{"data": [], "done": true}"#)]);
    check(&mut with(&server), 0, &["no calls"]);
}

#[test]
fn settings_stand_in_no_address() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    let found = answer("200 OK", "", r#"{"id": "plg_1", "activeVersion": null}"#);
    let (server, asked) = answering(vec![found, answer("502 Bad Gateway", "", "no")]);
    desk.write("settings.json", "{\n  \"token\": \"h\u{fc}sh \u{1f600}\u{7f}\"\n}\n");
    let push = ["push", "notes", "--wasm", &golden, "--app", "shop", "--server", &server];
    let push = [&push[..], &["--settings", "@settings.json"]].concat();
    let said = check(desk.command(&push).env("HOOKLOOM_TOKEN", "hl_nobody"), 10, &["version answered 502"]);
    assert!(!said.contains("token") && !said.contains("h\u{fc}sh"), "{said}");
    let asked = asked.join().unwrap();
    assert!(asked[1].starts_with("POST /api/v1/app/shop/plugin/plg_1/version HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[1].contains(r#"hookloom-settings: {   "token": "h\u00fcsh \ud83d\ude00\u007f" }"#), "{asked:?}");
}

/// What a gateway answers to a push of the golden plugin until its backtest, and then.
fn pushing(rest: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let begin = [
        r#"{"id": "plg_1", "activeVersion": "plv_1"}"#.to_owned(),
        r#"{"id": "plv_2\u001b[2J"}"#.to_owned(),
        backtest("queued", ""),
    ];
    answering(begin.iter().map(|body| answer("200 OK", "", body)).chain(rest).collect())
}

fn backtest(state: &str, samples: &str) -> String {
    let counts = r#"{"changed": 1}"#;
    format!(
        r#"{{"id": "bkt_1", "state": "{state}", "reason": "b\u001b[2Jc", "done": 7, "skipped": 0, "counts": {counts},
        "fuel": {{"baseline": null, "candidate": null}}, "samples": [{samples}]}}"#
    )
}

fn push(desk: &Desk, server: &str, more: &[&str]) -> Command {
    let golden = desk.golden("notes", "reshaper", "");
    let push = ["push", "notes", "--wasm", &golden, "--app", "shop", "--server", server];
    let mut command = desk.command(&[&push[..], more].concat());
    command.env("HOOKLOOM_TOKEN", "hl_nobody");
    command
}

#[test]
fn what_stands_in_the_environment_is_there_for_the_next_command_too() {
    let desk = Desk::new();
    let (server, _) = pushing(Vec::new());
    let mut push = push(&desk, &server, &["--backtest-wait", "0"]);
    push.env("HOOKLOOM_APP", "shop").env("HOOKLOOM_SERVER", &server);
    check(&mut push, 1, &["activate 'plv_2\\u{1b}[2J' --plugin notes` makes it live"]);
}

#[test]
fn a_backtest_is_waited_for_over_what_fails_in_passing() {
    let desk = Desk::new();
    let difference = r#"{"path": "/a\u001b[2J", "before": "1", "after": "\u009b2J"}"#;
    let sample =
        format!(r#"{{"input": "evt\u001b[2J", "change": "changed", "differences": [{difference}], "more": 3}}"#);
    let rest = vec![
        answer("503 Service Unavailable", "", "<html>"),
        answer("429 Too Many Requests", "", r#"{"code": "too_many", "detail": "later"}"#),
        answer("200 OK", "", &backtest("running", "")),
        answer("200 OK", "", &backtest("finished", &sample)),
    ];
    let (server, asked) = pushing(rest);
    let by_hand = format!("hookloom plugin activate 'plv_2\\u{{1b}}[2J' --plugin notes --server {server} --app shop");
    // What a gateway says does not steer the terminal.
    let words = [
        "uploaded notes plv_2\\u{1b}[2J",
        "on 7 recorded inputs",
        "evt\\u{1b}[2J changed",
        "/a\\u{1b}[2J",
        "active 1",
        "new    \\u{9b}2J",
        "and 3 more differences",
        &by_hand,
    ];
    check(&mut push(&desk, &server, &[]), 0, &words);
    assert!(asked.join().unwrap()[6].starts_with("GET "));

    let (server, _) = pushing(vec![answer("200 OK", "", &backtest("failed", ""))]);
    let words = ["the backtest is failed: b\\u{1b}[2Jc", "not compared", "makes it live all the same"];
    check(&mut push(&desk, &server, &["--activate"]), 1, &words);
}

#[test]
fn a_backtest_is_not_waited_for_without_end() {
    let desk = Desk::new();
    let (server, _) = pushing(Vec::new());
    let words = ["the backtest bkt_1 has looked at 7 inputs", "--backtest-wait", "hookloom plugin activate 'plv_2"];
    check(&mut push(&desk, &server, &["--backtest-wait", "0"]), 1, &words);
    // A gateway that is out of order for good.
    let (server, asked) = pushing(vec![answer("503 Service Unavailable", "", "<html>"); 5]);
    check(&mut push(&desk, &server, &[]), 10, &["answered 503", "out of order"]);
    assert_eq!(asked.join().unwrap().len(), 8);
    // What does not pass is not asked for again.
    let forbidden = answer("403 Forbidden", "", r#"{"code": "forbidden", "detail": "no"}"#);
    let (server, asked) = pushing(vec![forbidden]);
    check(&mut push(&desk, &server, &[]), 11, &["refused the key: no"]);
    assert_eq!(asked.join().unwrap().len(), 4);
}

/// A call as a gateway lists it.
fn call(id: &str) -> String {
    format!(
        r#"{{"id": "{id}", "createdAt": "2026-06-30T17:40:00.000Z", "outcome": "dropped", "detail": "of {id}\u001b[2J", "failure": null,
        "fuelUsed": 7, "durationUs": 1, "memoryPeakBytes": 1024,
        "logs": {{"lines": [{{"level": "info", "message": "log\u001b[2J of {id}", "cut": false}}], "cut": false}}}}"#
    )
}

#[test]
fn logs_go_on_with_each_new_call_until_they_are_stopped() {
    let desk = Desk::new();
    let page = |calls: &[&str], done: bool| {
        let calls: Vec<String> = calls.iter().map(|id| call(id)).collect();
        answer("200 OK", "", &format!(r#"{{"data": [{}], "done": {done}}}"#, calls.join(", ")))
    };
    let (server, asked) = answering(vec![
        page(&["call_2", "call_1"], false),
        answer("503 Service Unavailable", "", "<html>"),
        page(&["call_3"], false),
        page(&["call_4"], true),
        page(&[], true),
        page(&["call_5"], true),
    ]);
    let mut command = desk.command(&["logs", "--plugin", "notes", "--app", "shop", "--follow", "--server", &server]);
    let mut logs = Running::start(command.env("HOOKLOOM_TOKEN", "hl_nobody"));
    for id in ["call_1", "call_2", "call_3", "call_4", "call_5"] {
        logs.says(&format!("{id} · fuel 7"));
        logs.says(&format!("of {id}\\u{{1b}}[2J"));
        logs.says(&format!("info log\\u{{1b}}[2J of {id}"));
    }
    let asked = asked.join().unwrap();
    let after = asked.iter().map(|asked| asked.split_once("&iterator=").and_then(|(_, id)| id.split(' ').next()));
    let expected = [None, Some("call_2"), Some("call_2"), Some("call_3"), Some("call_4"), Some("call_4")];
    assert_eq!(after.collect::<Vec<_>>(), expected, "{asked:?}");
    assert!(asked[1].contains("order=ascending"), "{asked:?}");
}

#[test]
fn a_push_needs_a_project() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    let mut push = desk.command(&["push", "--wasm", &golden, "--app", "shop", "--server", "http://127.0.0.1:1"]);
    check(push.env("HOOKLOOM_TOKEN", "hl_nobody"), 6, &["there is no plugin.toml in .", "hookloom plugin new NAME"]);
}

#[test]
fn watch_runs_again_after_a_change() {
    let desk = Desk::new();
    let golden = desk.golden("notes", "reshaper", "");
    desk.write("notes/fixtures/one/input.json", "{}");
    desk.check(&["test", "notes", "--wasm", &golden, "--update"], 0, &[]);
    desk.check(&["watch", "notes", "--runs", "0"], 2, &["--runs", "0 is not in 1.."]);
    fs::copy(golden, desk.path("taken.wasm")).unwrap();
    let mut command = desk.command(&["watch", "notes", "--wasm", "taken.wasm", "--runs", "3"]);
    let mut watch = Running::start(&mut command);
    let waiting = "waiting for a change in notes or taken.wasm";
    watch.says(waiting);
    desk.write("notes/fixtures/one/expect.json", r#"{"kind": "dropped", "value": "never"}"#);
    for words in ["expect.json changed", "differs", waiting] {
        watch.says(words);
    }
    fs::write(desk.path("taken.wasm"), "no component").unwrap();
    watch.says("taken.wasm changed");
    assert_eq!(watch.child.wait().unwrap().code(), Some(3));
}

#[test]
fn builds_of_a_project_wait_for_each_other_and_put_a_new_component_in_place_of_the_old() {
    let desk = Desk::new();
    desk.check(&["new", "notes", "--kind", "reshaper", "--lang", "c"], 0, &[]);
    desk.check(&["build", "notes"], 0, &[]);
    let built = desk.path("notes/build/notes.wasm");
    let before = desk.path("before.wasm");
    fs::hard_link(&built, &before).unwrap();
    let other = fs::File::open(desk.path("notes/build/notes.lock")).unwrap();
    other.lock().unwrap();
    let mut build = Command::new("sh");
    build.args(["-c", r#"exec "$0" plugin build notes 2>&1"#, env!("CARGO_BIN_EXE_hookloom")]);
    let mut build = Running::start(build.current_dir(desk.0.path()));
    build.says("waiting for another build here");
    drop(other);
    assert_eq!(build.child.wait().unwrap().code(), Some(0));
    let file = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_ne!(file(&built), file(&before), "who reads the old one has the whole of it");
}

#[test]
fn watch_builds_again_after_a_change_and_not_after_its_own_builds() {
    let desk = Desk::new();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk/c");
    copy(&sdk, &desk.path("sdk"));
    let sdk = desk.path("sdk").canonicalize().unwrap();
    let new = ["new", "notes", "--kind", "reshaper", "--lang", "c", "--sdk", sdk.to_str().unwrap()];
    desk.check(&new, 0, &[]);
    let mut watch = Running::start(&mut desk.command(&["watch", "notes", "--runs", "4"]));
    let waiting = format!("waiting for a change in notes or {}", sdk.display());
    watch.says("ok: 2 fixtures");
    watch.says(&waiting);
    // Each is the first to be told of, so nothing that a build has written is seen; `build` stands before all others.
    let source = fs::read_to_string(desk.path("notes/src/plugin.c")).unwrap();
    for (file, text) in [("notes/src/plugin.c", format!("{source}\nbroken")), ("notes/src/plugin.c", source)] {
        desk.write(file, &text);
        assert_eq!(watch.says(" changed"), format!("{file} changed"));
        watch.says(&waiting);
    }
    let header = desk.path("sdk/include/hookloom.h");
    desk.write("sdk/include/hookloom.h", &format!("{}\n", fs::read_to_string(&header).unwrap()));
    watch.says("sdk/include/hookloom.h changed");
    watch.says("ok: 2 fixtures");
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}

/// A command that goes on until it is stopped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (send, lines) = mpsc::sync_channel(1_000);
        std::thread::spawn(move || said.map(|line| send.send(line)).find(Result::is_err));
        Running { child, lines }
    }

    /// Waits for a line with these words, and answers it; one that never comes ends the test.
    #[track_caller]
    fn says(&mut self, words: &str) -> String {
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

#[test]
fn a_small_reshaper_is_small() {
    let desk = Desk::new();
    desk.check(&["new", "hello", "--kind", "reshaper"], 0, &[]);
    desk.write("hello/src/lib.rs", HELLO);
    // The names of functions are a sixth of it: for an author who would rather have backtraces, they stay.
    let manifest = fs::read_to_string(desk.path("hello/Cargo.toml")).unwrap();
    desk.write("hello/Cargo.toml", &manifest.replace("strip = \"debuginfo\"", "strip = true"));
    desk.write("hello/fixtures/inbound/expect.json", r#"{"kind": "replaced", "value": {"text": "Hello, Ada Jones"}}"#);
    fs::remove_dir_all(desk.path("hello/fixtures/other-type")).unwrap();
    desk.check(&["test", "hello"], 0, &["ok: 1 fixtures"]);
    let said = desk.check(&["build", "hello", "--release"], 0, &["hello.wasm"]);
    let bytes = said.split('(').nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse::<usize>().unwrap();
    assert!(bytes < 60 * 1024, "{said}");
}

const HELLO: &str = r#"
use hookloom_plugin::{Failure, Message, Reshaped};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Chat {
    name: String,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

#[hookloom_plugin::reshaper]
fn reshape(message: Message<Chat>) -> Result<Reshaped, Failure> {
    Reshaped::replaced(&Text { text: format!("Hello, {}", message.payload.name) })
}
"#;
