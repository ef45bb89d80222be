//! Rows 22 and 23: receivers that never answer, drip, never end, send huge headers, hang up, or answer 1xx for ever.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    kit::Ledger,
    kit::{Gateway, Load, until},
};

/// What a receiver does to each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    BlackHole,
    Drip,
    Endless,
    HugeHeader,
    EarlyClose,
    Interim,
    Down,
}

const HARMS: [Harm; 7] =
    [Harm::BlackHole, Harm::Drip, Harm::Endless, Harm::HugeHeader, Harm::EarlyClose, Harm::Interim, Harm::Down];

/// How long an attempt may take.
const DEADLINE_MS: i64 = 1_000;

/// Starts a receiver that does harm until it is told to behave, and then answers 204.
async fn harmful(harm: Harm, behave: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Errors of writing mean that the gateway hung up, which is the point.
            tokio::spawn(play(stream, harm, behave.clone()));
        }
    });
    hook
}

async fn play(mut stream: TcpStream, harm: Harm, behave: Arc<AtomicBool>) -> io::Result<()> {
    let mut request = vec![0; 16 * 1024];
    while stream.read(&mut request).await? > 0 {
        if behave.load(Ordering::SeqCst) {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            continue;
        }
        match harm {
            Harm::BlackHole => std::future::pending().await,
            Harm::Drip => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await?;
                repeat(&mut stream, b".", Duration::from_millis(50)).await?;
            }
            Harm::Endless => {
                stream.write_all(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
                repeat(&mut stream, &chunk, Duration::from_millis(1)).await?;
            }
            Harm::HugeHeader => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await?;
                repeat(&mut stream, &[b'x'; 65_536], Duration::from_millis(1)).await?;
            }
            Harm::EarlyClose => return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await,
            Harm::Interim => repeat(&mut stream, b"HTTP/1.1 103 Early\r\n\r\n", Duration::from_millis(20)).await?,
            Harm::Down => return Ok(()),
        }
    }
    Ok(())
}

async fn repeat(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
        tokio::time::sleep(pause).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_22_harmful_receivers_hold_up_nobody_and_lose_nothing() {
    let (ledger, behave) = (Ledger::default(), Arc::new(AtomicBool::new(false)));
    let schedule = [1; 30].map(|second| second.to_string()).join(", ");
    // Without the breaker, which would spare the gateway most of the harm.
    let settings = format!("[delivery]\ntimeout_ms = {DEADLINE_MS}\nschedule_s = [{schedule}]\nbreaker_failures = 0\n");
    let gateway = Gateway::start(&settings).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    gateway.call("POST", "app", json!({ "name": "bad", "uid": "bad" })).await;
    for harm in HARMS {
        let uid = format!("{harm:?}");
        let endpoint = json!({ "url": harmful(harm, behave.clone()).await, "uid": uid, "eventTypes": [uid] });
        gateway.call("POST", "app/bad/endpoint", endpoint).await;
        for number in 0..5 {
            let message = json!({ "eventType": uid, "payload": { "n": number } });
            gateway.call("POST", "app/bad/msg", message).await;
        }
    }
    let load = Load::start(&gateway, &source, &ledger, 2);
    for harm in HARMS {
        until("each receiver has harmed twice", async || attempts(&gateway, harm).await.len() >= 10).await;
        for attempt in attempts(&gateway, harm).await {
            let duration = attempt["responseDurationMs"].as_i64().unwrap();
            assert!(duration < DEADLINE_MS + 2_000, "{harm:?}: ended by the deadline, or much earlier: {attempt}");
            assert_ne!(attempt["status"], 0, "{harm:?} is a failure of the receiver: {attempt}");
            assert!(attempt["response"].as_str().unwrap().len() < 20_000, "{harm:?}: no more is kept than the cap");
        }
    }
    load.end().await;
    ledger.settle("beside harmful receivers").await;

    behave.store(true, Ordering::SeqCst);
    for harm in HARMS {
        let delivered = async || {
            let attempts = attempts(&gateway, harm).await;
            attempts.iter().filter(|attempt| attempt["status"] == 0).count() == 5
        };
        until(&format!("{harm:?} gets its five messages once it behaves"), delivered).await;
    }
    println!("harmful receivers: {} kinds × 5 messages · missing 0 once they behave", HARMS.len());
}

async fn attempts(gateway: &Gateway, harm: Harm) -> Vec<Value> {
    let path = format!("app/bad/attempt/endpoint/{harm:?}?limit=250");
    gateway.call("GET", &path, Value::Null).await["data"].as_array().unwrap().clone()
}
