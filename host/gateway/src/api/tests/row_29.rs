//! Row 29 of the abuse list over every route, generated from the document, so that a new route can't forget it: another
//! tenant's ids, keys that expired or were revoked, and each role where it may not.

use std::{collections::BTreeMap, time::Duration};

use axum::http::Method;
use serde_json::{Value, json};

use super::{Answer, Api, conformity::document, id};
use crate::{
    api::auth::NewKey,
    audit::{ActorKind, Entry, Outcome},
    id::{AppId, TypedId},
    store::{PageRequest, resource::Role},
};

/// An operation of the document.
struct Operation {
    id: String,
    method: Method,
    path: String,
    /// The roles that may do it; none: it needs no key.
    roles: Option<Vec<Role>>,
    has_json: bool,
}

fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let roles = &operation["security"][0]["HTTPBearer"];
            let read = |roles: &Value| serde_json::from_value::<Vec<Role>>(roles.clone()).unwrap();
            all.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_ascii_uppercase().parse().unwrap(),
                path: path.clone(),
                roles: roles.is_array().then(|| read(roles)),
                has_json: operation["requestBody"]["content"]["application/json"].is_object(),
            });
        }
    }
    all
}

/// A tenant with something of each kind, by the names of the path's parameters, and its keys.
struct Tenant {
    app: AppId,
    ids: BTreeMap<&'static str, String>,
    keys: BTreeMap<&'static str, String>,
}

impl Tenant {
    async fn make(api: &Api, uid: &str) -> Self {
        let app = api.app(uid).await;
        let made = async |kind: &str, body: Value| id(&api.post(&format!("/app/{app}/{kind}"), body).await.ok(201));
        let (plugin, version) = api.plugin(&app, "p", true, true).await;
        let message = api.post(&format!("/app/{app}/msg"), json!({"eventType": "a.b", "payload": {}})).await;
        fn any<I: TypedId + ToString>(api: &Api) -> String {
            api.gateway.minter.mint::<I>().to_string()
        }
        let ids = BTreeMap::from([
            ("app_id", app.clone()),
            ("endpoint_id", made("endpoint", json!({"url": "https://example.com"})).await),
            ("source_id", made("source", json!({"name": "s"})).await),
            ("rule_id", made("rule", json!({"key": "k", "trigger": "a.b"})).await),
            ("plugin_id", plugin),
            ("version_id", version),
            ("msg_id", id(&message.ok(202))),
            ("key_id", made("key", json!({"name": "k", "role": "user"})).await),
            ("attempt_id", any::<crate::id::AttemptId>(api)),
            ("backtest_id", any::<crate::id::BacktestId>(api)),
            ("call_id", any::<crate::id::CallId>(api)),
            ("dead_letter_id", any::<crate::id::DeadLetterId>(api)),
            ("event_id", any::<crate::id::EventId>(api)),
            ("event_type_name", "a.b".to_owned()),
            ("profile_name", "standard".to_owned()),
            ("replay_id", any::<crate::id::ReplayId>(api)),
        ]);
        let roles = [("admin", Role::Admin), ("manager", Role::Manager), ("user", Role::User)];
        let mut keys = BTreeMap::new();
        for (name, role) in roles {
            keys.insert(name, api.make_key(Some(&app), role).await);
        }
        let app: AppId = app.parse().unwrap();
        let past = Some(api.now().before(Duration::from_secs(1)));
        let expired = NewKey { expires_at: past, ..NewKey::lasting(Some(app.clone()), Role::Admin, "expired") };
        let (_, text, writes) = expired.make(&api.gateway.minter, api.now());
        api.gateway.write(writes, api.now()).await.unwrap();
        keys.insert("expired", text);
        let revoked = api.post(&format!("/app/{app}/key"), json!({"name": "revoked", "role": "admin"})).await.ok(201);
        api.delete(&format!("/app/{app}/key/{}", id(&revoked))).await.ok(204);
        keys.insert("revoked", revoked["key"].as_str().unwrap().to_owned());
        Self { app, ids, keys }
    }

    /// A path with this tenant's ids in it, the application's excepted if another one is given.
    fn fill(&self, path: &str, app: &str) -> String {
        let fill = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            None => part.to_owned(),
            Some("app_id") => app.to_owned(),
            Some(name) => self.ids.get(name).unwrap_or_else(|| panic!("the test has no {name}")).clone(),
        };
        path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }
}

async fn ask(api: &Api, key: &str, operation: &Operation, path: &str) -> Answer {
    // The limits of what is recorded a minute are for others.
    api.clock.advance(Duration::from_secs(61));
    let body = operation.has_json.then(|| json!({}));
    api.send(key, operation.method.clone(), path, body).await
}

/// Checks that the log's last entry tells of this refusal, and of nothing else.
async fn noted(api: &Api, app: Option<&AppId>, operation: &Operation, path: &str, status: u16) -> Entry {
    let entry = api.gateway.store.audit(app, PageRequest::newest(1)).await.unwrap().rows.remove(0);
    let told = format!("{} {path}: {entry:?}", operation.method);
    assert_eq!((entry.outcome, entry.status), (Outcome::Refused, Some(status)), "{told}");
    assert_eq!((entry.path.as_deref(), &entry.action), (Some(path), &operation.id), "{told}");
    assert_eq!((&entry.before, &entry.after, &entry.subject), (&None, &None, &None), "{told}");
    entry
}

