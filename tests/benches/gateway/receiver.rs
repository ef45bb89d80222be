//! Receives deliveries: confirms each with one write and notes the number that its body carries, or never answers.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{http, ledger::Ledger};

const CONFIRMED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A receiver for the life of this process.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    ledger: Arc<Mutex<Arc<Ledger>>>,
}

impl Receiver {
    /// One that confirms everything.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Mutex::new(Arc::new(Ledger::new(0))));
        let current = ledger.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let current = current.clone();
                // An error means that the gateway has hung up.
                thread::spawn(move || confirm(stream, &current));
            }
        });
        Ok(Self { address, ledger })
    }

    /// What arrives from now on is noted in this ledger.
    pub fn note_in(&self, ledger: &Arc<Ledger>) {
        *self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ledger.clone();
    }
}

/// A receiver that takes connections and never answers.
pub fn black_hole() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            held.push(stream);
        }
    });
    Ok(address)
}

fn confirm(mut stream: TcpStream, current: &Mutex<Arc<Ledger>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut chunk) = (Vec::with_capacity(16 * 1024), [0; 16 * 1024]);
    loop {
        while let Some((head, length)) = http::head(&read)
            && read.len() >= head + length
        {
            let number = number(&read[head..head + length]);
            read.drain(..head + length);
            stream.write_all(CONFIRMED)?;
            if let Some(number) = number {
                let ledger = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                ledger.deliver(number);
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => read.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The number that a body carries.
fn number(body: &[u8]) -> Option<u64> {
    let at = http::find(body, b"\"seq\":")? + 6;
    std::str::from_utf8(body.get(at..at + 7)?).ok()?.parse().ok()
}
