//! Rotation of the keys under which secrets rest.

use super::*;
use crate::{
    reseal::{self, Resealed},
    sealing,
    secret::key_file,
};

#[tokio::test]
async fn everything_is_sealed_anew_under_the_new_key_and_still_opens() {
    let api = Api::start().await;
    let path = api.folder.path().join("secret.key");
    for app in ["acme", "other"] {
        api.app(app).await;
        api.put(&format!("/app/{app}/endpoint/main"), json!({"url": "https://example.com"})).await.ok(201);
        api.put(&format!("/app/{app}/endpoint/main/headers"), json!({"headers": {"X-Tenant": "one"}})).await.ok(204);
        api.post(&format!("/app/{app}/source"), json!({"name": "site", "uid": "site"})).await.ok(201);
        let signed = json!({"scheme": "github", "secrets": ["what senders sign with"]});
        api.put(&format!("/app/{app}/source/site/verification"), signed).await.ok(200);
    }
    let seen = async |app: &str| {
        let secret = api.get(&format!("/app/{app}/endpoint/main/secret")).await.ok(200);
        let headers = api.get(&format!("/app/{app}/endpoint/main/headers")).await.ok(200);
        (secret, headers, api.get(&format!("/app/{app}/source/site")).await.ok(200))
    };
    let before = seen("acme").await;
    let cache_key = sealing::cache_key(&*api.gateway.store, &api.gateway.keyring).await.unwrap();
    let (store, keyring) = (&*api.gateway.store, &api.gateway.keyring);
    assert_eq!(reseal::reseal_all(&api.gateway).await.unwrap(), Resealed::default());

    let old = keyring.ids()[0];
    let new = key_file::rotate(&path).unwrap()[0];
    assert!(keyring.reload().unwrap());
    let used = async || reseal::in_use(store).await.unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(used().await, [(old, 9)]);
    api.put("/app/other/endpoint/late", json!({"url": "https://example.com"})).await.ok(201);
    assert_eq!(reseal::reseal_all(&api.gateway).await.unwrap(), Resealed { changed: 5, failed: 0 });
    assert_eq!(used().await, [(new, 10)]);
    assert_eq!(reseal::reseal_all(&api.gateway).await.unwrap(), Resealed::default());

    key_file::retire(&path, &reseal::in_use(store).await.unwrap().into_keys().collect()).unwrap();
    assert!(keyring.reload().unwrap());
    assert_eq!(keyring.ids(), [new]);
    assert_eq!(seen("acme").await, before);
    assert_eq!(sealing::cache_key(store, keyring).await.unwrap(), cache_key, "compiled code outlives the rotation");
    let foreign = SecretKeyring::open(&api.folder.path().join("other.key")).unwrap();
    let refused = sealing::cache_key(store, &foreign).await.unwrap_err();
    assert_eq!(refused.to_string(), "this key file is not the one that the store was written with");
}
