//! What an editor shows an author: the SDKs' types hold for new projects and refuse what the gateway would refuse, and TypeScript is
//! delivered as JavaScript is.
//!
//! The checkers are pinned in `tests/languages`; the first run needs the registries.

use hookloom_tests::python::{self, environment};

use super::*;

/// The programs that look at types, and plugins for them.
fn here() -> PathBuf {
    plugins::root().join("tests/languages")
}

/// A checker from npm, to be run in a project.
fn checker(name: &str, dir: &Path) -> Command {
    toolchain::install_npm_packages(&here(), &mut |note| eprintln!("{note}")).unwrap();
    let mut command = Command::new(here().join("node_modules/.bin").join(name));
    command.current_dir(dir);
    command
}

/// TypeScript's judgment of a project in JavaScript or TypeScript.
pub fn typescript(dir: &Path) -> Result<String, String> {
    toolchain::install_npm_packages(dir, &mut |note| eprintln!("{note}")).unwrap();
    python::run(checker("tsc", dir).args(["--project", "jsconfig.json"]))
}

/// Mypy's judgment of some files, in the oldest version of the language that the SDK takes.
pub fn mypy(dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(environment(&here().join("checkers.txt")).unwrap().join("bin/mypy"));
    command.args(["--strict", "--python-version", "3.10"]).args(arguments).current_dir(dir);
    python::run(command.env("MYPYPATH", "vendor/hookloom-plugin"))
}

/// What the project's own settings make an editor show that has Pyright, as Pylance does.
fn pyright(dir: &Path) -> Result<String, String> {
    python::run(checker("pyright", dir).arg("--warnings"))
}

#[track_caller]
fn refused(judgment: Result<String, String>, words: &str) {
    let said = judgment.unwrap_err();
    assert!(said.contains(words), "`{words}` is missing in: {said}");
}

#[test]
fn the_types_of_the_sdk_in_javascript_hold_for_new_projects_and_refuse_what_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, right, wrong) in [
        (Kind::Mapper, "({ rule: key,", "({ rules: key,"),
        (Kind::Reshaper, "replaced({ text: `${chat.name}: ${chat.message}` })", "`${chat.name}: ${chat.message}`"),
    ] {
        let dir = new_project(folder.path(), Language::Js, kind);
        typescript(&dir).unwrap();
        edit(&dir.join("src/plugin.js"), |text| text.replace(right, wrong));
        refused(typescript(&dir), "src/plugin.js(");
    }
}

#[test]
fn the_types_of_the_sdk_in_javascript_are_of_what_it_has() {
    let names = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(plugins::root().join("plugin-sdk/js").join(file)).unwrap();
        let values = text.lines().filter_map(|line| {
            let named = ["export class ", "export function "].iter().find_map(|begin| line.strip_prefix(begin))?;
            named.split(|character: char| !character.is_alphanumeric()).next().map(str::to_owned)
        });
        values.collect()
    };
    let typed = names("index.d.ts");
    assert!(typed.contains(&"defineReshaper".to_owned()), "{typed:?}");
    assert_eq!(typed, names("index.js"));
}

/// A project with the plugin of the same kind in TypeScript from here.
fn in_typescript(folder: &Path, kind: Kind) -> PathBuf {
    let dir = new_project(folder, Language::Js, kind);
    fs::remove_file(dir.join("src/plugin.js")).unwrap();
    fs::copy(here().join(format!("{kind}.ts")), dir.join("src/plugin.ts")).unwrap();
    dir
}

#[tokio::test]
async fn a_new_project_in_typescript_is_delivered_through_a_gateway() {
    check_components(|folder, kind| {
        let dir = in_typescript(folder, kind);
        typescript(&dir).unwrap();
        plugins::project(&dir)
    })
    .await;
}

#[test]
fn typescript_is_told_where_it_is_wrong_before_and_in_a_call() {
    let folder = tempfile::tempdir().unwrap();
    let dir = in_typescript(folder.path(), Kind::Reshaper);
    let plugin = dir.join("src/plugin.ts");
    let text = fs::read_to_string(&plugin).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("return `")).unwrap();
    fs::write(&plugin, text.replace("return `${name}: ${message}`", "return name.length")).unwrap();
    refused(typescript(&dir), &format!("src/plugin.ts({line},"));
    fs::write(&plugin, text.replace("return `", "throw new Error(name); return `")).unwrap();
    typescript(&dir).unwrap();
    let detail = match called(&plugins::project(&dir), r#"{"name": "Ada", "message": "Hi"}"#) {
        Outcome::Failed(failure) => failure.detail,
        other => panic!("{other:?}"),
    };
    assert!(detail.contains("Ada") && detail.contains(&format!("src/plugin.ts:{line}")), "{detail}");
}

#[test]
fn the_types_of_the_sdk_in_python_hold_for_new_projects_and_refuse_what_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let all = ["plugin.py", "test_plugin.py", "vendor/hookloom-plugin/hookloom_plugin"];
    for (kind, right, wrong, answer) in [
        (Kind::Mapper, "RuleMatch(rule.key,", "RuleMatch(rule.keys,", "-> list[RuleMatch]:"),
        (
            Kind::Reshaper,
            "Replaced({\"text\": f\"{name}: {text}\"})",
            "{\"text\": f\"{name}: {text}\"}",
            "-> Reshaped:",
        ),
    ] {
        let dir = new_project(folder.path(), Language::Python, kind);
        mypy(&dir, &all).unwrap();
        pyright(&dir).unwrap();
        let text = fs::read_to_string(dir.join("plugin.py")).unwrap();
        for wrong in [text.replace(right, wrong), text.replace(answer, "-> object:")] {
            fs::write(dir.join("plugin.py"), wrong).unwrap();
            refused(mypy(&dir, &all), "plugin.py:");
            refused(pyright(&dir), "plugin.py:");
        }
    }
}

/// What a page shows of a plugin in a language.
fn shown(page: &str, language: &str) -> String {
    let page = fs::read_to_string(plugins::root().join(page)).unwrap();
    let block = page.split_once(&format!("```{language}\n")).and_then(|(_, rest)| rest.split_once("```"));
    block.unwrap_or_else(|| panic!("no {language}")).0.to_owned()
}

#[test]
fn what_the_pages_of_the_sdks_show_has_the_types_that_it_needs_and_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (js, python) = (folder.path().join("js"), folder.path().join("python"));
    for dir in [&js, &python] {
        fs::create_dir(dir).unwrap();
    }
    let dir = in_typescript(&js, Kind::Reshaper);
    fs::write(dir.join("src/plugin.ts"), shown("plugin-sdk/js/README.md", "ts")).unwrap();
    typescript(&dir).unwrap();
    let of_typescript = plugins::project(&dir);
    let dir = new_project(&python, Language::Python, Kind::Reshaper);
    fs::write(dir.join("plugin.py"), shown("plugin-sdk/python/README.md", "python")).unwrap();
    mypy(&dir, &["plugin.py"]).unwrap();
    for component in [of_typescript, plugins::project(&dir)] {
        let body: Value = serde_json::from_str(&reshaped(&component, r#"{"name": "Ada", "message": "Hi"}"#)).unwrap();
        assert_eq!(body, json!({ "title": "Ada", "body": "Hi", "type": "note" }));
    }
}
