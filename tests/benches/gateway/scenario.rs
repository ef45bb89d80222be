//! What is measured, a function a scenario. Each starts a gateway of its own over a new store.

use std::{
    fs::File,
    io::Write as _,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hookloom::timing::Percentiles;
use hookloom_tests::plugins;
use serde_json::{Value, json};

use super::{
    http,
    ledger::{self, Ledger},
    load::{Load, Template},
    process::{self, Gateway},
    receiver::{self, Receiver},
    report::Report,
    seed,
};

/// The `message.inbound` event of the runtime's bench, 415 bytes, with a number in it that the reshaper passes on.
const MESSAGE: &str = r#"{"id":"a3f1c2d4-8b7e-4f60-9c21-5d3e7a90b1c2","event":"message.inbound","data":{"name":"Maria Gonzalez","phone":"+18883213212","message":"Hi, could you come on Thursday at 4? The boiler is \"knocking\" again","source":"Textchat","businessId":"b_20417","businessName":"Apex HVAC","createdAt":"2026-06-30T17:40:00.000Z","customerId":"c_883012","attributes":{"campaign":"spring","seq":1000000,"tags":["vip","repeat"]}}}"#;
/// What a field-service system posts; the mapper hands on what it doesn't know.
const EVENT: &str = r#"{"event_type":"job_completed","name":"Maria Gonzalez","phone":"+18883213212","email":"maria@example.com","job_id":"J-20417","total":129.5,"seq":1000000,"technician":"Sam","notes":"Replaced the valve; the boiler no longer knocks."}"#;
/// Connections of the closed loads.
const CONNECTIONS: usize = 16;
/// Messages that may be on their way in a closed load.
const WAITING_MAX: u64 = 1_000;
/// Everything that was accepted has to arrive within this after the load's end.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What is run, and for how long.
pub struct Plan {
    /// Parts of the names of the keys that are wanted; none means all.
    pub filters: Vec<String>,
    /// How often each figure is measured.
    pub runs: usize,
    /// Before each window.
    pub warm_up: Duration,
    /// The time that counts.
    pub window: Duration,
    /// Messages that wait for the dead endpoint.
    pub backlog: u64,
}

impl Plan {
    fn wants(&self, keys: &[&str]) -> bool {
        self.filters.is_empty()
            || keys.iter().any(|key| self.filters.iter().any(|filter| key.contains(filter.as_str())))
    }
}

/// Runs what is wanted.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let receiver = Receiver::start()?;
    println!("| key | median | goal | runs |\n|---|--:|---|---|");
    if plan.wants(&["delivered_per_s", "cpu_us_per_message"]) {
        let runs = repeat(plan, || steady(plan, &receiver, Way::Published))?;
        throughput(report, "delivered_per_s", &runs);
        report.figure("cpu_us_per_message", &runs.iter().map(|run| run.cpu_us).collect::<Vec<_>>(), true);
    }
    if plan.wants(&["delivered_per_s_postgres"]) {
        throughput(report, "delivered_per_s_postgres", &repeat(plan, || steady_on_postgres(plan, &receiver))?);
    }
    if plan.wants(&["inbound_per_s"]) {
        throughput(report, "inbound_per_s", &repeat(plan, || steady(plan, &receiver, Way::Inbound))?);
    }
    if plan.wants(&["p95_ms_at_200", "p99_ms_at_200"]) {
        let runs = repeat(plan, || at_200(plan, &receiver))?;
        let valid = runs.iter().all(|run| run.valid);
        report.figure("p95_ms_at_200", &runs.iter().map(|run| ms(run.end_to_end.p95_us)).collect::<Vec<_>>(), valid);
        report.figure("p99_ms_at_200", &runs.iter().map(|run| ms(run.end_to_end.p99_us)).collect::<Vec<_>>(), valid);
        let last = &runs[runs.len() - 1];
        report.stage("at_200", "accept (client)", last.answers);
        stages(report, "at_200", &last.stages);
        report.stage("at_200", "accept to delivered", last.end_to_end);
    }
    if plan.wants(&["accept_p50_ms_1_conn"]) {
        let runs = repeat(plan, || one_by_one(plan, &receiver))?;
        report.figure("accept_p50_ms_1_conn", &runs.iter().map(|run| run.0).collect::<Vec<_>>(), true);
        report.figure("fdatasync_p50_ms", &runs.iter().map(|run| run.1).collect::<Vec<_>>(), true);
    }
    if plan.wants(&["fanout_per_s"]) {
        throughput(report, "fanout_per_s", &repeat(plan, || steady(plan, &receiver, Way::FannedOut))?);
    }
    if plan.wants(&["neighbor_e2e_p99_ratio"]) {
        neighbor(plan, &receiver, report)?;
    }
    if plan.wants(&["backlog_rss_mb", "backlog_slowdown", "restart_ready_ms"]) {
        backlog(plan, &receiver, report)?;
    }
    Ok(())
}

