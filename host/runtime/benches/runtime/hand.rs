//! The same calls by hand on wasmtime, with our settings or with others: what our API adds, and what each setting brings.

use std::path::Path;

use anyhow::Result;
use wasmtime::component::{Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store,
    UpdateDeadline,
};

/// What can be set otherwise than we do.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub pooling: bool,
    pub tuned: bool,
    pub keep_resident: usize,
    pub keep_tables: usize,
    pub copy_on_write: bool,
    pub pagemap_scan: bool,
    pub fuel: bool,
    pub epochs: bool,
    pub signals: bool,
    pub tables: u32,
}

/// A component, ready to be called.
pub struct Hand {
    engine: Engine,
    instance_pre: InstancePre<Meter>,
    export: ComponentExportIndex,
    knobs: Knobs,
}

struct Meter(usize);

#[derive(ComponentType, Lower)]
#[component(record)]
struct Message<'a> {
    id: &'a str,
    #[component(name = "event-type")]
    event_type: &'a str,
    #[component(name = "created-at")]
    created_at: &'a str,
    origin: Origin,
    medium: Option<&'a str>,
    channels: &'a [String],
    payload: &'a str,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the contract has them all")]
enum Origin {
    #[component(name = "human")]
    Human,
    #[component(name = "bot")]
    Bot,
    #[component(name = "ai")]
    Ai,
    #[component(name = "automation")]
    Automation,
    #[component(name = "system")]
    System,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Reshaped {
    #[component(name = "unchanged")]
    Unchanged,
    #[component(name = "replaced")]
    Replaced(String),
    #[component(name = "dropped")]
    Dropped(String),
}

#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
#[expect(dead_code, reason = "shown when a guest fails")]
enum Failure {
    #[component(name = "invalid-payload")]
    InvalidPayload(String),
    #[component(name = "broken")]
    Broken(String),
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the contract has them all")]
enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl Knobs {
    /// The engine's own pool, set as well as it can be for guests of a page or two; the code is compiled as the runtime's is.
    pub fn best_pool() -> Knobs {
        Knobs {
            pooling: true,
            tuned: true,
            keep_resident: 256 << 10,
            keep_tables: 16 << 10,
            copy_on_write: false,
            pagemap_scan: false,
            fuel: true,
            epochs: true,
            signals: true,
            tables: 24,
        }
    }

    /// As the runtime sets the pool for guests that start from a snapshot.
    pub fn snapshots() -> Knobs {
        Knobs { keep_resident: 2 << 20, copy_on_write: true, ..Knobs::best_pool() }
    }

    fn engine(&self) -> Result<Engine> {
        let mut config = Config::new();
        config.consume_fuel(self.fuel).epoch_interruption(self.epochs).memory_init_cow(self.copy_on_write);
        config.max_wasm_stack(512 << 10);
        config.wasm_multi_memory(true);
        if self.tuned {
            config.gc_support(false).concurrency_support(false).wasm_memory64(false);
            config.cranelift_nan_canonicalization(true).wasm_relaxed_simd(false);
        }
        if !self.signals {
            config.signals_based_traps(false).memory_guard_size(0);
        }
        if self.pooling {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_memories(16)
                .total_tables(16 * self.tables)
                .total_core_instances(1024)
                .total_component_instances(16);
            pool.max_memory_size(256 << 20).max_unused_warm_slots(16);
            pool.max_tables_per_component(self.tables).max_tables_per_module(self.tables);
            pool.linear_memory_keep_resident(self.keep_resident).table_keep_resident(self.keep_tables);
            pool.pagemap_scan(if self.pagemap_scan { Enabled::Yes } else { Enabled::No });
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        Ok(Engine::new(&config)?)
    }
}

impl Hand {
    pub fn new(knobs: Knobs, component: &Path) -> Result<Hand> {
        let engine = knobs.engine()?;
        let component = Component::from_file(&engine, component)?;
        let reshaping = component.get_export_index(None, "hookloom:plugin/reshaping@1.0.0");
        let export = reshaping.and_then(|interface| component.get_export_index(Some(&interface), "reshape"));
        let export = export.ok_or_else(|| anyhow::anyhow!("the component is no reshaper"))?;
        let mut linker = Linker::new(&engine);
        let mut host = linker.instance("hookloom:plugin/host@1.0.0")?;
        host.func_wrap("log", |_, (_, _): (Level, String)| Ok(()))?;
        host.func_wrap("settings", |_, (): ()| Ok(("{}".to_owned(),)))?;
        let instance_pre = linker.instantiate_pre(&component)?;
        Ok(Hand { engine, instance_pre, export, knobs })
    }

    /// One call in a fresh instance.
    pub fn call(&self, payload: &str) -> Option<String> {
        let mut store = Store::new(&self.engine, Meter(64 << 20));
        store.limiter(|meter| meter);
        if self.knobs.fuel {
            store.set_fuel(100_000_000).expect("fuel is on");
        }
        if self.knobs.epochs {
            store.set_epoch_deadline(200);
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(200)));
        }
        let message = Message {
            id: "msg_2f7hK1pQz9",
            event_type: "message.inbound",
            created_at: "2026-06-30T17:40:00.000Z",
            origin: Origin::Human,
            medium: Some("textchat"),
            channels: &[],
            payload,
        };
        let instance = self.instance_pre.instantiate(&mut store).expect("there is a slot");
        let function = instance
            .get_typed_func::<(Message<'_>,), (Result<Reshaped, Failure>,)>(&mut store, &self.export)
            .expect("its type was checked");
        match function.call(&mut store, (message,)).expect("the guest is well").0.expect("the input is fine") {
            Reshaped::Unchanged => None,
            Reshaped::Replaced(text) | Reshaped::Dropped(text) => Some(text),
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.0)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }
}
