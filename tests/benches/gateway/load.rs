//! Loads: closed (a connection sends as soon as it may) and open (arrivals by chance, whatever the gateway does).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{
    http::{self, Connection},
    ledger::{FIRST, Ledger},
};

/// A request with a place for a message's number.
#[derive(Clone)]
pub struct Template {
    address: SocketAddr,
    request: Vec<u8>,
    at: usize,
}

impl Template {
    /// From a POST's body that holds `"seq":1000000` once.
    pub fn new(address: SocketAddr, path: &str, key: &str, body: &str) -> Result<Self> {
        let request = http::post(path, key, body);
        let place = http::find(&request, FIRST.to_string().as_bytes());
        ensure!(place.is_some(), "the body has no place for a number: {body}");
        Ok(Self { address, request, at: place.unwrap_or_default() })
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        let digits = (FIRST + number).to_string();
        self.request[self.at..self.at + digits.len()].copy_from_slice(digits.as_bytes());
        &self.request
    }
}

/// A load that runs until it is ended.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `connections` send one message after the other; each waits while more than `waiting_max` are accepted and not yet
    /// delivered (`deliveries` each), so that what is accepted and what is delivered keep step.
    pub fn closed(
        template: &Template,
        ledger: &Arc<Ledger>,
        connections: usize,
        deliveries: u64,
        waiting_max: u64,
    ) -> Self {
        let next = Arc::new(AtomicU64::new(0));
        Self::spawn(template, ledger, connections, move |ledger, stop| {
            while ledger.accepted() * deliveries > ledger.delivered() + waiting_max * deliveries {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                thread::sleep(Duration::from_micros(200));
            }
            Some((next.fetch_add(1, Ordering::Relaxed), ledger.now()))
        })
    }

    /// Arrivals at random moments, `rate` a second on average, the same with each seed; whichever of many connections is
    /// free sends the next. Time counts from the moment that was meant, so a gateway that is late is not spared.
    pub fn open(template: &Template, ledger: &Arc<Ledger>, rate: f64, seed: u64) -> Self {
        const CONNECTIONS: usize = 32;
        let arrivals = Arc::new(std::sync::Mutex::new((0_u64, ledger.now(), seed)));
        Self::spawn(template, ledger, CONNECTIONS, move |ledger, stop| {
            let (number, at) = {
                let mut arrivals = arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let (number, at, seed) = *arrivals;
                let (seed, chance) = roll(seed);
                *arrivals = (number + 1, at + Duration::from_secs_f64(-(1.0 - chance).ln() / rate), seed);
                (number, at)
            };
            while let Some(left) = at.checked_sub(ledger.now()) {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                thread::sleep(left.min(Duration::from_millis(50)));
            }
            Some((number, at))
        })
    }

    fn spawn(
        template: &Template,
        ledger: &Arc<Ledger>,
        connections: usize,
        next: impl Fn(&Ledger, &AtomicBool) -> Option<(u64, Duration)> + Send + Sync + 'static,
    ) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(next));
        let threads = (0..connections).map(|_| {
            let (mut template, ledger) = (template.clone(), ledger.clone());
            let (stop, next) = (stop.clone(), next.clone());
            thread::spawn(move || {
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let Some((number, at)) = next(&ledger, &stop) else { return };
                    if number >= ledger.max() {
                        return;
                    }
                    ledger.mean(number, at);
                    // A broken connection is made anew; what it had under way counts as refused.
                    let sent = ledger.now();
                    let status = exchange(&mut connection, &mut template, number);
                    ledger.answer(status.unwrap_or_default(), ledger.now().saturating_sub(sent));
                }
            })
        });
        Self { threads: threads.collect(), stop }
    }

    /// Ends it; what it had under way is answered then.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A panic of a sender shows in its figures: what it should have sent is missing.
            let _ = thread.join();
        }
    }
}

fn exchange(connection: &mut Option<Connection>, template: &mut Template, number: u64) -> std::io::Result<u16> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(template.address)?,
    };
    let status = open.exchange(template.numbered(number))?.status;
    *connection = Some(open);
    Ok(status)
}

/// The next seed and a number in 0.0..1.0 (splitmix64).
fn roll(seed: u64) -> (u64, f64) {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (seed, ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64)
}
