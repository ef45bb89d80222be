//! Tokens of the platform's own login: whose count, and every way in which one does not.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, http::Method, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::Api;
use crate::audit::ActorKind;

const ISSUER: &str = "https://login.example.com";

/// A provider that publishes keys.
struct Provider {
    published: Arc<Mutex<Vec<Value>>>,
    url: String,
}

/// A key of a provider.
struct Key {
    name: &'static str,
    private: EncodingKey,
    public: Value,
}

impl Key {
    fn make(name: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name, "x": x});
        Self { name, private: EncodingKey::from_ed_der(document.as_ref()), public }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.name.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &self.private).unwrap()
    }
}

impl Provider {
    async fn start(keys: &[&Key]) -> Self {
        let published = Arc::new(Mutex::new(keys.iter().map(|key| key.public.clone()).collect::<Vec<_>>()));
        let shared = published.clone();
        let answer = async move || Json(json!({"keys": *shared.lock().unwrap()}));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/jwks", get(answer))).await });
        Self { published, url }
    }

    async fn gateway(&self, more: &str) -> Api {
        let config = format!(
            "[egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n[oidc]\nissuer = \"{ISSUER}\"\n\
             audience = \"hookloom\"\njwks_url = \"{}\"\n{more}",
            self.url
        );
        Api::start_with(&config).await
    }
}

fn claims(api: &Api) -> Value {
    let now = api.now().as_millis() / 1000;
    json!({
        "sub": "ann", "iss": ISSUER, "aud": "hookloom", "exp": now + 300,
        "hookloom_app": "acme", "hookloom_role": "manager",
    })
}

/// The status of reading the tenant's endpoints with a token.
async fn asked(api: &Api, token: &str) -> u16 {
    api.send(token, Method::GET, "/app/acme/endpoint", None).await.status.as_u16()
}

#[tokio::test]
async fn a_token_of_the_platforms_login_may_what_its_claims_say() {
    let key = Key::make("one");
    let provider = Provider::start(&[&key]).await;
    let api = provider.gateway("").await;
    let (acme, _) = (api.app("acme").await, api.app("other").await);
    let token = key.sign(&claims(&api));
    assert_eq!(asked(&api, &token).await, 200);
    api.send(&token, Method::POST, "/app/acme/endpoint", Some(json!({}))).await.refused(403, "permission_denied");
    api.send(&token, Method::GET, "/app/other/endpoint", None).await.refused(404, "not_found");
    let log =
        api.gateway.store.audit(Some(&acme.parse().unwrap()), crate::store::PageRequest::newest(2)).await.unwrap();
    let of: Vec<_> = log.rows.iter().map(|entry| (entry.actor.kind, entry.actor.name.as_deref())).collect();
    assert_eq!(of, [(ActorKind::Login, Some("ann")); 2]);
}

#[tokio::test]
async fn a_plugins_history_says_who_it_was_by_the_platforms_login() {
    let key = Key::make("one");
    let provider = Provider::start(&[&key]).await;
    let api = provider.gateway("").await;
    api.app("acme").await;
    let (_, version) = api.plugin("acme", "p", true, false).await;
    let mut claims = claims(&api);
    claims["hookloom_role"] = "admin".into();
    let token = key.sign(&claims);
    let activate = format!("/app/acme/plugin/p/version/{version}/activate");
    api.send(&token, Method::POST, &activate, Some(json!({}))).await.ok(200);
    let history = api.get("/app/acme/plugin/p/history").await.ok(200);
    assert_eq!((&history["data"][0]["login"], &history["data"][0]["by"]), (&json!("ann"), &Value::Null));
}

#[tokio::test]
async fn a_systems_own_routes_take_a_token_of_the_platforms_login() {
    let key = Key::make("one");
    let provider = Provider::start(&[&key]).await;
    let api = provider.gateway("").await;
    let (acme, _) = (api.app("acme").await, api.app("other").await);
    let token = |app: &str, role: &str| {
        let mut claims = claims(&api);
        (claims["hookloom_app"], claims["hookloom_role"]) = (app.into(), role.into());
        key.sign(&claims)
    };
    let profiles = &api.gateway.config.profiles;
    let systems = profiles.iter().filter_map(|profile| profile.outbound.as_ref()?.configuration_api.as_ref());
    let mut checked = 0;
    for names in systems {
        checked += 1;
        let body = json!({ &names.url: "https://example.com/", &names.events: ["*"] });
        let create =
            async |role: &str| api.send(&token("acme", role), Method::POST, &names.path, Some(body.clone())).await;
        let list = async |app: &str, role: &str| api.send(&token(app, role), Method::GET, &names.path, None).await;
        create("manager").await.refused(403, "permission_denied");
        let made = create("admin").await.ok(201);
        let log = api.gateway.store.audit(Some(&acme.parse().unwrap()), crate::store::PageRequest::newest(1)).await;
        let actor = log.unwrap().rows.remove(0).actor;
        assert_eq!((actor.kind, actor.name.as_deref()), (ActorKind::Login, Some("ann")));
        assert_eq!(list("acme", "manager").await.ok(200)[0][&names.id], made[&names.id]);
        list("acme", "user").await.refused(403, "permission_denied");
        assert_eq!(list("other", "admin").await.ok(200), json!([]));
        api.send("a.b.c", Method::GET, &names.path, None).await.refused(401, "authentication_failed");
        let off = json!({ &names.id: made[&names.id], &names.active: false });
        let off = api.send(&token("acme", "admin"), Method::PATCH, &names.path, Some(off)).await.ok(200);
        assert_eq!(off[&names.active], false);
        let named = format!("{}?{}={}", names.path, names.id, made[&names.id].as_str().unwrap());
        api.send(&token("acme", "admin"), Method::DELETE, &named, None).await.ok(204);
    }
    assert!(checked > 0);
}

