//! What each setting of the engine brings, and what was chosen by such figures.

use std::time::Duration;

use anyhow::Result;
use hookloom_runtime::{Runtime, RuntimeConfig};

use crate::Bench;
use crate::hand::{Hand, Knobs};
use crate::reshape;
use crate::sample::{contender, paired};
use crate::table::Table;

/// What was chosen and what was dropped, with the figures that decided; each can be measured again with the sections named.
const CHOICES: &str = "\
chosen (on a 2-core EPYC of 2026, µs of one call before → after)
  the core module alone, without the component around it      dynamic 9.5 → 8.9   (forms)
  memory in slots of our own instead of the engine's pool     typed 6.0 → 5.4, std 29 → 16
  types of functions checked at load, not on each call        typed 5.4 → 4.8, and two threads 1.82 → 1.95 times as fast
  a compiler for guests that knows bulk memory (1.96, not 1.85) dynamic 8.8 → 8.4, a third less fuel
  code that minds the memory's size, where a guest starts with much  std 14.3 → 9.7, two threads 0.8 → 1.95 times as fast
  the count of running calls on cache lines of its own        two threads 1.7 → 1.95 times as fast
  snapshots: 2 MiB copied back in place                       QuickJS 250 → 130
  instances put back to how they began, where that is proved   dynamic 6.4 → 5.2, typed 4.0 → 2.8   (forms)
  code of a plugin read before it runs where others ran since  1,000 taking turns 44 → 27; 30 with instructions that only ask for it
  code written to where it runs, not mapped for each plugin   a load 307 → 237
dropped
  code in huge pages: nothing where the host of a virtual machine has small ones, and up to 10 ms for the clearing of each
  fuel instead of epochs: 4 to 11 % less time, but then nothing ends a guest by the clock
  the guest's functions inlined by the engine once more: nothing (dynamic 6.35 → 6.36, typed 4.02 → 4.06)
  the host optimized across crates when it is linked: nothing for guests (6.35 → 6.47, 4.02 → 3.96), the native side 2.73 → 2.57
  the engine's pagemap scan: misses pages that are swapped out or being moved, so state could reach the next tenant
  no guards for guests of the SDK: dynamic 6.7 → 7.7, typed 4.6 → 5.0; no signal traps: Spectre mitigations would have to be off
  copy on write for small guests: 5 % less with one plugin, two system calls at each change of plugin in a slot
  all guests of one page: 0.4 µs less, but 31 KB of constants leave a stack too small for nested JSON (a plugin may ask for it)";

impl Bench {
    /// What each setting of the engine brings, by hand on wasmtime and its own pool; and the runtime, whose memory is its own.
    pub fn ablation(&self, _: &mut Table) -> Result<()> {
        let pool = Knobs::best_pool();
        let variants: Vec<(&'static str, Knobs)> = vec![
            ("the engine's pool, 256 KiB kept resident", pool.clone()),
            ("nothing kept resident", Knobs { keep_resident: 0, keep_tables: 0, ..pool.clone() }),
            ("64 KiB kept resident", Knobs { keep_resident: 64 << 10, ..pool.clone() }),
            ("2 MiB kept resident", Knobs { keep_resident: 2 << 20, ..pool.clone() }),
            ("copy on write", Knobs { copy_on_write: true, ..pool.clone() }),
            ("copy on write, nothing kept resident", Knobs { keep_resident: 0, copy_on_write: true, ..pool.clone() }),
            ("as the runtime sets it for snapshots", Knobs::snapshots()),
            (
                "pagemap scan, 2 MiB (misses pages that are swapped out)",
                Knobs { keep_resident: 2 << 20, pagemap_scan: true, ..pool.clone() },
            ),
            ("no epochs", Knobs { epochs: false, ..pool.clone() }),
            ("no fuel", Knobs { fuel: false, ..pool.clone() }),
            ("no signal traps, no guards", Knobs { signals: false, ..pool.clone() }),
            ("engine defaults but for pooling", Knobs { tuned: false, ..pool.clone() }),
        ];
        const RUNTIME: &str = "the runtime";
        const ANEW: &str = "the runtime, a new instance for each call";
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let anew = Runtime::new(RuntimeConfig { always_anew: true, ..RuntimeConfig::default() })?;
        let mut guests = vec![
            ("echo", &self.guests.echo),
            ("typed", &self.guests.typed),
            ("dynamic", &self.guests.dynamic),
            ("std", &self.guests.std),
        ];
        guests.extend(self.guests.javascript.as_ref().ok().map(|javascript| ("QuickJS", javascript)));
        let names: Vec<&'static str> = variants.iter().map(|(name, _)| *name).chain([ANEW, RUNTIME]).collect();
        let mut rows: Vec<String> = names.iter().map(|name| format!("{name:<56}")).collect();
        let mut head = format!("{:<56}", "what each setting brings, p50 µs");
        for (name, guest) in guests {
            let hands: Vec<Hand> =
                variants.iter().map(|(_, knobs)| Hand::new(knobs.clone(), guest)).collect::<Result<_>>()?;
            let bytes = std::fs::read(guest)?;
            let (plugin, new) = (runtime.compile(&bytes)?, anew.compile(&bytes)?);
            let mut contenders: Vec<_> = variants
                .iter()
                .zip(&hands)
                .map(|((name, _), hand)| contender(name, || drop(hand.call(reshape::EVENT))))
                .collect();
            contenders.push(contender(ANEW, || drop(new.call(&self.event))));
            contenders.push(contender(RUNTIME, || drop(plugin.call(&self.event))));
            let rounds = paired(&mut contenders, 9, Duration::from_millis(15));
            head += &format!(" {name:>8}");
            for (name, row) in names.iter().zip(&mut rows) {
                *row += &format!(" {:>8.2}", rounds.median(name));
            }
        }
        println!("{head}\n{}\n\n{CHOICES}", rows.join("\n"));
        Ok(())
    }
}
