use super::*;
use crate::delivery::breaker::BreakerPolicy;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Numbers that look random and are the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % sides
    }
}

fn caps() -> Caps {
    Caps {
        total: 16,
        per_tenant: 8,
        loaded: 1_000,
        loaded_per_tenant: 200,
        loaded_per_lane: 32,
        bytes: 100,
        lanes: 1_000,
        start: MS(100),
        gated: true,
    }
}

fn tenant(number: u8) -> Key {
    [number; 16]
}

/// The lane of an endpoint of a tenant.
fn lane(tenant: u8, endpoint: u8) -> Lane {
    let mut bytes = [tenant; 17];
    (bytes[1], bytes[16]) = (endpoint, 0);
    Lane::from_bytes(bytes)
}

fn replay(tenant: u8, endpoint: u8) -> Lane {
    siblings(lane(tenant, endpoint))[1]
}

fn limits() -> GateLimits {
    GateLimits { in_flight_max: 4, breaker: BreakerPolicy { failures: 5, open: MS(30_000) }, per_second: None }
}

/// Tells what an endpoint allows whose tenant has no bounds of its own.
fn configure<J>(fair: &mut Fair<J>, lane: Lane, limits: GateLimits, now: Instant) -> bool {
    fair.configure(lane, tenant(lane.as_bytes()[0]), (limits, TenantBounds::default()), now)
}

fn ended(verdict: Verdict, took: Duration) -> Ended {
    Ended { took, verdict, jitter: 0.5 }
}

const OK: Verdict = Verdict::Ok;

#[test]
fn no_tenant_gets_less_than_its_share_while_it_has_work() {
    let now = Instant::now();
    let mut fair = Fair::new(Caps { total: 1, gated: false, ..caps() });
    // One with a hundred lanes of slow work, one with a single lane of quick work.
    for endpoint in 0..100 {
        fair.offer(lane(1, endpoint), tenant(1), 1, 0, now);
    }
    for _ in 0..100 {
        fair.offer(lane(2, 0), tenant(2), 2, 0, now);
    }
    let mut begun = [0_u32; 3];
    while begun[2] < 100 {
        let Started { lane, job } = fair.next(now).unwrap();
        begun[job] += 1;
        fair.done(lane, ended(OK, if job == 1 { MS(900) } else { MS(0) }), now);
    }
    assert!(begun[1] <= 11, "a slow start costs ten quick ones: {begun:?}");
    assert!(begun[1] >= 9, "and the slow one is not starved: {begun:?}");
}

#[test]
fn lanes_of_a_tenant_take_turns() {
    let now = Instant::now();
    let mut fair = Fair::new(Caps { total: 1, gated: false, ..caps() });
    for _ in 0..30 {
        fair.offer(lane(1, 1), tenant(1), 1, 0, now);
    }
    for _ in 0..3 {
        fair.offer(lane(1, 2), tenant(1), 2, 0, now);
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let started = fair.next(now).unwrap();
        order.push(started.job);
        fair.done(started.lane, ended(OK, MS(0)), now);
    }
    assert_eq!(order.iter().filter(|job| **job == 2).count(), 3, "{order:?}");
}

