//! The keys of the bench with their targets, as a table and as JSON.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// What a value is held against.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// It is only reported.
    Report,
}

/// One key: what it must reach, and what it aims at.
struct Key {
    name: &'static str,
    must: Bound,
    aim: Bound,
}

const fn at_most(name: &'static str, must: f64, aim: f64) -> Key {
    Key { name, must: Bound::AtMost(must), aim: Bound::AtMost(aim) }
}

/// All keys, in the order of the table.
const KEYS: [Key; 21] = [
    at_most("sdk_dyn_over_native", 2.2, 1.5),
    at_most("sdk_typed_over_native_dyn", 1.4, 1.0),
    at_most("std_over_native", 4.7, 3.0),
    at_most("executor_idle_us", 25.0, 10.0),
    at_most("executor_saturated_us", 3.0, 1.0),
    at_most("echo_over_wasmtime", 1.15, 1.05),
    at_most("module_over_component", 0.9, 0.75),
    at_most("put_back_over_new", 0.9, 0.7),
    Key { name: "scaling_2_sdk", must: Bound::AtLeast(1.9), aim: Bound::AtLeast(1.95) },
    Key { name: "scaling_2_std", must: Bound::Report, aim: Bound::AtLeast(1.9) },
    at_most("syscalls_sdk", 0.0, 0.0),
    at_most("syscalls_std", 3.0, 0.0),
    at_most("distinct_1000_over_1", 6.0, 3.0),
    at_most("shared_digest_1000_over_1", 1.15, 1.0),
    at_most("load_cached_us", 250.0, 100.0),
    at_most("load_cached_kb", 400.0, 250.0),
    at_most("ready_1000_ms", 500.0, 150.0),
    at_most("qjs_over_quickjs_fresh", 1.5, 0.7),
    at_most("neighbor_p99_ratio", 2.0, 1.3),
    Key { name: "javascript_over_rust", must: Bound::Report, aim: Bound::Report },
    Key { name: "python_over_rust", must: Bound::Report, aim: Bound::Report },
];

/// What was measured.
#[derive(Default)]
pub struct Table {
    values: Map<String, Value>,
}

impl Table {
    /// Records a key; `raw` are the figures behind it.
    pub fn record(&mut self, name: &str, value: f64, raw: Value) {
        eprintln!("{name} = {value:.3}  {raw}");
        self.values.insert(name.to_owned(), json!({ "value": value, "raw": raw }));
    }

    /// Records what something adds: the difference of two times in microseconds, with it and without. Where the noise of the machine
    /// is larger than the difference, it comes out negative and says nothing.
    pub fn record_difference(&mut self, name: &str, (with, without): (f64, f64)) {
        if with > without {
            self.record(name, with - without, json!({ "with_us": with, "without_us": without }));
        } else {
            self.skip(name, &format!("{with:.1} µs with it and {without:.1} µs without: the machine is too busy"));
        }
    }

    /// Records why a key could not be measured.
    pub fn skip(&mut self, name: &str, why: &str) {
        eprintln!("{name} not measured: {why}");
        self.values.insert(name.to_owned(), json!({ "value": null, "raw": { "not_measured": why } }));
    }

    /// Prints the table and writes the file.
    pub fn finish(mut self, out: &Path) -> Result<()> {
        let mut json = Map::new();
        println!("\n{:<28} {:>10} {:>10} {:>8}  met", "key", "value", "must", "aim");
        for key in &KEYS {
            let mut entry = self
                .values
                .remove(key.name)
                .unwrap_or_else(|| json!({ "value": null, "raw": { "not_measured": "left out by the filter" } }));
            let value = entry["value"].as_f64();
            let met = match value {
                None => "not measured",
                Some(value) if key.aim.holds(value) && !matches!(key.aim, Bound::Report) => "aim",
                Some(value) if key.must.holds(value) => "must",
                Some(_) => "NO",
            };
            let shown = value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
            println!("{:<28} {shown:>10} {:>10} {:>8}  {met}", key.name, key.must.text(), key.aim.text());
            entry["must"] = key.must.json();
            entry["aim"] = key.aim.json();
            entry["met"] = json!(met);
            json.insert(key.name.to_owned(), entry);
        }
        std::fs::create_dir_all(out).context("make the folder of the results")?;
        let file = out.join("runtime.json");
        std::fs::write(&file, serde_json::to_string_pretty(&Value::Object(json))?).context("write the results")?;
        println!("\nwritten to {}", file.display());
        Ok(())
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
            Bound::Report => true,
        }
    }

    fn text(self) -> String {
        match self {
            Bound::AtMost(most) => format!("≤ {most}"),
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::Report => "report".to_owned(),
        }
    }

    fn json(self) -> Value {
        match self {
            Bound::AtMost(most) => json!({ "at_most": most }),
            Bound::AtLeast(least) => json!({ "at_least": least }),
            Bound::Report => Value::Null,
        }
    }
}
