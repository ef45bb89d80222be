use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Unstructured;
use wasmtime::{Engine, Extern, Instance, Module, Ref, Result, ValType};

use super::*;
use crate::compile::Reset;
use crate::engine::Class;
use crate::{Limits, Runtime, RuntimeConfig};

/// Whether an instance is worth keeping, for each call of the last round.
fn last_round(plugins: &[(u64, usize)]) -> Vec<bool> {
    let mut shelf = Shelf::default();
    (0..3)
        .map(|_| plugins.iter().map(|(plugin, kib)| shelf.is_called(PluginId(*plugin), kib << 10)).collect())
        .last()
        .unwrap()
}

#[test]
fn instances_are_kept_of_plugins_that_are_called_again_soon() {
    let mut shelf = Shelf::default();
    assert!(!shelf.is_called(PluginId(1), 64 << 10), "the first call is no reason");
    assert!(shelf.is_called(PluginId(1), 64 << 10));
    assert_eq!(last_round(&[(1, 320)]), [true]);
    assert_eq!(last_round(&[(1, 321)]), [false]);
    assert_eq!(last_round(&[(1, 160), (2, 160)]), [true; 2]);
    assert_eq!(last_round(&[(1, 80), (2, 80), (3, 80), (4, 80)]), [true; 4]);
    assert_eq!(
        last_round(&[(1, 64), (2, 64), (3, 64), (4, 64), (5, 64)]),
        [false; 5],
        "of so many nobody is remembered"
    );
    assert_eq!(last_round(&[(1, 128), (2, 128), (3, 128)]), [false; 3]);
    assert_eq!(last_round(&[(1, 128), (2, 256), (2, 256)]), [false, false, true]);
}

/// Modules that are made of random bytes, of which a fifth can be put back; `HOOKLOOM_RANDOM_MODULES` in the environment asks for more.
const MODULES: u64 = 3000;

fn random_module(seed: u64) -> Option<Vec<u8>> {
    let mut bytes = [0; 3200];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    // Every proposal that the engine has on, the two that can change tables and drop segments in some modules only; few things of each kind,
    // and hardly a trap, so that many a module can be put back and many a call ends well.
    let config = wasm_smith::Config {
        allow_start_export: false,
        bulk_memory_enabled: seed.is_multiple_of(2),
        disallow_traps: true,
        exceptions_enabled: false,
        export_everything: true,
        extended_const_enabled: false,
        gc_enabled: false,
        max_data_segments: 2,
        max_element_segments: 2,
        max_funcs: 8,
        max_globals: 12,
        max_imports: 0,
        max_memory32_bytes: 4 << 16,
        max_table_elements: 50,
        memory64_enabled: false,
        memory_max_size_required: true,
        min_funcs: 2,
        min_globals: 1,
        min_memories: 1,
        reference_types_enabled: seed.is_multiple_of(3),
        relaxed_simd_enabled: false,
        threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)).ok().map(|module| module.to_bytes())
}

/// An instance of a random module, and what of it the host can see.
struct Made {
    store: Store<CallState>,
    instance: Instance,
    memory: Memory,
    changing: Vec<Global>,
}

const FUEL: u64 = 20_000;

impl Made {
    fn new(engine: &Engine, module: &Module, reset: &Reset) -> Option<Made> {
        let state = CallState::new(&Limits::default(), Arc::from("{}"), None, false);
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.meter);
        store.set_fuel(FUEL).unwrap();
        store.set_epoch_deadline(u64::from(u32::MAX));
        // A segment may lie beyond its memory.
        let instance = Instance::new(&mut store, module, &[]).ok()?;
        let mut exports = instance.exports(&mut store).map(|export| export.into_extern());
        let memory = exports.find_map(Extern::into_memory).unwrap();
        drop(exports);
        let changing = reset.exports().map(|name| instance.get_global(&mut store, &name).unwrap()).collect();
        Some(Made { store, instance, memory, changing })
    }

    /// Calls a function with zeros, or with ones; `None` where it fails.
    fn call(&mut self, name: &str, ones: bool) -> Option<Result<String>> {
        self.store.set_fuel(FUEL).unwrap();
        let function = self.instance.get_func(&mut self.store, name)?;
        let ty = function.ty(&self.store);
        let params: Vec<Val> = ty.params().map(|ty| value(&ty, ones)).collect::<Option<_>>()?;
        let mut results = vec![Val::I32(0); ty.results().len()];
        let called = function.call(&mut self.store, &params, &mut results);
        Some(called.map(|()| format!("{:?} and {} of fuel", shown(&results), self.store.get_fuel().unwrap())))
    }

    /// All that the host sees of it.
    fn looks(&mut self) -> (Vec<u8>, BTreeMap<String, String>) {
        let names: Vec<String> =
            self.instance.exports(&mut self.store).map(|export| export.name().to_owned()).collect();
        let mut seen = BTreeMap::new();
        for name in names {
            let shows = match self.instance.get_export(&mut self.store, &name).unwrap() {
                Extern::Global(global) => format!("{:?}", shown(&[global.get(&mut self.store)])),
                Extern::Table(table) => {
                    let size = table.size(&self.store);
                    let items: Vec<bool> =
                        (0..size).map(|at| table.get(&mut self.store, at).unwrap().is_null()).collect();
                    format!("{items:?}")
                }
                _ => continue,
            };
            seen.insert(name, shows);
        }
        (self.memory.data(&self.store).to_vec(), seen)
    }
}

