//! Paired rounds: contenders take turns in one process, so that what disturbs one disturbs its neighbors.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Calls that are timed together, so that reading the clock doesn't count.
const BATCH: u32 = 8;

/// Something that is measured.
pub struct Contender<'a> {
    pub name: &'static str,
    pub call: Box<dyn FnMut() + 'a>,
}

/// One figure a round for each contender: the median time of a call in that round, in microseconds.
pub struct Rounds {
    names: Vec<&'static str>,
    medians: Vec<Vec<f64>>,
}

pub fn contender<'a, T>(name: &'static str, mut call: impl FnMut() -> T + 'a) -> Contender<'a> {
    Contender { name, call: Box::new(move || drop(black_box(call()))) }
}

/// Lets each contender work for `slice` in each of `rounds` rounds, in turning order.
pub fn paired(contenders: &mut [Contender<'_>], rounds: usize, slice: Duration) -> Rounds {
    for contender in contenders.iter_mut() {
        run(&mut contender.call, slice);
    }
    let names = contenders.iter().map(|contender| contender.name).collect();
    let mut medians = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for position in 0..contenders.len() {
            let number = (position + round) % contenders.len();
            medians[number].push(median(&mut run(&mut contenders[number].call, slice)));
        }
    }
    Rounds { names, medians }
}

/// Times of a call in microseconds, each the mean of a small batch.
fn run(call: &mut dyn FnMut(), slice: Duration) -> Vec<f64> {
    let mut times = Vec::new();
    let end = Instant::now() + slice;
    loop {
        let start = Instant::now();
        for _ in 0..BATCH {
            call();
        }
        let now = Instant::now();
        times.push((now - start).as_secs_f64() * 1e6 / f64::from(BATCH));
        if now >= end {
            return times;
        }
    }
}

impl Rounds {
    /// Median of all rounds, in microseconds.
    pub fn median(&self, name: &str) -> f64 {
        median(&mut self.medians[self.number(name)].clone())
    }

    /// Median of the ratios of the rounds.
    pub fn ratio(&self, name: &str, to: &str) -> f64 {
        let (these, those) = (&self.medians[self.number(name)], &self.medians[self.number(to)]);
        median(&mut these.iter().zip(those).map(|(this, that)| this / that).collect::<Vec<_>>())
    }

    fn number(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).expect("the contender takes part")
    }
}

/// The median; of an even number the upper one.
pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which that share of all lies.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * share) as usize).min(values.len() - 1)]
}
