//! The runtime's bench: `cargo bench -p hookloom-runtime`, or with a part of the names of sections behind `--`.
//!
//! Everything goes through the public synchronous [`Plugin::call`], each call in an instance in which nothing has happened yet, with all
//! limits as shipped (fuel, deadline, memory, output, logs) and Spectre mitigations on. Contenders take turns in one process; ratios are medians
//! of paired rounds. It prints the table and writes `target/bench/runtime.json`.
//!
//! `-- --loop GUEST SECONDS` only calls the component in that file, for a profiler.
//!
//! In reading order: `guests` (what is called), `reshape` (the work, shared with the guests), `sample` (rounds), `hand` (the
//! same by hand on wasmtime), `load` (threads and the executor), `trace` (system calls and instructions), `alone` (what they look at),
//! `ablation` (what each setting brings), `table`.

#[path = "runtime/ablation.rs"]
mod ablation;
#[path = "runtime/alone.rs"]
mod alone;
#[path = "runtime/cache.rs"]
mod cache;
#[path = "runtime/guests.rs"]
mod guests;
#[path = "runtime/hand.rs"]
mod hand;
#[path = "runtime/load.rs"]
mod load;
#[path = "runtime/peers.rs"]
mod peers;
#[path = "guests/reshape/src/lib.rs"]
mod reshape;
#[path = "runtime/sample.rs"]
mod sample;
#[path = "runtime/table.rs"]
mod table;
#[cfg(target_os = "linux")]
#[path = "runtime/trace.rs"]
mod trace;

use std::env;
use std::ffi::OsStr;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hookloom_runtime::{Executor, ExecutorConfig, Outcome, Plugin, Request, Runtime, RuntimeConfig};
use serde_json::{Value, json};

use self::guests::Guests;
use self::hand::{Hand, Knobs};
use self::sample::{contender, paired, percentile};
use self::table::Table;

/// Paired rounds of each comparison, and how long a contender works in each.
const ROUNDS: usize = 21;
const SLICE: Duration = Duration::from_millis(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, guest, calls] = arguments.as_slice()
        && flag == "--traced"
    {
        return alone::traced(guest, calls.parse()?);
    }
    if let [flag, guest, seconds] = arguments.as_slice()
        && flag == "--loop"
    {
        return alone::endless(guest, Duration::from_secs(seconds.parse()?));
    }
    let target = guests::here().join("../../target");
    let out = target.join("bench");
    std::fs::create_dir_all(&out).context("make the folder of the results")?;
    let wanted = |section: &str| arguments.is_empty() || arguments.iter().any(|part| section.contains(part.as_str()));
    let guests = guests::build(&out)?;
    let bench = Bench::new(guests)?;
    let mut table = Table::default();
    let sections: [(&str, Section); 12] = [
        ("calls", Bench::calls),
        ("forms", Bench::forms),
        ("echo", Bench::echo),
        ("scaling", Bench::scaling),
        ("counts", Bench::counts),
        ("executor", Bench::executor),
        ("neighbor", Bench::neighbor),
        ("settings", Bench::settings),
        ("languages", Bench::languages),
        ("peers", Bench::peers),
        ("cache", Bench::cache),
        ("ablation", Bench::ablation),
    ];
    for (name, section) in sections {
        if wanted(name) {
            eprintln!("\n{name}");
            section(&bench, &mut table).with_context(|| format!("section {name}"))?;
        }
    }
    table.finish(&out)
}

/// Measures some of the keys.
type Section = fn(&Bench, &mut Table) -> Result<()>;

/// What every section uses.
struct Bench {
    guests: Guests,
    dynamic: Plugin,
    typed: Plugin,
    std: Plugin,
    echo: Plugin,
    burner: Plugin,
    event: Request,
    smallest: Request,
}

impl Bench {
    fn new(guests: Guests) -> Result<Bench> {
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let compile = |path: &Path| -> Result<Plugin> { Ok(runtime.compile(&std::fs::read(path)?)?) };
        let bench = Bench {
            dynamic: compile(&guests.dynamic)?,
            typed: compile(&guests.typed)?,
            std: compile(&guests.std)?,
            echo: compile(&guests.echo)?,
            burner: compile(&guests.burner)?,
            event: guests::event(),
            smallest: guests::request("{}"),
            guests,
        };
        bench.check();
        Ok(bench)
    }

