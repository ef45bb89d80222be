//! What an author does with the real binary on projects: its output, and an exit code for each thing that can be wrong.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod desk;
mod gateway;
mod watch;

use std::{fs, path::Path, process::Command};

use desk::{Desk, check};

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