#[test]
fn in_flight_never_exceeds_any_cap_and_everything_offered_comes_out_once() {
    for seed in 0..50 {
        let mut dice = Dice(seed);
        let mut now = Instant::now();
        let mut fair = Fair::new(caps());
        let mut running: Vec<(Lane, u32)> = Vec::new();
        let (mut offered, mut ended_jobs) = (0_u32, Vec::new());
        for _ in 0..2_000 {
            now += MS(dice.roll(20));
            let of = u8::try_from(dice.roll(4)).unwrap();
            let endpoint = u8::try_from(dice.roll(3)).unwrap();
            let at = if dice.roll(4) == 0 { replay(of, endpoint) } else { lane(of, endpoint) };
            if dice.roll(2) == 0 && offered < 600 && fair.has_room(at, tenant(of), 0, now) {
                fair.offer(at, tenant(of), offered, 0, now);
                offered += 1;
            }
            for (lane, _) in fair.unknown(10) {
                let per_second = (lane.as_bytes()[1] == 0).then_some(50);
                configure(&mut fair, lane, GateLimits { per_second, ..limits() }, now);
            }
            while let Some(started) = fair.next(now) {
                running.push((started.lane, started.job));
            }
            check_caps(&running);
            assert_eq!(fair.in_flight(), running.len());
            if !running.is_empty() && dice.roll(3) > 0 {
                let index = usize::try_from(dice.roll(running.len() as u64)).unwrap();
                let (lane, job) = running.swap_remove(index);
                let verdict = match dice.roll(12) {
                    0..4 => Verdict::Failed,
                    4 => Verdict::Slow { pause: Some(MS(dice.roll(3_000))) },
                    5 => Verdict::Neutral,
                    _ => OK,
                };
                ended_jobs.push(job);
                for back in fair.done(lane, ended(verdict, MS(dice.roll(500))), now) {
                    ended_jobs.push(back);
                }
            }
        }
        // All that is left comes out in the end, without anything new happening.
        for _ in 0..2_000 {
            for (lane, job) in std::mem::take(&mut running) {
                ended_jobs.push(job);
                fair.done(lane, ended(OK, MS(1)), now);
            }
            while let Some(started) = fair.next(now) {
                running.push((started.lane, started.job));
            }
            now = fair.wake().map_or(now, |wake| wake.max(now));
        }
        ended_jobs.sort_unstable();
        assert_eq!(ended_jobs, (0..offered).collect::<Vec<_>>(), "seed {seed}");
        assert!(fair.lanes.is_empty() && fair.loaded == 0, "seed {seed}");
    }
}

fn check_caps(running: &[(Lane, u32)]) {
    assert!(running.len() <= 16);
    for (lane, _) in running {
        let of_tenant = running.iter().filter(|(other, _)| other.as_bytes()[0] == lane.as_bytes()[0]);
        assert!(of_tenant.clone().count() <= 8);
        assert!(of_tenant.filter(|(other, _)| other.is_replay()).count() <= 2, "replays have a quarter");
        let of_endpoint = running.iter().filter(|(other, _)| endpoint(*other) == endpoint(*lane));
        assert!(of_endpoint.count() <= 4);
    }
}

#[test]
fn a_closed_lane_is_never_asked_for() {
    let mut now = Instant::now();
    let mut fair = Fair::new(caps());
    let dead = lane(1, 1);
    assert!(fair.note(dead, tenant(1), now, now));
    configure(&mut fair, dead, limits(), now);
    let wants = fair.wants(now, 10);
    assert_eq!(wants, [Wanted { lane: dead, limit: 32 }]);
    assert_eq!(fair.wants(now, 10), [], "one claim of a lane at a time");
    for job in 0..32 {
        fair.offer(dead, tenant(1), job, 0, now);
    }
    fair.loaded(wants[0], 32, now, now);
    let begun: Vec<_> = std::iter::from_fn(|| fair.next(now)).collect();
    assert_eq!(begun.len(), 4);
    let mut back = Vec::new();
    for failure in 0..5 {
        now += MS(1_000);
        back.extend(fair.done(dead, ended(Verdict::Failed, MS(1_000)), now));
        if failure == 0 {
            assert!(fair.next(now).is_some());
        }
    }
    assert_eq!(back.len(), 27, "what had not begun when the breaker opened is given back");
    fair.note(dead, tenant(1), now, now);
    assert_eq!((fair.wants(now, 10), fair.next(now)), (vec![], None));
    assert!(!fair.has_room(dead, tenant(1), 0, now), "nothing is handed over to it either");
    let opens = fair.wake().unwrap();
    assert_eq!(opens, now + MS(30_000));
    // A neighbor goes on.
    fair.offer(lane(2, 1), tenant(2), 99, 0, now);
    configure(&mut fair, lane(2, 1), limits(), now);
    assert_eq!(fair.next(now).unwrap().job, 99);

    assert_eq!(fair.next(opens), None);
    assert_eq!(fair.wants(opens, 10).len(), 1, "it is asked for again when it may be probed");
}

