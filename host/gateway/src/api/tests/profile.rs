//! Profiles: what a system asks of endpoints holds however requests fall together.

use super::*;
use crate::profile::Profile;

/// A built-in system whose tenants have one endpoint.
fn single(api: &Api) -> String {
    let has_one =
        |profile: &&Arc<Profile>| profile.outbound.as_ref().is_some_and(|outbound| outbound.endpoints_max == Some(1));
    api.gateway.config.profiles.iter().find(has_one).unwrap().name.clone()
}

async fn ask(api: Arc<Api>, method: Method, path: String, body: Value) -> u16 {
    api.send(&api.operator, method, &path, Some(body)).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_two_endpoints_one_is_made_whichever_comes_in_the_middle_of_the_other() {
    let api = Arc::new(Api::start().await);
    let single = single(&api);
    for by_choice in [false, true] {
        for moment in 0.. {
            assert!(moment < 50, "the clock is looked at for ever");
            let app = format!("app-{by_choice}-{moment}");
            api.app(&app).await;
            let endpoint = |number: u8| json!({"url": format!("https://example.com/{number}")});
            let path = format!("/app/{app}/endpoint");
            let first = if by_choice {
                api.put(&format!("{path}/plain"), endpoint(0)).await.ok(201);
                ask(api.clone(), Method::PUT, format!("{path}/plain/profile"), json!({"profile": single}))
            } else {
                api.put(&format!("/app/{app}/default-profile"), json!({"profile": single})).await.ok(200);
                ask(api.clone(), Method::POST, path.clone(), endpoint(1))
            };
            let second = if by_choice {
                api.put(&format!("{path}/other"), endpoint(2)).await.ok(201);
                ask(api.clone(), Method::PUT, format!("{path}/other/profile"), json!({"profile": single}))
            } else {
                ask(api.clone(), Method::POST, path.clone(), endpoint(2))
            };
            let Some((first, second)) = api.in_the_middle(moment, first, second).await else { break };
            let made = [first, second].into_iter().filter(|status| matches!(status, 200 | 201)).count();
            assert_eq!(made, 1, "{app}: {first} {second}");
        }
    }
}
