//! `hookloom plugin build` and `check`: what is uploaded, what makes it large, and all that stands against it.

use std::{path::PathBuf, process::ExitCode};

use super::{
    component::{self, Component, Refused},
    size::Size,
};
use crate::cli::{
    ConfigArguments,
    exit::Exit,
    style::{ERROR, GOOD, RESET},
};

#[derive(Debug, clap::Args)]
pub struct BuildArguments {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Say which parts of the component have how many bytes, and how it gets smaller.
    #[arg(long)]
    release: bool,
}

#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// The component, a .wasm file; or the folder of a project, which is built.
    #[arg(default_value = ".")]
    component: PathBuf,
    #[command(flatten)]
    config: ConfigArguments,
}

pub fn build(arguments: &BuildArguments) -> anyhow::Result<ExitCode> {
    let component = Component::build(&arguments.dir)?;
    anstream::println!("{} ({} bytes)", component.path.display(), component.bytes.len());
    if arguments.release {
        anstream::print!("{}", Size::of(&component.bytes));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let project = component::project_in(&arguments.component)?;
    let component = Component::of(&arguments.component)?;
    let runtime = component::runtime(&config)?;
    let objections = runtime.objections(&component.bytes);
    if !objections.is_empty() {
        return Ok(refuse(objections.into_iter().map(Refused::from).collect()));
    }
    // A component alone may do both; a project says which of them is called.
    let accepted = component.compile(&runtime, &config).and_then(|plugin| {
        if let Some(project) = &project {
            component::kind(&plugin, Some(project.kind))?;
        }
        Ok(plugin)
    });
    let plugin = match accepted {
        Ok(plugin) => plugin,
        Err(error) => return Ok(refuse(vec![error.downcast::<Refused>()?])),
    };
    let kinds = match (plugin.exports().mapper, plugin.exports().reshaper) {
        (true, true) => "mapper and reshaper",
        (true, false) => "mapper",
        (false, _) => "reshaper",
    };
    anstream::println!("{GOOD}ok{RESET}: {kinds}, contract {}, {} bytes", plugin.contract(), plugin.bytes_len());
    anstream::println!("{}", plugin.digest());
    Ok(ExitCode::SUCCESS)
}

fn refuse(objections: Vec<Refused>) -> ExitCode {
    for Refused { code, detail } in objections {
        anstream::eprintln!("{ERROR}refused{RESET} [{code}]: {detail}");
    }
    Exit::PluginRefused.into()
}
