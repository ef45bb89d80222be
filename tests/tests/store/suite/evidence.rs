//! Calls as they are kept, to be made again.

use super::*;

/// Bounds that keep everything.
pub const ROOM: KeepBounds = KeepBounds { count_max: 1_000, bytes_max: 1 << 20 };

impl Kit {
    /// A call on an event (which need not be there), its input as an event's mapper would get it.
    pub fn call(&self, event: &Event, failed: Option<KeepBounds>, rules: &[Rule]) -> (Call, Input) {
        let source = Source { id: event.source.to_string(), name: "CRM".into(), profile: "standard".into() };
        let input = Input::Map(MapInput {
            event: InboundEvent {
                id: event.id.to_string(),
                source: source.clone(),
                received_at: event.received_at.to_string(),
                headers: event.headers.clone(),
                payload: event.body.clone(),
            },
            rules: rules.to_vec(),
        });
        let context = CallContext {
            component: Digest::of(b"component"),
            contract: "1.0.0".into(),
            settings: "{\"n\": 1.10}".into(),
            limits: Limits::default(),
            engine: EngineIdentity::current(),
            source: Some(source),
        };
        let text = serde_json::to_string(&input).unwrap();
        let evidence = NewEvidence {
            context: Part::of(&context),
            rules: Some(Part::of(&rules)),
            exact: Exact { input_digest: input.digest(), output_digest: Digest::of(b"output"), named: Vec::new() },
            input: failed.map(|bounds| KeptInput { text, bounds }),
        };
        let outcome = if failed.is_some() { CallOutcome::Failed } else { CallOutcome::Mapped };
        let record = CallRecord {
            outcome,
            detail: None,
            failure: None,
            matches: None,
            output_bytes: None,
            fuel_used: 7,
            duration_us: 8,
            memory_peak_bytes: 9,
            logs: Logs::default(),
        };
        let call = Call {
            id: self.minter.mint(),
            app: self.app.clone(),
            plugin: "plg_00000000000000000000000000".parse().unwrap(),
            version: "plv_00000000000000000000000000".parse().unwrap(),
            event: Some(event.id.clone()),
            message: None,
            record,
            evidence: Some(Box::new(evidence)),
            created_at: at(0),
        };
        (call, input)
    }

    /// Accepts an event and ends its mapping with this call; answers what the store has of the call then.
    pub async fn keep(&self, failed: Option<KeepBounds>, rules: &[Rule]) -> (CallId, Input) {
        let new = self.event(None);
        self.store.accept_event(new.clone(), false).await.unwrap();
        let claim = self.claim_one(WorkKind::Map, at(0)).await;
        let event = self.store.event(&self.app, &new.id).await.unwrap().unwrap();
        let (call, input) = self.call(&event, failed, rules);
        let id = call.id.clone();
        let end = MappingEnd { call: Some(call), ..MappingEnd::new(EventState::Mapped) };
        self.store.finish_mapping(&claim, end, false).await.unwrap();
        (id, input)
    }

    /// The inputs that are kept whole, of these calls.
    pub async fn kept(&self, calls: &[CallId]) -> Vec<bool> {
        let mut kept = Vec::new();
        for call in calls {
            let recorded = self.store.recorded_call(&self.app, call).await.unwrap().unwrap();
            kept.push(recorded.evidence.unwrap().input.is_some());
        }
        kept
    }
}

pub fn rules(names: &[&str]) -> Vec<Rule> {
    let rule = |name: &&str| Rule { key: (*name).into(), name: (*name).into(), trigger: "t".into() };
    names.iter().map(rule).collect()
}

#[tokio::test]
async fn a_call_is_kept_with_what_it_was_made_with() {
    let kit = Kit::new().await;
    let (succeeded, _) = kit.keep(None, &rules(&["a"])).await;
    let (failed, input) = kit.keep(Some(ROOM), &rules(&["a", "b"])).await;
    let recorded = async |id: &CallId| kit.store.recorded_call(&kit.app, id).await.unwrap().unwrap();
    let first = recorded(&succeeded).await;
    let evidence = first.evidence.unwrap();
    assert_eq!((evidence.rules, evidence.input), (rules(&["a"]), None));
    assert_eq!(evidence.context.settings, "{\"n\": 1.10}");
    assert_eq!(first.event.unwrap().body, "{\"a\": 1}");
    let second = recorded(&failed).await.evidence.unwrap();
    assert_eq!((second.rules, second.exact.input_digest), (rules(&["a", "b"]), input.digest()));
    assert_eq!(second.input, Some(input));
    assert_eq!(second.context, evidence.context);
    // Another tenant finds nothing.
    assert_eq!(kit.store.recorded_call(&kit.minter.mint(), &failed).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_kept_of_calls_goes_with_the_tenant() {
    let kit = Kit::new().await;
    let (last, _) = kit.keep(Some(ROOM), &rules(&["b"])).await;
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    assert_eq!(kit.store.recorded_call(&kit.app, &last).await.unwrap(), None);
}

#[tokio::test]
async fn inputs_of_failed_calls_are_bounded_and_the_oldest_leave_first() {
    let kit = Kit::new().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(kit.keep(Some(KeepBounds { count_max: 3, ..ROOM }), &[]).await.0);
    }
    assert_eq!(kit.kept(&calls).await, [false, true, true, true]);
    let bytes = serde_json::to_string(&kit.keep(None, &[]).await.1).unwrap().len();
    let (call, _) = kit.keep(Some(KeepBounds { bytes_max: 2 * bytes, ..ROOM }), &[]).await;
    calls.push(call);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true]);
    // One that is too large by itself is not kept, and drives out no other.
    let (call, _) = kit.keep(Some(KeepBounds { bytes_max: bytes - 1, ..ROOM }), &[]).await;
    calls.push(call);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true, false]);
    // Another tenant's are its own.
    let other = Kit {
        app: kit.minter.mint(),
        store: kit.store.clone(),
        minter: Minter::new(Arc::new(ManualClock::new(at(9)))),
        backend: kit.backend.clone(),
    }
    .with_app()
    .await;
    let (foreign, _) = other.keep(Some(KeepBounds { count_max: 1, ..ROOM }), &[]).await;
    assert_eq!(other.kept(&[foreign]).await, [true]);
    assert_eq!(kit.kept(&calls).await, [false, false, false, true, true, false]);
}

