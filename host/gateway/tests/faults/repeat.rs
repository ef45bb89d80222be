//! Row 28: the same key or id twice, at once, and after a crash.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    kill::SOON,
    kit::{Gateway, Ledger},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_a_repeat_at_once_or_after_a_crash_makes_no_second_message() {
    let ledger = Ledger::default();
    let gateway = Gateway::start(SOON).await;
    let source = gateway.tenant(&ledger.receive().await).await;
    for number in 0..12_u64 {
        let name = format!("n{number}");
        let keyed = json!({ "eventType": "paid", "payload": { "n": number } });
        let named = json!({ "eventType": "paid", "eventId": name, "payload": { "n": number } });
        let (path, body, key) = match number % 3 {
            0 => ("app/acme/msg", keyed.clone(), Some(name.as_str())),
            1 => ("app/acme/msg", named, None),
            _ => (source.as_str(), json!({ "event_type": "paid", "n": number }), Some(name.as_str())),
        };
        let repeat = async || gateway.ask("POST", path, &body, key).await;
        let (mut answers, more) = tokio::join!(async { vec![repeat().await, repeat().await] }, async {
            tokio::join!(repeat(), repeat(), repeat(), repeat())
        },);
        answers.extend([more.0, more.1, more.2, more.3]);
        let answers: Vec<(u16, Value)> = answers.into_iter().map(Option::unwrap).collect();
        gateway.kill();
        gateway.run().await;
        let late = repeat().await.unwrap();

        let first = answers.iter().find(|(status, _)| *status == 202).unwrap().1.clone();
        ledger.accept(number, first["id"].as_str().unwrap());
        if number % 3 == 1 {
            assert_eq!(answers.iter().filter(|(status, _)| *status == 202).count(), 1);
            let rest = answers.iter().filter(|(status, _)| *status != 202).chain([&late]);
            rest.for_each(|(status, answer)| assert_eq!((*status, &answer["code"]), (409, &json!("event_exists"))));
        } else {
            let ids: BTreeSet<&str> =
                answers.iter().chain([&late]).filter_map(|(_, answer)| answer["id"].as_str()).collect();
            assert_eq!(ids, BTreeSet::from([first["id"].as_str().unwrap()]));
            assert!(answers.iter().chain([&late]).all(|(status, _)| *status == 202), "{answers:?} {late:?}");
        }
        if number % 3 == 0 {
            let other = json!({ "eventType": "paid", "payload": {} });
            assert_eq!(gateway.ask("POST", path, &other, key).await.unwrap().0, 409, "another body under the same key");
        }
    }
    ledger.settle("repeats, at once and after a kill").await;
}