    /// All do the same work, and what they used of their budgets.
    fn check(&self) {
        let expected: Value = serde_json::from_str(&native_dynamic()).expect("it wrote JSON");
        for (name, plugin) in [("SDK, dynamic", &self.dynamic), ("SDK, typed", &self.typed), ("std", &self.std)] {
            let report = plugin.call(&self.event);
            let Outcome::Replaced(text) = &report.outcome else { panic!("{name}: {:?}", report.outcome) };
            assert_eq!(serde_json::from_str::<Value>(text).expect("it wrote JSON"), expected, "{name}");
            let (fuel, memory) = (report.fuel_used, report.memory_peak_bytes);
            eprintln!(
                "{name}: {fuel} units of fuel, {memory} bytes of memory, {} bytes of component",
                plugin.bytes_len()
            );
        }
        assert_eq!(serde_json::from_str::<Value>(&native_typed()).expect("it wrote JSON"), expected);
        assert_eq!(self.echo.call(&self.smallest).outcome, Outcome::Replaced("{}".to_owned()));
    }

    fn calls(&self, table: &mut Table) -> Result<()> {
        let on_demand = Hand::new(
            Knobs { pooling: false, tuned: false, fuel: false, copy_on_write: true, ..Knobs::best_pool() },
            &self.guests.dynamic,
        )?;
        let defaults = Knobs {
            tuned: false,
            keep_resident: 0,
            keep_tables: 0,
            fuel: false,
            copy_on_write: true,
            ..Knobs::best_pool()
        };
        let pooling = Hand::new(defaults, &self.guests.dynamic)?;
        let mut contenders = [
            contender("native, dynamic", native_dynamic),
            contender("native, typed", native_typed),
            contender("SDK, dynamic", || self.dynamic.call(&self.event)),
            contender("SDK, typed", || self.typed.call(&self.event)),
            contender("std", || self.std.call(&self.event)),
            contender("echo", || self.echo.call(&self.event)),
            contender("wasmtime on demand, dynamic", || on_demand.call(reshape::EVENT)),
            contender("wasmtime pooling with defaults, dynamic", || pooling.call(reshape::EVENT)),
        ];
        let rounds = paired(&mut contenders, ROUNDS, SLICE);
        println!("{:<42} {:>8} {:>8} {:>8} {:>10}", "cost of one transform", "p50 µs", "p99 µs", "× native", "calls/s");
        for one in &mut contenders {
            let mut times: Vec<f64> = (0..20_000).map(|_| timed(&mut one.call)).collect();
            let (p50, ratio) = (rounds.median(one.name), rounds.ratio(one.name, "native, dynamic"));
            let p99 = percentile(&mut times, 0.99);
            println!("{:<42} {p50:>8.2} {p99:>8.2} {ratio:>8.2} {:>10.0}", one.name, 1e6 / p50);
        }
        let mut record = |key: &str, name: &str| {
            let raw = json!({ "us": rounds.median(name), "native_us": rounds.median("native, dynamic") });
            table.record(key, rounds.ratio(name, "native, dynamic"), raw);
        };
        record("sdk_dyn_over_native", "SDK, dynamic");
        record("sdk_typed_over_native_dyn", "SDK, typed");
        record("std_over_native", "std");
        Ok(())
    }

