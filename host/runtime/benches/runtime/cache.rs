//! A thousand different plugins, compiled once into a cache that stays for the next run of the bench.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use hookloom_runtime::{CacheConfig, CacheKey, Digest, Plugin, Request, Runtime, RuntimeConfig};

use crate::sample::median;

/// How many plugins there are.
pub const PLUGINS: usize = 1000;

/// What loading them from the cache took.
pub struct Loaded {
    pub plugins: Vec<Plugin>,
    /// Median of one more plugin, in microseconds.
    pub load_us: f64,
    /// Resident memory that one more plugin takes, in KiB.
    pub load_kb: f64,
    /// Mean of the same.
    pub load_mean_us: f64,
    /// From nothing until the first call was served, with all plugins in the cache, in milliseconds.
    pub ready_ms: f64,
    /// From nothing until all plugins were loaded, which nobody waits for: each is loaded when it is first called.
    pub all_loaded_ms: f64,
}

/// Compiles what isn't in the cache yet: the same guest with another number in a custom section each.
pub fn fill(folder: &Path, component: &[u8]) -> Result<Vec<Digest>> {
    let runtime = runtime(folder)?;
    let mut digests = Vec::with_capacity(PLUGINS);
    for number in 0..PLUGINS {
        let bytes = numbered(component, u32::try_from(number)?);
        let digest = Digest::of(&bytes);
        if runtime.cached(&digest)?.is_none() {
            if number % 100 == 0 {
                eprintln!("compiling plugin {number} of {PLUGINS} into the cache, once");
            }
            runtime.compile(&bytes)?;
        }
        digests.push(digest);
    }
    Ok(digests)
}

/// Starts a runtime and loads them all.
pub fn load(folder: &Path, digests: &[Digest], request: &Request) -> Result<Loaded> {
    let before = resident_kb();
    let start = Instant::now();
    let runtime = runtime(folder)?;
    let (mut plugins, mut times) = (Vec::with_capacity(PLUGINS), Vec::with_capacity(PLUGINS));
    let mut ready_ms = None;
    for digest in digests {
        let loading = Instant::now();
        let plugin = runtime.cached(digest)?.context("it was compiled before")?;
        times.push(loading.elapsed().as_secs_f64() * 1e6);
        if ready_ms.is_none() {
            plugin.call(request);
            ready_ms = Some(start.elapsed().as_secs_f64() * 1e3);
        }
        plugins.push(plugin);
    }
    let all_loaded_ms = start.elapsed().as_secs_f64() * 1e3;
    let ready_ms = ready_ms.context("there are plugins")?;
    let load_kb = (resident_kb() - before) / PLUGINS as f64;
    let load_mean_us = times.iter().sum::<f64>() / PLUGINS as f64;
    Ok(Loaded { plugins, load_us: median(&mut times), load_mean_us, load_kb, ready_ms, all_loaded_ms })
}

fn runtime(folder: &Path) -> Result<Runtime> {
    let cache = CacheConfig { folder: folder.to_owned(), key: CacheKey::new([7; 32]), bytes_max: 8 << 30 };
    Ok(Runtime::new(RuntimeConfig { cache: Some(cache), ..RuntimeConfig::default() })?)
}

/// The component with a custom section that no other has.
fn numbered(component: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = component.to_vec();
    // Section 0 of 7 bytes: a name of 2 bytes, then the number.
    bytes.extend([0, 7, 2, b'n', b'r']);
    bytes.extend(number.to_le_bytes());
    bytes
}

/// Memory of this process in KiB: what is resident, and all of its files that exist in memory only, mapped or not; 0 where the system
/// doesn't tell.
fn resident_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let in_memory = descriptors.filter(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"))
    });
    let blocks: u64 = in_memory.filter_map(|entry| Some(std::fs::metadata(entry.path()).ok()?.blocks())).sum();
    kb("VmRSS") - kb("RssShmem") + blocks as f64 / 2.0
}