#[test]
fn exactly_one_probe_and_then_the_backlog_goes_on() {
    let mut now = Instant::now();
    let mut fair = Fair::new(caps());
    let at = lane(1, 1);
    for job in 0..5 {
        fair.offer(at, tenant(1), job, 0, now);
    }
    configure(&mut fair, at, limits(), now);
    for _ in 0..5 {
        assert!(fair.next(now).is_some());
        fair.done(at, ended(Verdict::Failed, MS(1)), now);
    }
    now += MS(30_000);
    for job in 10..20 {
        fair.offer(at, tenant(1), job, 0, now);
    }
    assert!(fair.next(now).is_some());
    assert_eq!(fair.next(now), None, "the probe is alone");
    fair.done(at, ended(OK, MS(1)), now);
    assert!(fair.next(now).is_some());
    assert_eq!(fair.next(now), None, "one at first");
    fair.done(at, ended(OK, MS(1)), now);
    assert!(fair.next(now).is_some() && fair.next(now).is_some(), "then two");
    assert_eq!(fair.next(now), None);
}

#[test]
fn a_tenants_rate_holds_over_all_its_endpoints() {
    let start = Instant::now();
    let mut fair = Fair::new(Caps { total: 1_000, per_tenant: 1_000, ..caps() });
    for job in 0..100_u8 {
        fair.offer(lane(1, job % 10), tenant(1), job, 0, start);
        configure(&mut fair, lane(1, job % 10), GateLimits { in_flight_max: 64, ..limits() }, start);
    }
    fair.configure_tenant(tenant(1), TenantBounds { per_second: Some(10), in_flight_max: None }, start);
    let mut begun = 0;
    for step in 0..20 {
        let now = start + MS(step * 100);
        while fair.next(now).is_some() {
            begun += 1;
        }
        assert!(begun <= 10 + step, "{begun} after {step} tenths of a second");
    }
    assert_eq!(begun, 29);
    assert_eq!(fair.wake(), Some(start + MS(2_000)));
}

#[test]
fn a_tenants_own_bound_on_what_is_in_flight_holds_and_can_be_lifted() {
    let now = Instant::now();
    let mut fair = Fair::new(Caps { gated: false, ..caps() });
    for job in 0..20 {
        fair.offer(lane(1, job), tenant(1), job, 0, now);
    }
    let bounds = |max| TenantBounds { per_second: None, in_flight_max: max };
    fair.configure_tenant(tenant(1), bounds(Some(2)), now);
    let begin = |fair: &mut Fair<u8>| std::iter::from_fn(|| fair.next(now)).count();
    assert_eq!((begin(&mut fair), fair.in_flight_of(&tenant(1))), (2, 2));
    fair.configure_tenant(tenant(1), bounds(Some(100)), now);
    assert_eq!(begin(&mut fair), 6, "no more than any may");
    fair.configure_tenant(tenant(1), bounds(None), now);
    assert_eq!(fair.in_flight(), 8);
}

#[test]
fn nothing_begins_before_the_limits_are_known() {
    let now = Instant::now();
    let mut fair = Fair::new(caps());
    fair.offer(lane(1, 1), tenant(1), 1, 0, now);
    assert_eq!(fair.next(now), None);
    assert_eq!(fair.unknown(10), [(lane(1, 1), tenant(1))]);
    configure(&mut fair, lane(1, 1), limits(), now);
    assert_eq!(fair.unknown(10), []);
    assert!(fair.next(now).is_some());
}

