//! No system call on the path of a call: counted by a tracer on the calling thread, in steady state.
//!
//! A program of its own instead of a test harness: it runs itself again as the traced program.

#[cfg(target_os = "linux")]
#[path = "../../host/runtime/benches/runtime/trace.rs"]
mod trace;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

/// Elsewhere there is nothing to trace with.
#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::hint::black_box;

    use anyhow::{Context, Result, ensure};
    use hookloom_runtime::{Input, Limits, Message, Origin, Outcome, Plugin, Request, Runtime, RuntimeConfig};
    use hookloom_tests::plugins;

    use super::trace::{self, Count};

    /// Calls before and while it is counted.
    const WARM_UP: usize = 1000;
    const CALLS: u64 = 100;

    pub fn main() -> Result<()> {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if let [flag, component] = arguments.as_slice()
            && flag == "--traced"
        {
            return traced(component);
        }
        // What a harness is asked by tools that list tests.
        if arguments.iter().any(|argument| argument == "--list") {
            println!("system_calls: test");
            return Ok(());
        }
        check("bench-sdk-dyn", 0)?;
        // The allocator of std grows the memory: the new pages are opened for it, and closed and given back afterwards.
        check("bench-std-dyn", 3)
    }

    fn check(package: &str, most: u64) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let component = folder.path().join("guest.wasm");
        std::fs::write(&component, plugins::bench(package))?;
        let program = env::current_exe().context("find this program")?;
        let counted = trace::count(&program, &["--traced".as_ref(), component.as_ref()], Count::SystemCalls)?;
        println!("{package}: {counted} system calls in {CALLS} calls");
        // A deadline's tick costs none on this thread; the allocator of this process may ask the system for memory once.
        ensure!(
            counted <= most * CALLS + 1,
            "{package}: {counted} system calls in {CALLS} calls, {most} a call are allowed"
        );
        Ok(())
    }

    fn traced(component: &str) -> Result<()> {
        trace::begin()?;
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let plugin = runtime.compile(&std::fs::read(component)?)?;
        let request = request();
        for _ in 0..WARM_UP {
            call(&plugin, &request);
        }
        trace::mark();
        trace::mark();
        for _ in 0..CALLS {
            call(&plugin, &request);
        }
        trace::mark();
        Ok(())
    }

    fn call(plugin: &Plugin, request: &Request) {
        let report = black_box(plugin.call(request));
        assert!(matches!(report.outcome, Outcome::Replaced(_)), "{:?}", report.outcome);
    }

    fn request() -> Request {
        let message = Message {
            id: "msg_1".to_owned(),
            event_type: "message.inbound".to_owned(),
            created_at: "2026-06-30T17:40:00.000Z".to_owned(),
            origin: Origin::Human,
            medium: None,
            channels: Vec::new(),
            payload: r#"{"id":"1","event":"message.inbound","data":{"name":"Ann","source":"Textchat"}}"#.to_owned(),
        };
        Request { input: Input::Reshape(message), settings: "{}".into(), limits: Limits::default() }
    }
}