/// Values in a form that can be compared: functions only by whether they are there.
fn shown(values: &[Val]) -> Vec<String> {
    let one = |value: &Val| match value {
        Val::FuncRef(function) => format!("function {}", function.is_some()),
        other => format!("{other:?}"),
    };
    values.iter().map(one).collect()
}

fn value(ty: &ValType, ones: bool) -> Option<Val> {
    let number = u8::from(ones);
    Some(match ty {
        ValType::I32 => Val::I32(number.into()),
        ValType::I64 => Val::I64(number.into()),
        ValType::F32 => Val::F32(f32::from(number).to_bits()),
        ValType::F64 => Val::F64(f64::from(number).to_bits()),
        ValType::V128 => Val::V128(u128::from(number).into()),
        ValType::Ref(ty) => Val::from(Ref::null(ty.heap_type())),
    })
}

/// Each function of each module is called in an instance that is put back then, and each function, the same or another, is called in
/// it afterwards: what that comes to, and what it leaves, has to be as in a new instance.
#[test]
fn no_random_module_can_be_told_from_a_new_one_after_it_was_put_back() {
    let runtime = Runtime::new(RuntimeConfig { instances_max: 4, ..RuntimeConfig::default() }).unwrap();
    let engine = runtime.engine_of(Class::Program);
    let (mut modules, mut compared, mut changed) = (0, 0, 0);
    let asked = std::env::var("HOOKLOOM_RANDOM_MODULES").map_or(MODULES, |asked| asked.parse().unwrap());
    for seed in 0..asked {
        let Some(bytes) = random_module(seed) else { continue };
        let Some(reset) = Reset::find(&bytes) else { continue };
        let Ok(module) = Module::new(engine, reset.exposed(&bytes).unwrap()) else {
            assert!(Module::new(engine, &bytes).is_err(), "seed {seed}: only with the added exports it is refused");
            continue;
        };
        let functions: Vec<String> = module
            .exports()
            .filter(|export| export.ty().func().is_some())
            .map(|export| export.name().to_owned())
            .take(6)
            .collect();
        let new = || Made::new(engine, &module, &reset);
        let Some(mut first) = new() else { continue };
        modules += 1;
        let beginning = Beginning::of(&mut first.store, first.memory, &first.changing, 0);
        let untouched = first.looks();
        for (before, after) in functions.iter().flat_map(|before| functions.iter().map(move |after| (before, after))) {
            let mut kept = new().unwrap();
            let Some(Ok(_)) = kept.call(before, true) else { continue };
            changed += u32::from(kept.looks() != untouched);
            let Made { store, memory, changing, .. } = &mut kept;
            // Random code seldom writes over everything; other code may.
            memory.data_mut(&mut *store).fill(0xa5);
            if beginning.restore(store, *memory, changing).is_none() {
                continue;
            }
            assert_eq!(kept.looks(), untouched, "seed {seed}, after {before}");
            for ones in [false, true] {
                let mut fresh = new().unwrap();
                let in_kept = kept.call(after, ones).map(|called| called.map_err(|error| format!("{error:#}")));
                let in_fresh = fresh.call(after, ones).map(|called| called.map_err(|error| format!("{error:#}")));
                assert_eq!(in_kept, in_fresh, "seed {seed}, {after} after {before}");
                assert_eq!(kept.looks(), fresh.looks(), "seed {seed}, {after} after {before}");
                if in_kept.is_none_or(|called| called.is_err()) {
                    break;
                }
                let Made { store, memory, changing, .. } = &mut kept;
                if beginning.restore(store, *memory, changing).is_none() {
                    break;
                }
                compared += 1;
            }
        }
    }
    println!("{modules} modules, {compared} calls compared, {changed} calls that had changed something");
    assert!(modules > 300 && compared > 3000 && changed > 500, "{modules}, {compared}, {changed}");
}