    /// The same plugins as the components that they are, which is how all run whose module can't run alone.
    fn forms(&self, table: &mut Table) -> Result<()> {
        let wrapped = Runtime::new(RuntimeConfig { keep_wrapped: true, ..RuntimeConfig::default() })?;
        let anew = Runtime::new(RuntimeConfig { always_anew: true, ..RuntimeConfig::default() })?;
        println!("{:<42} {:>8} {:>8} {:>9}", "p50 µs by form and instance", "put back", "new", "component");
        let guests = [
            ("SDK, dynamic", &self.dynamic, &self.guests.dynamic, &self.event),
            ("SDK, typed", &self.typed, &self.guests.typed, &self.event),
            ("echo", &self.echo, &self.guests.echo, &self.smallest),
        ];
        for (name, kept, component, request) in guests {
            anyhow::ensure!(kept.is_unwrapped(), "{name} runs as a component");
            let bytes = std::fs::read(component)?;
            let (module, component) = (anew.compile(&bytes)?, wrapped.compile(&bytes)?);
            let mut contenders = [
                contender("kept", || kept.call(request)),
                contender("module", || module.call(request)),
                contender("component", || component.call(request)),
            ];
            let rounds = paired(&mut contenders, ROUNDS, SLICE);
            let [kept, module, component] = ["kept", "module", "component"].map(|name| rounds.median(name));
            println!("{name:<42} {kept:>8.2} {module:>8.2} {component:>9.2}");
            if name == "SDK, typed" {
                let raw = json!({ "put_back_us": kept, "new_us": module, "component_us": component });
                table.record("module_over_component", rounds.ratio("module", "component"), raw.clone());
                table.record("put_back_over_new", rounds.ratio("kept", "module"), raw);
            }
        }
        Ok(())
    }

    fn echo(&self, table: &mut Table) -> Result<()> {
        let hand = Hand::new(Knobs::best_pool(), &self.guests.echo)?;
        let mut contenders =
            [contender("hand", || hand.call("{}")), contender("echo", || self.echo.call(&self.smallest))];
        let rounds = paired(&mut contenders, 2 * ROUNDS, SLICE);
        let raw = json!({ "us": rounds.median("echo"), "by_hand_us": rounds.median("hand") });
        table.record("echo_over_wasmtime", rounds.ratio("echo", "hand"), raw);
        Ok(())
    }

    /// What a second thread brings; beside each guest the native form, which tells what the machine's second core is worth.
    fn scaling(&self, table: &mut Table) -> Result<()> {
        let call = |plugin: &Plugin| drop(plugin.call(&self.event));
        let native = || drop(black_box(native_dynamic()));
        for (key, plugin) in [("scaling_2_sdk", &self.dynamic), ("scaling_2_std", &self.std)] {
            let rounds: Vec<[f64; 4]> = (0..9)
                .map(|_| {
                    let time = Duration::from_millis(250);
                    let (one, two) =
                        (load::throughput(&|| call(plugin), 1, time), load::throughput(&|| call(plugin), 2, time));
                    let native = load::throughput(&native, 2, time) / load::throughput(&native, 1, time);
                    [two / one, one, two, native]
                })
                .collect();
            let of = |column: usize| sample::median(&mut rounds.iter().map(|round| round[column]).collect::<Vec<_>>());
            table.record(key, of(0), json!({ "one_per_s": of(1), "two_per_s": of(2), "native_ratio": of(3) }));
        }
        Ok(())
    }

