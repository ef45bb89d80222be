//! `hookloom plugin new`: a project that builds and passes its test at once.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    cli::{
        shell::word,
        style::{DIM, GOOD, RESET},
    },
    project::{Kind, Language, sdk::Sdk, template::NewProject},
};

#[derive(Debug, clap::Args)]
pub struct NewArguments {
    /// The plugin's name: lower-case letters, digits and `-`.
    name: String,
    /// What it is written in.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// What it does.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The folder to make; without it the plugin's name.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The SDK to build with: a folder, or a version from the language's registry. Without it this program's own is copied into the
    /// project.
    #[arg(long, value_name = "PATH_OR_VERSION", value_parser = Sdk::parse)]
    sdk: Option<Sdk>,
}

pub fn run(arguments: &NewArguments) -> anyhow::Result<ExitCode> {
    let NewArguments { name, lang, kind, dir, sdk } = arguments;
    let dir = dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let new = NewProject { name, language: *lang, kind: *kind, sdk: sdk.clone().unwrap_or(Sdk::Copied) };
    let project = new.write(&dir)?;
    anstream::println!("{GOOD}made{RESET} {}: a {} in {}", dir.display(), project.kind, project.language);
    anstream::println!("{DIM}next:{RESET} cd {} && hookloom plugin test", word(&dir.to_string_lossy()));
    Ok(ExitCode::SUCCESS)
}