#[tokio::test]
async fn a_token_that_is_not_right_in_every_way_does_not_count() {
    let (key, stranger) = (Key::make("one"), Key::make("one"));
    let provider = Provider::start(&[&key]).await;
    let api = provider.gateway("").await;
    api.app("acme").await;
    let with = |name: &str, value: Value| {
        let mut claims = claims(&api);
        claims[name] = value;
        claims
    };
    let now = api.now().as_millis() / 1000;
    let wrong = [
        ("another key of that name", stranger.sign(&claims(&api))),
        ("another issuer", key.sign(&with("iss", json!("https://evil.example.com")))),
        ("another audience", key.sign(&with("aud", json!("others")))),
        ("no audience", key.sign(&with("aud", Value::Null))),
        ("it is over", key.sign(&with("exp", json!(now - 60)))),
        ("it never ends", key.sign(&with("exp", Value::Null))),
        ("not yet", key.sign(&with("nbf", json!(now + 120)))),
        ("an unusable time", key.sign(&with("nbf", json!("soon")))),
        ("no role", key.sign(&with("hookloom_role", Value::Null))),
        ("an unknown role", key.sign(&with("hookloom_role", json!("root")))),
        ("an operator, who is not allowed", key.sign(&with("hookloom_role", json!("operator")))),
        ("no tenant", key.sign(&with("hookloom_app", Value::Null))),
        ("a tenant that is not there", key.sign(&with("hookloom_app", json!("nobody")))),
        ("no token", "a.b.c".to_owned()),
    ];
    for (what, token) in wrong {
        assert_eq!(asked(&api, &token).await, 401, "{what}");
    }
    assert_eq!(asked(&api, &key.sign(&claims(&api))).await, 200);
}

#[tokio::test]
async fn a_public_key_is_never_a_shared_secret_and_none_is_no_algorithm() {
    let key = Key::make("one");
    let provider = Provider::start(&[&key]).await;
    let api = provider.gateway("").await;
    api.app("acme").await;
    let secret = EncodingKey::from_secret(key.public["x"].as_str().unwrap().as_bytes());
    for algorithm in [Algorithm::HS256, Algorithm::HS512] {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(algorithm) };
        assert_eq!(asked(&api, &encode(&header, &claims(&api), &secret).unwrap()).await, 401, "{algorithm:?}");
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", "nOnE"] {
        let head = json!({"alg": algorithm, "kid": "one", "typ": "JWT"});
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", part(&head), part(&claims(&api)));
            assert_eq!(asked(&api, &token).await, 401, "{algorithm}");
        }
    }
    // A token that says another algorithm than the key has.
    let head = json!({"alg": "RS256", "kid": "one", "typ": "JWT"});
    let signed = key.sign(&claims(&api));
    let token = format!("{}.{}", part(&head), signed.split_once('.').unwrap().1);
    assert_eq!(asked(&api, &token).await, 401);
}

#[tokio::test]
async fn a_new_key_is_found_and_a_withdrawn_one_ends_to_count() {
    let (old, new) = (Key::make("old"), Key::make("new"));
    let provider = Provider::start(&[&old]).await;
    let api = provider.gateway("").await;
    api.app("acme").await;
    assert_eq!(asked(&api, &old.sign(&claims(&api))).await, 200);
    *provider.published.lock().unwrap() = vec![json!({"kty": "unheard of"}), new.public.clone()];
    // Unknown names don't make the gateway ask all the time.
    assert_eq!(asked(&api, &new.sign(&claims(&api))).await, 401);
    api.clock.advance(std::time::Duration::from_secs(11));
    assert_eq!(asked(&api, &new.sign(&claims(&api))).await, 200);
    assert_eq!(asked(&api, &old.sign(&claims(&api))).await, 401);
}

#[tokio::test]
async fn a_login_may_make_operators_where_that_is_allowed() {
    let key = Key::make("one");
    let provider = Provider::start(&[&key]).await;
    let api = provider.gateway("operators = true\n").await;
    let mut claims = claims(&api);
    claims["hookloom_role"] = json!("operator");
    assert_eq!(api.send(&key.sign(&claims), Method::GET, "/app", None).await.status, 401, "operators have no tenant");
    claims.as_object_mut().unwrap().remove("hookloom_app");
    assert_eq!(api.send(&key.sign(&claims), Method::GET, "/app", None).await.status, 200);
}