    /// System calls and instructions, in a process of its own each.
    #[cfg(target_os = "linux")]
    fn counts(&self, table: &mut Table) -> Result<()> {
        use trace::Count;
        let program = env::current_exe().context("find this program")?;
        let count = |guest: &OsStr, calls: u32, what: Count| -> Result<f64> {
            let calls_text = calls.to_string();
            let counted = trace::count(&program, &["--traced".as_ref(), guest, calls_text.as_ref()], what)?;
            Ok(counted as f64 / f64::from(calls))
        };
        println!("{:<42} {:>12} {:>12}", "counted exactly", "system calls", "instructions");
        let cases: [(&str, &OsStr, Option<&str>); 6] = [
            ("native, dynamic", "native-dynamic".as_ref(), None),
            ("native, typed", "native-typed".as_ref(), None),
            ("SDK, dynamic", self.guests.dynamic.as_ref(), Some("syscalls_sdk")),
            ("SDK, typed", self.guests.typed.as_ref(), None),
            ("std", self.guests.std.as_ref(), Some("syscalls_std")),
            ("echo", self.guests.echo.as_ref(), None),
        ];
        for (name, guest, key) in cases {
            let calls = count(guest, 1000, Count::SystemCalls)?;
            let instructions = count(guest, 3, Count::Instructions);
            let shown = instructions.as_ref().map_or_else(|error| format!("{error:#}"), |count| format!("{count:.0}"));
            println!("{name:<42} {calls:>12.3} {shown:>12}");
            if let Some(key) = key {
                table.record(key, calls, json!({ "instructions": instructions.ok() }));
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn counts(&self, table: &mut Table) -> Result<()> {
        for key in ["syscalls_sdk", "syscalls_std"] {
            table.skip(key, "counted on Linux only");
        }
        Ok(())
    }

    fn executor(&self, table: &mut Table) -> Result<()> {
        let executor = Executor::new(ExecutorConfig::default());
        let mut added: Vec<(f64, f64)> =
            (0..5).map(|_| load::idle(&executor, &self.dynamic, &self.event, 400)).collect();
        added.sort_by(|one, other| (one.0 - one.1).total_cmp(&(other.0 - other.1)));
        table.record_difference("executor_idle_us", added[added.len() / 2]);

        let tenants: Vec<String> = (0..16).map(|number| format!("tenant-{number}")).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let time = Duration::from_millis(300);
        let mut pairs: Vec<(f64, f64)> = (0..9)
            .map(|_| {
                let with = load::saturated(&self.dynamic, &self.event, &tenants, time);
                let alone = load::throughput(&|| drop(self.dynamic.call(&self.event)), cores, time);
                let without = cores as f64 * 1e6 / alone;
                (with, without)
            })
            .collect();
        pairs.sort_by(|one, other| (one.0 - one.1).total_cmp(&(other.0 - other.1)));
        table.record_difference("executor_saturated_us", pairs[pairs.len() / 2]);
        Ok(())
    }

    fn neighbor(&self, table: &mut Table) -> Result<()> {
        let time = Duration::from_secs(3);
        let mut pairs: Vec<(f64, f64)> = (0..5)
            .map(|_| {
                let alone = load::neighbor(&self.dynamic, &self.event, None, time);
                let beside = load::neighbor(&self.dynamic, &self.event, Some((&self.burner, &self.smallest)), time);
                (alone, beside)
            })
            .collect();
        pairs.sort_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
        let (alone, beside) = pairs[2];
        table.record(
            "neighbor_p99_ratio",
            beside / alone,
            json!({ "alone_us": alone, "beside_us": beside, "runs": pairs }),
        );
        Ok(())
    }

    /// 1,000 tenants with the same bytes, each with its own settings.
    fn settings(&self, table: &mut Table) -> Result<()> {
        let tenants: Vec<Request> = (0..1000)
            .map(|number| Request { settings: format!("{{\"tenant\":{number}}}").into(), ..self.event.clone() })
            .collect();
        let mut turn = 0;
        let mut contenders = [
            contender("one", || self.dynamic.call(&self.event)),
            contender("1,000", || {
                turn = (turn + 1) % tenants.len();
                self.dynamic.call(&tenants[turn])
            }),
        ];
        let rounds = paired(&mut contenders, ROUNDS, SLICE);
        let raw = json!({ "us": rounds.median("1,000"), "one_us": rounds.median("one") });
        table.record("shared_digest_1000_over_1", rounds.ratio("1,000", "one"), raw);
        Ok(())
    }

    /// 1,000 different plugins, from the cache.
    fn cache(&self, table: &mut Table) -> Result<()> {
        let folder = guests::here().join("../../target/bench/cache");
        let component = std::fs::read(&self.guests.dynamic)?;
        let digests = cache::fill(&folder, &component)?;
        let mut runs: Vec<cache::Loaded> =
            (0..5).map(|_| cache::load(&folder, &digests, &self.event)).collect::<Result<_>>()?;
        // The first run has pages to take from the system that the others find in the process.
        let load_kb = runs[0].load_kb;
        runs.sort_by(|one, other| one.ready_ms.total_cmp(&other.ready_ms));
        let run = runs.swap_remove(runs.len() / 2);
        drop(runs);
        let raw = json!({
            "artefact_bytes": run.plugins[0].artefact_bytes(),
            "component_bytes": component.len(),
            "load_mean_us": run.load_mean_us,
        });
        table.record("load_cached_us", run.load_us, raw.clone());
        table.record("load_cached_kb", load_kb, raw);
        let raw = json!({ "plugins": cache::PLUGINS, "all_loaded_ms": run.all_loaded_ms });
        table.record("ready_1000_ms", run.ready_ms, raw);

        let taking_turns = |plugins: usize| {
            let (run, event, mut turn) = (&run, &self.event, 0);
            move || {
                turn = (turn + 1) % plugins;
                run.plugins[turn].call(event)
            }
        };
        let mut contenders = [
            contender("one", taking_turns(1)),
            contender("2", taking_turns(2)),
            contender("100", taking_turns(100)),
            contender("1,000", taking_turns(cache::PLUGINS)),
        ];
        let rounds = paired(&mut contenders, ROUNDS, SLICE);
        let raw = json!({
            "one_us": rounds.median("one"),
            "2_us": rounds.median("2"),
            "100_us": rounds.median("100"),
            "us": rounds.median("1,000"),
        });
        table.record("distinct_1000_over_1", rounds.ratio("1,000", "one"), raw);
        Ok(())
    }

    /// The same work in each language, beside Rust's.
    fn languages(&self, table: &mut Table) -> Result<()> {
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let head = ["p50 µs", "× Rust", "fuel", "memory KiB", "component KiB", "machine code KiB"];
        println!("{:<12} {}", "language", head.map(|title| format!("{title:>16}")).concat());
        let others = [("javascript", &self.guests.javascript), ("python", &self.guests.python)];
        let rust = Ok(self.guests.typed.clone());
        for (language, guest) in [("rust", &rust)].into_iter().chain(others) {
            let key = format!("{language}_over_rust");
            let guest = match guest {
                Ok(guest) => guest,
                Err(missing) => {
                    table.skip(&key, &format!("{missing:#}"));
                    continue;
                }
            };
            let plugin = runtime.compile(&std::fs::read(guest)?)?;
            let report = plugin.call(&self.event);
            ensure!(matches!(report.outcome, Outcome::Replaced(_)), "{language}: {:?}", report.outcome);
            let mut contenders =
                [contender("rust", || self.typed.call(&self.event)), contender("this", || plugin.call(&self.event))];
            let rounds = paired(&mut contenders, ROUNDS, SLICE);
            let (us, ratio) = (rounds.median("this"), rounds.ratio("this", "rust"));
            let sizes = [report.memory_peak_bytes, plugin.bytes_len() as u64, plugin.artefact_bytes() as u64];
            let [memory, component, code] = sizes.map(|bytes| bytes / 1024);
            let fuel = report.fuel_used;
            println!("{language:<12} {us:>16.1}{ratio:>16.2}{fuel:>16}{memory:>16}{component:>16}{code:>16}");
            let raw = json!({
                "us": us, "fuel": fuel, "memory_kib": memory, "component_kib": component, "machine_code_kib": code,
            });
            table.record(&key, ratio, raw);
        }
        Ok(())
    }

    fn peers(&self, table: &mut Table) -> Result<()> {
        match peers::run(&self.guests, &guests::here().join("../../target/bench/peers")) {
            Ok(figures) => {
                let ratio = figures["qjs_over_quickjs_fresh"].as_f64().context("the peers' ratio")?;
                table.record("qjs_over_quickjs_fresh", ratio, figures);
            }
            Err(error) => table.skip("qjs_over_quickjs_fresh", &format!("{error:#}")),
        }
        Ok(())
    }
}

fn native_dynamic() -> String {
    let event: Value = serde_json::from_str(black_box(reshape::EVENT)).expect("it is JSON");
    serde_json::to_string(&reshape::dynamic(&event)).expect("it can be written")
}

fn native_typed() -> String {
    let event = serde_json::from_str(black_box(reshape::EVENT)).expect("it is an event");
    serde_json::to_string(&reshape::typed(&event)).expect("it can be written")
}

/// Microseconds of one call.
fn timed(call: &mut dyn FnMut()) -> f64 {
    let start = std::time::Instant::now();
    call();
    start.elapsed().as_secs_f64() * 1e6
}