fn repeat<T>(plan: &Plan, measure: impl Fn() -> Result<T>) -> Result<Vec<T>> {
    (0..plan.runs).map(|_| measure()).collect()
}

/// Tells how many deliveries a second there were, what they cost, and how long the stages took in the last run.
fn throughput(report: &mut Report, key: &str, runs: &[Steady]) {
    let valid = runs.iter().all(|run| run.valid);
    report.figure(key, &runs.iter().map(|run| run.per_s).collect::<Vec<_>>(), valid);
    if let Some(last) = runs.last() {
        report.cost(key, last.cpu_us, last.load_us, last.postgres_us);
        stages(report, key, &last.stages);
    }
}

fn stages(report: &mut Report, scenario: &str, stages: &Value) {
    for stage in ["accept", "queue", "plugin", "delivery"] {
        let us = |key: &str| stages[stage][key].as_u64().unwrap_or_default();
        let times = Percentiles {
            count: us("count"),
            p50_us: us("p50Us"),
            p95_us: us("p95Us"),
            p99_us: us("p99Us"),
            max_us: us("maxUs"),
        };
        report.stage(scenario, stage, times);
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// How messages come in and go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Published, reshaped, to one endpoint.
    Published,
    /// Posted to a source, mapped, matched by a rule, to one endpoint.
    Inbound,
    /// Published, reshaped, to 50 endpoints.
    FannedOut,
}

impl Way {
    fn deliveries(self) -> u64 {
        if self == Self::FannedOut { 50 } else { 1 }
    }
}

struct Steady {
    per_s: f64,
    /// Processor time a delivery: the gateway's,
    cpu_us: f64,
    /// that of load and receiver,
    load_us: f64,
    /// and that of PostgreSQL, if there is one.
    postgres_us: f64,
    stages: Value,
    valid: bool,
}

/// Deliveries a second while as much is accepted as delivered.
fn steady(plan: &Plan, receiver: &Receiver, way: Way) -> Result<Steady> {
    let gateway = Gateway::start()?;
    let template = tenant(&gateway, receiver, "acme", way)?;
    steady_on(plan, receiver, &gateway, &template, way)
}

/// The same over a new database of a PostgreSQL of this machine, with the durability that it has by default.
fn steady_on_postgres(plan: &Plan, receiver: &Receiver) -> Result<Steady> {
    let url = tokio::runtime::Runtime::new()?.block_on(hookloom_tests::postgres::database());
    let gateway = Gateway::start_on(Some(&url))?;
    let template = tenant(&gateway, receiver, "acme", Way::Published)?;
    steady_on(plan, receiver, &gateway, &template, Way::Published)
}

fn steady_on(plan: &Plan, receiver: &Receiver, gateway: &Gateway, template: &Template, way: Way) -> Result<Steady> {
    let ledger = Arc::new(Ledger::new(ledger::MAX));
    receiver.note_in(&ledger);
    let waiting = WAITING_MAX / way.deliveries();
    let load = Load::closed(template, &ledger, CONNECTIONS, way.deliveries(), waiting);
    thread::sleep(plan.warm_up);
    gateway.call("GET", "timings?reset=true", &Value::Null)?;
    let (begun, before) = (Instant::now(), ledger.delivered());
    let used = || Ok::<_, anyhow::Error>([gateway.cpu()?, process::own_cpu()?, process::postgres_cpu()?]);
    let used_before = used()?;
    thread::sleep(plan.window);
    let (took, delivered, used) = (begun.elapsed(), ledger.delivered() - before, used()?);
    let stages = gateway.call("GET", "timings", &Value::Null)?;
    load.end();
    let valid = drained(&ledger, way.deliveries()) && delivered > 0;
    let each = |process: usize| {
        used[process].saturating_sub(used_before[process]).as_secs_f64() * 1e6 / (delivered.max(1)) as f64
    };
    Ok(Steady {
        per_s: delivered as f64 / took.as_secs_f64(),
        cpu_us: each(0),
        load_us: each(1),
        postgres_us: each(2),
        stages,
        valid,
    })
}

struct Paced {
    end_to_end: Percentiles,
    answers: Percentiles,
    stages: Value,
    valid: bool,
}

/// The times at 200 messages a second, which come by chance.
fn at_200(plan: &Plan, receiver: &Receiver) -> Result<Paced> {
    let gateway = Gateway::start()?;
    let template = tenant(&gateway, receiver, "acme", Way::Published)?;
    paced((plan.warm_up, plan.window), receiver, &gateway, &template, 200.0)
}

fn paced(
    (warm_up, window): (Duration, Duration),
    receiver: &Receiver,
    gateway: &Gateway,
    template: &Template,
    rate: f64,
) -> Result<Paced> {
    let ledger = Arc::new(Ledger::new(ledger::MAX));
    receiver.note_in(&ledger);
    let load = Load::open(template, &ledger, rate, 42);
    thread::sleep(warm_up);
    ledger.answers().reset();
    gateway.call("GET", "timings?reset=true", &Value::Null)?;
    let from = ledger.now();
    thread::sleep(window);
    let to = ledger.now();
    let stages = gateway.call("GET", "timings", &Value::Null)?;
    let answers = ledger.answers().percentiles();
    load.end();
    let valid = drained(&ledger, 1);
    Ok(Paced { end_to_end: ledger.end_to_end(from, to), answers, stages, valid })
}

/// The time of an accept when nothing else goes on, and of a sync of the same disk.
fn one_by_one(plan: &Plan, receiver: &Receiver) -> Result<(f64, f64)> {
    let gateway = Gateway::start()?;
    let template = tenant(&gateway, receiver, "acme", Way::Published)?;
    let ledger = Arc::new(Ledger::new(ledger::MAX));
    receiver.note_in(&ledger);
    // Nothing is on its way when the next is sent.
    let load = Load::closed(&template, &ledger, 1, 1, 0);
    thread::sleep(plan.warm_up);
    ledger.answers().reset();
    thread::sleep(plan.window);
    load.end();
    let sync = hookloom::timing::Histogram::default();
    let mut file = File::create(gateway.folder().join("synced"))?;
    for _ in 0..300 {
        file.write_all(&[7; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        sync.record(begun.elapsed());
    }
    Ok((ms(ledger.answers().percentiles().p50_us), ms(sync.percentiles().p50_us)))
}

/// A tenant's times beside others that do harm: one publishes 400/s to a black hole, one has a plugin that never ends, one
/// floods its source with 400/s. Alone and beside them in turn, each time over a new store.
fn neighbor(plan: &Plan, receiver: &Receiver, report: &mut Report) -> Result<()> {
    let pairs = if plan.runs == 1 { 1 } else { 5 };
    let (warm_up, window) = (plan.warm_up.min(Duration::from_secs(3)), plan.window.min(Duration::from_secs(15)));
    let (mut ratios, mut valid) = (Vec::new(), true);
    for pair in 0..pairs {
        let mut p99 = [0.0; 2];
        for beside in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            let gateway = Gateway::start()?;
            let victim = tenant(&gateway, receiver, "victim", Way::Published)?;
            let attack = if beside { attackers(&gateway, receiver)? } else { Vec::new() };
            let times = paced((warm_up, window), receiver, &gateway, &victim, 100.0)?;
            attack.into_iter().for_each(Load::end);
            valid &= times.valid;
            p99[usize::from(beside)] = ms(times.end_to_end.p99_us);
            report.stage(
                if beside { "neighbor beside" } else { "neighbor alone" },
                "accept to delivered",
                times.end_to_end,
            );
        }
        ratios.push(p99[1] / p99[0].max(0.001));
    }
    report.figure("neighbor_e2e_p99_ratio", &ratios, valid);
    Ok(())
}

fn attackers(gateway: &Gateway, receiver: &Receiver) -> Result<Vec<Load>> {
    // Their messages carry no number that the victim's ledger counts.
    let unnumbered = |template: Template, rate, seed| {
        let ledger = Arc::new(Ledger::new(ledger::MAX));
        Load::open(&template, &ledger, rate, seed)
    };
    let message = MESSAGE.replace("\"seq\"", "\"other\"");
    let hole = receiver::black_hole()?;
    application(gateway, "hole")?;
    gateway.call("POST", "app/hole/endpoint", &json!({ "url": format!("http://{hole}/") }))?;
    let to_hole = published(gateway, "hole", &message)?;

    application(gateway, "endless")?;
    endpoint(gateway, receiver, "endless", "main")?;
    let plugin = plugin(gateway, "endless", plugins::hostile(), r#"{"mode":"loop"}"#)?;
    let binding = json!({ "pluginId": plugin, "onFailure": "hold" });
    gateway.call("PUT", "app/endless/endpoint/main/reshaper", &binding)?;
    let to_endless = published(gateway, "endless", &message)?;

    let flood = inbound(gateway, receiver, "flood", &EVENT.replace("\"seq\"", "\"other\""))?;
    Ok(vec![unnumbered(to_hole, 400.0, 1), unnumbered(to_endless, 20.0, 2), unnumbered(flood, 400.0, 3)])
}

/// The others' throughput, the memory and the restart with very many messages that wait for a dead endpoint.
fn backlog(plan: &Plan, receiver: &Receiver, report: &mut Report) -> Result<()> {
    let mut gateway = Gateway::start()?;
    let template = tenant(&gateway, receiver, "acme", Way::Published)?;
    application(&gateway, "dead")?;
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    gateway.call("POST", "app/dead/endpoint", &json!({ "url": format!("http://{nobody}/") }))?;
    gateway.call("POST", "app/dead/msg", &json!({ "eventType": "message.inbound", "payload": { "n": 1 } }))?;
    thread::sleep(Duration::from_secs(1));
    gateway.restart(|store| seed::copies(store, plan.backlog))?;
    gateway.wait()?;
    let beside = repeat(plan, || steady_on(plan, receiver, &gateway, &template, Way::Published))?;
    report.figure("backlog_rss_mb", &[gateway.peak_mib()], true);
    let without = repeat(plan, || steady(plan, receiver, Way::Published))?;
    let ratios: Vec<f64> = beside.iter().zip(&without).map(|(beside, without)| beside.per_s / without.per_s).collect();
    report.figure("backlog_slowdown", &ratios, beside.iter().chain(&without).all(|run| run.valid));

    let ready = repeat_mut(plan, || {
        let ledger = Arc::new(Ledger::new(ledger::MAX));
        receiver.note_in(&ledger);
        let started = gateway.restart(|_| Ok(()))?;
        gateway.wait()?;
        let load = Load::closed(&template, &ledger, 1, 1, 0);
        while ledger.delivered() == 0 {
            ensure!(started.elapsed() < DRAIN_MAX, "nothing is delivered after a restart");
            thread::sleep(Duration::from_millis(1));
        }
        let ready = started.elapsed();
        load.end();
        Ok(ready.as_secs_f64() * 1_000.0)
    })?;
    report.figure("restart_ready_ms", &ready, true);
    Ok(())
}

fn repeat_mut<T>(plan: &Plan, mut measure: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    (0..plan.runs).map(|_| measure()).collect()
}

/// Whether everything that was accepted arrives.
fn drained(ledger: &Ledger, deliveries: u64) -> bool {
    let begun = Instant::now();
    while ledger.delivered() < ledger.accepted() * deliveries && begun.elapsed() < DRAIN_MAX {
        thread::sleep(Duration::from_millis(5));
    }
    if ledger.refused() > 0 {
        println!("  {} requests were refused or broke off", ledger.refused());
    }
    ledger.delivered() >= ledger.accepted() * deliveries && ledger.refused() == 0
}

fn tenant(gateway: &Gateway, receiver: &Receiver, app: &str, way: Way) -> Result<Template> {
    if way == Way::Inbound {
        return inbound(gateway, receiver, app, EVENT);
    }
    application(gateway, app)?;
    let reshaper = plugin(gateway, app, plugins::bench("bench-sdk-dyn"), "{}")?;
    for number in 0..way.deliveries() {
        let uid = format!("e{number}");
        endpoint(gateway, receiver, app, &uid)?;
        let binding = json!({ "pluginId": reshaper, "onFailure": "hold" });
        gateway.call("PUT", &format!("app/{app}/endpoint/{uid}/reshaper"), &binding)?;
    }
    published(gateway, app, MESSAGE)
}

fn inbound(gateway: &Gateway, receiver: &Receiver, app: &str, event: &str) -> Result<Template> {
    application(gateway, app)?;
    endpoint(gateway, receiver, app, "main")?;
    let mapper = plugin(gateway, app, plugins::example("job-completed"), "{}")?;
    let rule = json!({ "key": "review", "name": "Review", "trigger": "job_completed", "needs": ["phone"] });
    gateway.call("POST", &format!("app/{app}/rule"), &rule)?;
    let source = json!({ "name": "site", "mapper": { "pluginId": mapper } });
    let source = gateway.call("POST", &format!("app/{app}/source"), &source)?;
    let url = text(&source, "url")?;
    let path = url.find("/api/event/").map(|at| &url[at..]).context("the path of a source")?;
    numbered(gateway, path, event)
}

fn application(gateway: &Gateway, app: &str) -> Result<()> {
    gateway.call("POST", "app", &json!({ "name": app, "uid": app })).map(drop)
}

fn endpoint(gateway: &Gateway, receiver: &Receiver, app: &str, uid: &str) -> Result<()> {
    let endpoint = json!({ "url": format!("http://{}/", receiver.address), "uid": uid });
    gateway.call("POST", &format!("app/{app}/endpoint"), &endpoint).map(drop)
}

/// Uploads and activates a plugin; answers its id.
fn plugin(gateway: &Gateway, app: &str, component: Vec<u8>, settings: &str) -> Result<String> {
    let plugin = gateway.call("POST", &format!("app/{app}/plugin"), &json!({ "name": "plugin" }))?;
    let plugin = text(&plugin, "id")?;
    let settings: String = url::form_urlencoded::byte_serialize(settings.as_bytes()).collect();
    let path = format!("/api/v1/app/{app}/plugin/{plugin}/version?settings={settings}");
    let head = http::post(&path, &gateway.key, "");
    let head = String::from_utf8_lossy(&head).replace("application/json", "application/wasm");
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", component.len()));
    let version = text(&gateway.ask(&[head.into_bytes(), component].concat())?, "id")?;
    gateway.call("POST", &format!("app/{app}/plugin/{plugin}/version/{version}/activate"), &json!({}))?;
    Ok(plugin)
}

fn published(gateway: &Gateway, app: &str, payload: &str) -> Result<Template> {
    let body = format!(r#"{{"eventType":"message.inbound","payload":{payload}}}"#);
    numbered(gateway, &format!("/api/v1/app/{app}/msg"), &body)
}

fn numbered(gateway: &Gateway, path: &str, body: &str) -> Result<Template> {
    Template::new(gateway.address, path, &gateway.key, body)
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("`{key}` of {value}"))?.to_owned())
}
