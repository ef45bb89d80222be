//! What an author does with a gateway, and what one may answer.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::Command,
    thread::JoinHandle,
};

use super::desk::{Desk, Running, check};

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
