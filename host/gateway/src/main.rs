//! The `hookloom` binary: parse the arguments, run, turn the result into an exit code.

use std::process::ExitCode;

use clap::Parser;
use hookloom::cli::{self, Arguments};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: this program compiles plugins in children of its own kind.
    hookloom_runtime::run_if_compile_child();
    let arguments = Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{}error:{} {error:#}", cli::style::ERROR, cli::style::RESET);
            cli::exit::Exit::of(&error).into()
        }
    }
}