#[tokio::test]
async fn recorded_inputs_are_listed_newest_first_by_plugin_source_and_time() {
    let kit = Kit::new().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.insert(0, kit.keep(None, &[]).await.0.to_string());
    }
    let plugin: PluginId = "plg_00000000000000000000000000".parse().unwrap();
    let of = |kind: RecordedKind| RecordedFilter { kind, since: None, before: None, limit: 10 };
    let listed = async |filter: RecordedFilter| kit.store.recorded(&kit.app, filter).await.unwrap();
    let by_plugin = || of(RecordedKind::Calls { plugin: plugin.clone() });
    assert_eq!(listed(by_plugin()).await, calls);
    assert_eq!(listed(RecordedFilter { limit: 2, ..by_plugin() }).await, calls[..2]);
    assert_eq!(listed(RecordedFilter { before: Some(calls[1].clone()), ..by_plugin() }).await, calls[2..]);
    assert_eq!(listed(RecordedFilter { before: Some(format!("{}~", calls[1])), ..by_plugin() }).await, calls[1..]);
    assert!(listed(RecordedFilter { since: Some(at(1)), ..by_plugin() }).await.is_empty());
    assert!(listed(of(RecordedKind::Calls { plugin: kit.minter.mint() })).await.is_empty());

    let source: SourceId = "src_00000000000000000000000000".parse().unwrap();
    assert_eq!(listed(of(RecordedKind::Events { sources: None })).await.len(), 4);
    assert_eq!(listed(of(RecordedKind::Events { sources: Some(vec![kit.minter.mint(), source]) })).await.len(), 4);
    assert!(listed(of(RecordedKind::Events { sources: Some(vec![kit.minter.mint()]) })).await.is_empty());
    assert!(listed(of(RecordedKind::Messages)).await.is_empty());
    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let operational = Message { operational: true, ..kit.message(None) };
    kit.store.accept_message(operational, None, false).await.unwrap();
    assert_eq!(listed(of(RecordedKind::Messages)).await, [message.id.to_string()], "but for the gateway's own");
    let foreign = kit.store.recorded(&kit.minter.mint(), by_plugin()).await.unwrap();
    assert!(foreign.is_empty());
}

#[tokio::test]
async fn a_calls_output_is_looked_for_in_its_matches_and_deliveries() {
    let kit = Kit::new().await;
    let new = kit.event(None);
    kit.store.accept_event(new.clone(), false).await.unwrap();
    let claim = kit.claim_one(WorkKind::Map, at(0)).await;
    let event = kit.store.event(&kit.app, &new.id).await.unwrap().unwrap();
    let (call, _) = kit.call(&event, None, &[]);
    let row = |variables: &str, version: Option<&VersionId>| MatchRow {
        rule_key: "r".into(),
        contact: Contact::default(),
        variables: variables.into(),
        state: MatchState::Fired,
        reason_code: None,
        reason: None,
        message: None,
        version: version.cloned(),
    };
    let (id, version) = (call.id.clone(), call.version.clone());
    let matches = vec![row("{\"n\": 1.10}", Some(&version)), row("{}", Some(&version)), row("[]", None)];
    let end = MappingEnd { call: Some(call.clone()), matches, ..MappingEnd::new(EventState::Mapped) };
    kit.store.finish_mapping(&claim, end, false).await.unwrap();
    let parts = kit.store.output_parts(&kit.app, &id).await.unwrap();
    assert_eq!((parts.variables, parts.bodies), (vec!["{\"n\": 1.10}".to_owned(), "{}".to_owned()], Vec::new()));

    let message = kit.message(None);
    kit.store.accept_message(message.clone(), None, false).await.unwrap();
    let claim = kit.claim_one(WorkKind::FanOut, at(0)).await;
    let of_message = Call { id: kit.minter.mint(), event: None, message: Some(message.id.clone()), ..call };
    let body = DeliveryBody::Replaced("{\"x\":1}".into());
    let reshaped = || NewDelivery {
        body: body.clone(),
        version: Some(version.clone()),
        ..kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)
    };
    let deliveries = vec![reshaped(), reshaped(), kit.delivery(&kit.minter.mint(), DeliveryState::Waiting)];
    let end = FanOutEnd {
        deliveries,
        calls: vec![of_message.clone()],
        outputs: vec!["{\"raw\":1}".into()],
        ..FanOutEnd::default()
    };
    kit.store.finish_fan_out(&claim, end, at(0)).await.unwrap();
    let mut parts = kit.store.output_parts(&kit.app, &of_message.id).await.unwrap();
    parts.bodies.sort();
    let expected = ["{\"raw\":1}", "{\"x\":1}"].map(str::to_owned);
    assert_eq!((parts.variables, parts.bodies), (Vec::new(), expected.to_vec()), "each text once");
    let recorded = kit.store.recorded_call(&kit.app, &of_message.id).await.unwrap().unwrap();
    assert_eq!((recorded.event, recorded.message), (None, Some(message)));
    assert_eq!(kit.store.output_parts(&kit.minter.mint(), &id).await.unwrap(), OutputParts::default());
}