#[tokio::test]
async fn every_route_refuses_foreign_ids_outdated_keys_and_wrong_roles_and_the_log_tells_of_it() {
    let api = Api::start().await;
    let (own, other) = (Tenant::make(&api, "own").await, Tenant::make(&api, "other").await);
    let mut checked = 0;
    for operation in operations() {
        let Some(roles) = &operation.roles else { continue };
        checked += 1;
        let told = format!("{} {}", operation.method, operation.path);
        let path = own.fill(&operation.path, own.app.as_str());
        for name in ["expired", "revoked"] {
            ask(&api, &own.keys[name], &operation, &path).await.refused(401, "authentication_failed");
            let entry = noted(&api, Some(&own.app), &operation, &path, 401).await;
            assert_eq!((entry.actor.kind, entry.actor.name.as_deref()), (ActorKind::Key, Some(name)), "{told}");
        }
        ask(&api, "hl_nobody", &operation, &path).await.refused(401, "authentication_failed");
        let entry = noted(&api, None, &operation, &path, 401).await;
        assert_eq!(
            entry.actor.name.as_deref(),
            Some("hl_nobo"),
            "{told}: of an unknown key only its beginning is kept"
        );
        for (name, role) in [("admin", Role::Admin), ("manager", Role::Manager), ("user", Role::User)] {
            if !roles.contains(&role) {
                ask(&api, &own.keys[name], &operation, &path).await.refused(403, "permission_denied");
                noted(&api, Some(&own.app), &operation, &path, 403).await;
            }
        }
        if !operation.path.contains("{app_id}") {
            continue;
        }
        // Another tenant's application reads as one that does not exist, whatever else the path names.
        let nobody = own.fill(&operation.path, "app_00000000000000000000000000");
        let missing = ask(&api, &own.keys["admin"], &operation, &nobody).await;
        missing.refused(404, "not_found");
        for name in ["admin", "manager", "user"] {
            let foreign = other.fill(&operation.path, other.app.as_str());
            let answer = ask(&api, &own.keys[name], &operation, &foreign).await;
            assert_eq!((answer.status, &answer.text), (missing.status, &missing.text), "{told}");
            noted(&api, Some(&own.app), &operation, &foreign, 404).await;
        }
        // Another tenant's ids within the own application; profiles are everybody's.
        let names_more = operation.path.matches('{').count() > 1 && !operation.path.contains("{profile_name}");
        if names_more && roles.contains(&Role::Admin) {
            let mixed = other.fill(&operation.path, own.app.as_str());
            let answer = ask(&api, &own.keys["admin"], &operation, &mixed).await;
            if answer.status == 404 {
                noted(&api, Some(&own.app), &operation, &mixed, 404).await;
            } else {
                // What is wrong with a body is found before its subject is looked for: nothing is learnt from that.
                assert!([415, 422].contains(&answer.status.as_u16()), "{told}: {answer:?}");
                let nowhere = own.fill(&operation.path, own.app.as_str());
                assert_eq!(ask(&api, &own.keys["admin"], &operation, &nowhere).await.text, answer.text, "{told}");
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

#[tokio::test]
async fn a_systems_own_routes_reach_no_other_tenants_endpoint() {
    let api = Api::start().await;
    let (own, other) = (Tenant::make(&api, "own").await, Tenant::make(&api, "other").await);
    let profiles = &api.gateway.config.profiles;
    let systems = profiles.iter().filter_map(|profile| profile.outbound.as_ref()?.configuration_api.as_ref());
    for names in systems {
        let operations: Vec<Operation> = operations().into_iter().filter(|it| it.path == names.path).collect();
        let of = |method: Method| operations.iter().find(|it| it.method == method).unwrap();
        let object = |fields: [(&String, Value); 2]| {
            Some(Value::Object(fields.map(|(name, value)| (name.clone(), value)).into_iter().collect()))
        };
        let made = object([(&names.url, json!("https://example.com/")), (&names.events, json!(["*"]))]);
        let made = api.send(&other.keys["admin"], Method::POST, &names.path, made).await.ok(201);
        let off = object([(&names.id, made[&names.id].clone()), (&names.active, json!(false))]);
        let named = format!("{}?{}={}", names.path, names.id, made[&names.id].as_str().unwrap());
        for (method, path, body) in [(Method::PATCH, &names.path, off.clone()), (Method::DELETE, &named, None)] {
            api.clock.advance(Duration::from_secs(61));
            api.send(&own.keys["admin"], method.clone(), path, body).await.refused(404, "not_found");
            noted(&api, Some(&own.app), of(method), &names.path, 404).await;
        }
        assert_eq!(api.send(&own.keys["admin"], Method::GET, &names.path, None).await.ok(200), json!([]));
        api.send(&other.keys["admin"], Method::PATCH, &names.path, off).await.ok(200);
    }
}

#[tokio::test]
async fn every_route_lets_in_exactly_the_roles_that_the_document_names() {
    let api = Api::start().await;
    let own = Tenant::make(&api, "own").await;
    for operation in operations() {
        let Some(roles) = &operation.roles else { continue };
        // These end what the others need.
        if ["v1.application.delete", "logout_api_v1_auth_logout__post"].contains(&&*operation.id) {
            continue;
        }
        let path = own.fill(&operation.path, own.app.as_str());
        let keys = [
            (Role::Operator, &api.operator),
            (Role::Admin, &own.keys["admin"]),
            (Role::Manager, &own.keys["manager"]),
            (Role::User, &own.keys["user"]),
        ];
        for (role, key) in keys.into_iter().rev() {
            let status = ask(&api, key, &operation, &path).await.status.as_u16();
            let told = format!("{role:?}: {} {path} answered {status}", operation.method);
            assert_eq!(status != 403, roles.contains(&role), "{told}");
            assert_ne!(status, 401, "{told}");
        }
    }
}