#[test]
fn a_tenant_that_was_forgotten_keeps_its_bounds_where_an_endpoint_is_remembered() {
    let now = Instant::now();
    let mut fair = Fair::new(caps());
    let one_at_once = (limits(), TenantBounds { per_second: None, in_flight_max: Some(1) });
    fair.offer(lane(1, 1), tenant(1), 1, 0, now);
    fair.configure(lane(1, 1), tenant(1), one_at_once, now);
    // Others use more than it does, so that it owes nothing.
    configure(&mut fair, lane(2, 1), limits(), now);
    for _ in 0..3 {
        fair.offer(lane(2, 1), tenant(2), 0, 0, now);
    }
    assert_eq!(std::iter::from_fn(|| fair.next(now)).count(), 4);
    fair.done(lane(1, 1), ended(Verdict::Failed, MS(1)), now);
    assert!(!fair.tenants.contains_key(&tenant(1)));
    assert!(fair.gates.contains_key(&endpoint(lane(1, 1))), "what was learnt of the endpoint is kept");

    for (endpoint, job) in [(1, 2), (1, 3), (2, 4)] {
        fair.offer(lane(1, endpoint), tenant(1), job, 0, now);
    }
    assert_eq!(fair.next(now), None, "its bounds are not known");
    for (unknown, of) in fair.unknown(10) {
        assert!(fair.configure(unknown, of, one_at_once, now), "it waited for this");
    }
    assert_eq!(fair.unknown(10), []);
    assert!(fair.next(now).is_some());
    assert_eq!(fair.next(now), None, "one at once, over all its endpoints");
}

#[test]
fn limits_that_are_no_news_are_told_apart_from_others() {
    let now = Instant::now();
    let mut fair: Fair<u8> = Fair::new(caps());
    let slower = GateLimits { per_second: Some(1), ..limits() };
    let news =
        [limits(), limits(), slower, slower, limits()].map(|limits| configure(&mut fair, lane(1, 1), limits, now));
    assert_eq!(news, [true, false, true, false, true]);
    let throttled = TenantBounds { per_second: Some(1), in_flight_max: None };
    let bounds = [TenantBounds::default(), throttled, throttled, TenantBounds::default()];
    assert_eq!(bounds.map(|bounds| fair.configure_tenant(tenant(1), bounds, now)), [false, true, false, true]);
    assert!(!fair.configure_tenant(tenant(2), throttled, now) && fair.tenants.len() == 1, "it has nothing here");
}

#[test]
fn only_what_the_store_has_or_limits_that_are_unknown_are_worth_a_look() {
    let now = Instant::now();
    let mut fair = Fair::new(caps());
    configure(&mut fair, lane(1, 1), limits(), now);
    fair.offer(lane(1, 1), tenant(1), 1, 0, now);
    assert!(!fair.is_hungry(), "it has all that it needs");
    fair.offer(lane(1, 2), tenant(1), 2, 0, now);
    assert!(fair.is_hungry(), "its limits are to be found");
    configure(&mut fair, lane(1, 2), limits(), now);
    assert!(!fair.is_hungry());
    fair.note(lane(1, 2), tenant(1), now + MS(50), now);
    assert!(fair.is_hungry(), "something is to be claimed, if later");
}

#[test]
fn work_is_asked_for_when_it_is_due_and_no_sooner() {
    let now = Instant::now();
    let mut fair: Fair<()> = Fair::new(Caps { gated: false, ..caps() });
    fair.note(lane(1, 1), tenant(1), now + MS(50), now);
    assert_eq!((fair.wants(now, 10), fair.due(now)), (vec![], Some(now + MS(50))));
    let later = now + MS(50);
    let want = fair.wants(later, 10)[0];
    fair.loaded(want, 0, later, later);
    assert_eq!((fair.wants(later, 10), fair.due(later)), (vec![], None));
    // A full answer means that there may be more.
    fair.note(lane(1, 1), tenant(1), later, later);
    let want = fair.wants(later, 10)[0];
    for _ in 0..32 {
        fair.offer(lane(1, 1), tenant(1), (), 0, later);
    }
    fair.loaded(want, 32, later, later);
    assert_eq!(fair.wants(later, 10), [], "there is enough in memory");
    while let Some(started) = fair.next(later) {
        fair.done(started.lane, ended(OK, MS(0)), later);
        if !fair.wants(later, 10).is_empty() {
            return;
        }
    }
    panic!("it never asked for more");
}

