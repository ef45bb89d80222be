//! What nodes tell each other, by `NOTIFY`. It is sent after the commit and on a connection of its own: a commit that notifies
//! takes a lock that all of the database share. What gets lost costs the others one poll.

use std::{collections::BTreeSet, time::Duration};

use data_encoding::HEXLOWER;
use tokio::{
    sync::{broadcast, mpsc},
    time::sleep,
};

use super::{connect::Connector, rows::params};
use crate::{
    clock::Timestamp,
    store::{
        Result, Ring,
        flow::{LaneHead, WorkKind},
        key::{self, Lane, key},
    },
};

/// Notices that wait to be sent; more are left out.
const WAITING_MAX: usize = 1024;

/// How long notices are gathered that come after one.
const GATHERED: Duration = Duration::from_millis(20);

/// Lanes in one notification, whose size is bounded. Beyond: look everywhere.
const LANES_MAX: usize = 64;

/// From the first to the last pause before a lost connection is made again.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// What one commit has to tell.
#[derive(Clone, Debug, Default)]
pub struct Notice {
    pub lanes: Vec<LaneHead>,
    pub config: bool,
}

/// Where notices go.
#[derive(Clone)]
pub struct News(mpsc::Sender<Notice>);

impl News {
    /// The way to [`send`].
    pub fn new() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Tells the other nodes soon.
    pub fn tell(&self, notice: Notice) {
        if notice.config || !notice.lanes.is_empty() {
            let _ = self.0.try_send(notice);
        }
    }
}

/// Sends what this process has to tell, until all who tell are gone.
pub async fn send(connector: Connector, me: i64, mut notices: mpsc::Receiver<Notice>) {
    let mut connection = None;
    while let Some(first) = notices.recv().await {
        sleep(GATHERED).await;
        let mut all = first;
        while let Ok(next) = notices.try_recv() {
            all.config |= next.config;
            if all.lanes.len() <= LANES_MAX {
                all.lanes.extend(next.lanes);
            }
        }
        if connection.is_none() {
            connection = connector.connect(None).await.ok();
        }
        let Some(open) = &connection else { continue };
        if open.execute("SELECT pg_notify('hookloom', ?)", params![write(me, &all)]).await.is_err() {
            connection = None;
        }
    }
}

/// Hears what other processes tell, for ever.
pub async fn listen(connector: Connector, me: i64, bell: broadcast::Sender<Ring>) {
    let [first_pause, last_pause] = PAUSES;
    let mut pause = first_pause;
    loop {
        if let Ok(mut heard) = subscribe(&connector).await {
            pause = first_pause;
            // What was told before is lost.
            let _ = bell.send(Ring::Lagged);
            while let Some(text) = heard.recv().await {
                for ring in read(me, &text) {
                    let _ = bell.send(ring);
                }
            }
            tracing::warn!("the connection that listens for other nodes is lost");
        }
        sleep(pause).await;
        pause = (pause * 2).min(last_pause);
    }
}

/// Ends when the connection does.
async fn subscribe(connector: &Connector) -> Result<mpsc::Receiver<String>> {
    let (told, mut from_database) = mpsc::channel(WAITING_MAX);
    let connection = connector.connect(Some(told)).await?;
    connection.batch("LISTEN hookloom").await?;
    let (told, heard) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        // The connection lives as long as somebody hears it.
        let _connection = connection;
        loop {
            tokio::select! {
                text = from_database.recv() => match text {
                    Some(text) => if told.send(text).await.is_err() { break },
                    None => break,
                },
                () = told.closed() => break,
            }
        }
    });
    Ok(heard)
}

fn write(me: i64, notice: &Notice) -> String {
    let mut parts = vec![me.to_string()];
    parts.extend(notice.config.then(|| "c".to_owned()));
    let lanes: BTreeSet<(i64, Lane)> = notice.lanes.iter().map(|head| (head.kind.code(), head.lane)).collect();
    if lanes.len() > LANES_MAX {
        parts.push("*".into());
    } else {
        for (kind, lane) in lanes {
            let first = notice
                .lanes
                .iter()
                .filter(|head| head.kind.code() == kind && head.lane == lane)
                .min_by_key(|it| it.due);
            let Some(head) = first else { continue };
            parts.push(format!(
                "{kind}:{}:{}:{}",
                HEXLOWER.encode(lane.as_bytes()),
                HEXLOWER.encode(&key(&head.app)),
                head.due.as_millis()
            ));
        }
    }
    parts.join(" ")
}

/// What another process told. What this one doesn't understand comes from a newer one: look everywhere.
fn read(me: i64, text: &str) -> Vec<Ring> {
    let mut parts = text.split(' ');
    if parts.next().is_some_and(|from| from == me.to_string()) {
        return Vec::new();
    }
    let ring = |part| match part {
        "c" => Ring::Config,
        part => read_lane(part).map_or(Ring::Lagged, Ring::Lane),
    };
    parts.map(ring).collect()
}

fn read_lane(part: &str) -> Option<LaneHead> {
    let mut fields = part.split(':');
    let kind = WorkKind::from_code(fields.next()?.parse().ok()?)?;
    let lane = Lane::from_bytes(unhex(fields.next()?)?);
    let app = key::id(unhex(fields.next()?)?);
    let due = Timestamp::from_millis(fields.next()?.parse().ok()?);
    Some(LaneHead { kind, lane, app, due })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AppId, TypedId as _};

    fn head(lane: u64, due: i64) -> LaneHead {
        let app = AppId::from_ulid(ulid::Ulid::from_parts(lane, 7));
        LaneHead { kind: WorkKind::FanOut, lane: Lane::replay(&app), app, due: Timestamp::from_millis(due) }
    }

    #[test]
    fn others_hear_each_lane_once_with_its_first_time() {
        let told = write(1, &Notice { lanes: vec![head(5, 9), head(5, 8), head(6, 7)], config: true });
        assert_eq!(read(2, &told), [Ring::Config, Ring::Lane(head(5, 8)), Ring::Lane(head(6, 7))]);
        assert_eq!(read(1, &told), []);
    }

    #[test]
    fn more_lanes_than_a_notification_holds_say_to_look_everywhere() {
        let told = write(1, &Notice { lanes: (0..65).map(|lane| head(lane, 0)).collect(), config: false });
        assert_eq!(read(2, &told), [Ring::Lagged]);
        let told = write(1, &Notice { lanes: (0..64).map(|lane| head(lane, 0)).collect(), config: true });
        assert!(told.len() < 8000, "{}", told.len());
        assert_eq!(read(2, &told).len(), 65);
    }
}
