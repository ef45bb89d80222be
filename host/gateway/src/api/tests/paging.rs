//! Lists in pages, in both directions.

use super::*;

#[tokio::test]
async fn a_list_is_read_forward_and_back_in_both_orders() {
    let api = Api::start().await;
    for number in 0..5 {
        api.app(&format!("app-{number}")).await;
    }
    for (order, expected) in [("ascending", [0, 1, 2, 3, 4]), ("descending", [4, 3, 2, 1, 0])] {
        let expected: Vec<String> = expected.iter().map(|number| format!("app-{number}")).collect();
        let page = async |iterator: &str| {
            let path = format!("/app?limit=2&order={order}&iterator={iterator}");
            api.get(path.trim_end_matches("&iterator=")).await.ok(200)
        };
        let first = page("").await;
        let second = page(first["iterator"].as_str().unwrap()).await;
        let third = page(second["iterator"].as_str().unwrap()).await;
        let all = [&first, &second, &third].map(|page| column(page, "uid")).concat();
        assert_eq!(all, expected);
        assert_eq!([&first, &second, &third].map(|page| page["done"] == true), [false, false, true]);

        let back = page(third["prevIterator"].as_str().unwrap()).await;
        assert_eq!((column(&back, "uid"), back["done"] == true), (column(&second, "uid"), false));
        let back = page(back["prevIterator"].as_str().unwrap()).await;
        assert_eq!((column(&back, "uid"), back["done"] == true), (column(&first, "uid"), true));
    }
}

#[tokio::test]
async fn an_empty_page_is_done_and_leads_nowhere() {
    let api = Api::start().await;
    let expected = json!({"data": [], "iterator": null, "prevIterator": null, "done": true});
    assert_eq!(api.get("/app").await.ok(200), expected);
}

#[tokio::test]
async fn never_more_than_250_rows_are_given_and_50_unless_asked() {
    let api = Api::start().await;
    let minter = &api.gateway.minter;
    let app = api.app("acme").await;
    let source = id(&api.post(&format!("/app/{app}/source"), json!({"name": "s"})).await.ok(201));
    for _ in 0..260 {
        let event = NewEvent {
            id: minter.mint(),
            app: app.parse().unwrap(),
            source: source.parse().unwrap(),
            received_at: api.now(),
            headers: Vec::new(),
            body: b"{}".to_vec(),
            dedupe_key: None,
        };
        api.gateway.store.accept_event(event, false).await.unwrap();
    }
    let count = async |query: &str| {
        let list = api.get(&format!("/app/acme/inbound{query}")).await.ok(200);
        (list["data"].as_array().unwrap().len(), list["done"] == true)
    };
    assert_eq!(count("").await, (50, false));
    assert_eq!(count("?limit=251").await, (250, false));
    assert_eq!(count("?limit=100000").await, (250, false));
}