#[test]
fn one_tenant_does_not_fill_the_memory() {
    let now = Instant::now();
    let mut fair: Fair<()> = Fair::new(Caps { gated: false, ..caps() });
    for endpoint in 0..50 {
        fair.note(lane(1, endpoint), tenant(1), now, now);
    }
    let mut wanted = 0;
    for want in fair.wants(now, 100).into_iter().chain(fair.wants(now, 100)) {
        wanted += want.limit;
        for _ in 0..want.limit {
            fair.offer(want.lane, tenant(1), (), 0, now);
        }
        fair.loaded(want, want.limit, now, now);
    }
    assert!(wanted <= 200, "{wanted}");
    fair.note(lane(2, 1), tenant(2), now, now);
    assert_eq!(fair.wants(now, 100).len(), 1, "and another one has room");
}

#[test]
fn tenants_whose_memory_is_full_stand_before_nobody() {
    let now = Instant::now();
    let mut fair: Fair<()> = Fair::new(Caps { gated: false, lanes: 10_000, ..caps() });
    // Older work in many lanes, each with a few claims in memory, of a tenant that may hold no more.
    for n in 0..2_000_u16 {
        let [high, low] = n.to_be_bytes();
        let mut bytes = [1; 17];
        (bytes[1], bytes[2], bytes[16]) = (high, low, 0);
        let lane = Lane::from_bytes(bytes);
        fair.note(lane, tenant(1), now, now);
        if n < 200 {
            fair.offer(lane, tenant(1), (), 0, now);
        }
    }
    let later = now + MS(1);
    fair.note(lane(2, 1), tenant(2), later, later);
    assert_eq!(fair.wants(later, 10), [Wanted { lane: lane(2, 1), limit: 32 }]);
}

#[test]
fn a_newcomer_finds_a_slot_and_memory_however_many_hold_what_they_can() {
    let now = Instant::now();
    for hogs in [1, 2, 5, 15, 100] {
        let mut fair: Fair<()> = Fair::new(Caps { gated: false, ..caps() });
        for _ in 0..40 {
            for hog in 10..10 + hogs {
                if fair.has_room(lane(hog, 1), tenant(hog), 0, now) {
                    fair.offer(lane(hog, 1), tenant(hog), (), 0, now);
                }
                fair.note(lane(hog, 2), tenant(hog), now, now);
            }
            for want in fair.wants(now, 10) {
                let of = want.lane.as_bytes()[0];
                (0..want.limit).for_each(|_| fair.offer(want.lane, tenant(of), (), 0, now));
                fair.loaded(want, want.limit, now, now);
            }
            // None of them ever ends.
            while fair.next(now).is_some() {}
        }
        assert!(hogs >= 16 || fair.in_flight() < 16, "{hogs} hold all slots");
        assert!(hogs > 1 || fair.in_flight() == 8, "one alone holds as many as one may: {}", fair.in_flight());
        assert!(fair.has_room(lane(1, 1), tenant(1), 0, now), "{hogs} hold all the memory");
        fair.offer(lane(1, 1), tenant(1), (), 0, now);
        assert_eq!(fair.next(now).map(|started| started.lane), (hogs < 16).then_some(lane(1, 1)), "{hogs}");
    }
}

#[test]
fn one_that_may_hold_everything_can() {
    assert_eq!(share(0, 16, 16, 16), 16);
    assert_eq!(share(15, 1, 16, 16), 1);
    assert_eq!((share(11, 5, 12, 16), share(12, 4, 12, 16)), (1, 0));
    assert_eq!((share(7, 9, 4, 16), share(8, 8, 4, 16)), (1, 0));
    assert_eq!(share(0, 0, 4, 16), 0);
}

#[test]
fn bytes_are_counted_while_they_are_held() {
    let now = Instant::now();
    let mut fair = Fair::new(Caps { gated: false, ..caps() });
    fair.offer(lane(1, 1), tenant(1), 1, 60, now);
    assert!(fair.has_room(lane(1, 2), tenant(1), 40, now) && !fair.has_room(lane(1, 2), tenant(1), 41, now));
    fair.next(now);
    assert!(fair.has_room_for(100));
    fair.offer(lane(1, 1), tenant(1), 2, 60, now);
    assert_eq!(fair.clear(), [2]);
    assert!(fair.has_room_for(100) && !fair.has_room_for(101));
}
