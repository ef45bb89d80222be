use super::tenant::{SLOW, TRUSTED};
use super::*;

/// The next job that a worker of either pace would take.
fn pop<J>(queue: &mut FairQueue<J>) -> Option<Started<J>> {
    queue.pop(Pace::Ordinary).or_else(|| queue.pop(Pace::Slow))
}

/// Runs jobs of (tenant, cost in µs) one after the other for `time` µs, each tenant always having `depth` jobs waiting.
fn simulate(tenants: &[(&str, i64)], depth: usize, time: i64) -> HashMap<String, i64> {
    let mut queue = FairQueue::new(1, 1024, 64);
    let mut used: HashMap<String, i64> = HashMap::new();
    for (name, cost) in tenants {
        for _ in 0..depth {
            queue.push(name, *cost).unwrap();
        }
    }
    let mut now = 0;
    while now < time {
        let (cost, tenant, paid) = pop(&mut queue).unwrap().into_parts();
        now += cost;
        *used.entry(tenant.to_string()).or_default() += cost;
        queue.finish(&tenant, paid, cost);
        queue.push(&tenant, cost).unwrap();
    }
    used
}

#[test]
fn tenants_get_the_same_time_however_long_their_calls_are() {
    let used = simulate(&[("quick", 10), ("slow", 50_000), ("middle", 900)], 8, 10_000_000);
    for (tenant, time) in &used {
        let share = *time as f64 / 10_000_000.0;
        assert!((0.32..0.35).contains(&share), "{tenant} got {share} of {used:?}");
    }
}

#[test]
fn a_tenant_alone_gets_everything_at_once() {
    let used = simulate(&[("alone", 1_000_000)], 1, 5_000_000);
    assert_eq!(used["alone"], 5_000_000);
}

#[test]
fn a_debt_is_not_escaped_by_leaving_for_a_moment() {
    let mut queue = FairQueue::new(1, 1024, 64);
    for _ in 0..40 {
        queue.push("quick", 100).unwrap();
    }
    queue.push("slow", 1_000_000).unwrap();
    let mut order = Vec::new();
    // The slow tenant comes back as soon as its call is done; all the quick ones are still served first.
    while let Some(started) = pop(&mut queue) {
        let (cost, tenant, paid) = started.into_parts();
        queue.finish(&tenant, paid, cost);
        order.push(tenant.to_string());
        if &*tenant == "slow" && order.iter().filter(|name| *name == "slow").count() < 2 {
            queue.push("slow", 1_000_000).unwrap();
        }
    }
    assert_eq!(order.last().map(String::as_str), Some("slow"));
    assert_eq!(order.len(), 42);
}

#[test]
fn a_full_queue_and_a_full_tenant_are_told_apart() {
    let mut queue = FairQueue::new(2, 3, 2);
    queue.push("a", 1).unwrap();
    queue.push("a", 2).unwrap();
    assert_eq!(queue.push("a", 3), Err((Refusal::Tenant, 3)));
    queue.push("b", 4).unwrap();
    assert_eq!(queue.push("c", 5), Err((Refusal::Full, 5)));
    // What runs still counts for its tenant, but no longer for the queue.
    let (_, tenant, paid) = pop(&mut queue).unwrap().into_parts();
    assert_eq!(queue.push(&tenant, 6).is_err(), &*tenant == "a");
    queue.finish(&tenant, paid, 1);
    assert_eq!(queue.push(&tenant, 7), Ok(Pace::Ordinary));
}

#[test]
fn jobs_of_one_tenant_keep_their_order_and_none_is_lost() {
    let mut queue = FairQueue::new(1, 1000, 1000);
    for job in 0..100 {
        queue.push(if job % 3 == 0 { "a" } else { "b" }, job).unwrap();
    }
    let mut seen = Vec::new();
    while let Some(started) = pop(&mut queue) {
        let (job, tenant, paid) = started.into_parts();
        queue.finish(&tenant, paid, 10 + job);
        seen.push(job);
    }
    let of_a: Vec<i64> = seen.iter().copied().filter(|job| job % 3 == 0).collect();
    assert!(of_a.is_sorted());
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert!(queue.tenants.is_empty() && queue.ordinary.turns.is_empty(), "nothing of an idle tenant is kept");
}

/// Starts whatever can be started and says whose.
fn start_all(queue: &mut FairQueue<i64>, pace: Pace) -> Vec<Started<i64>> {
    std::iter::from_fn(|| queue.pop(pace)).collect()
}

fn names(started: &[Started<i64>]) -> Vec<&str> {
    started.iter().map(|started| &*started.tenant).collect()
}

#[test]
fn long_calls_of_a_tenant_leave_a_worker_to_the_others() {
    let mut queue = FairQueue::new(4, 1024, 64);
    for _ in 0..8 {
        queue.push("long", SLOW).unwrap();
    }
    for _ in 0..10 {
        let running = start_all(&mut queue, Pace::Ordinary);
        assert_eq!(names(&running), ["long"; 3], "not the fourth, at no time");
        queue.push("quick", 10).unwrap();
        let quick = start_all(&mut queue, Pace::Ordinary);
        assert_eq!(names(&quick), ["quick"], "at once");
        for started in running.into_iter().chain(quick) {
            let (cost, tenant, paid) = started.into_parts();
            queue.finish(&tenant, paid, cost);
            if &*tenant == "long" {
                queue.push("long", cost).unwrap();
            }
        }
    }
}

#[test]
fn however_many_tenants_have_endless_calls_they_share_a_worker_of_their_own() {
    for workers in [1, 2, 4] {
        let mut queue = FairQueue::new(workers, 1024, 64);
        let hostile = ["a", "b", "c", "d", "e", "f"];
        // Each has had one call that ran until its fuel was used up.
        for tenant in hostile {
            assert_eq!(queue.push(tenant, 300_000), Ok(Pace::Ordinary), "nothing is known of it");
            let (cost, tenant, paid) = queue.pop(Pace::Ordinary).unwrap().into_parts();
            queue.finish(&tenant, paid, cost);
        }
        for tenant in hostile.into_iter().cycle().take(60) {
            assert_eq!(queue.push(tenant, 300_000), Ok(Pace::Slow));
        }
        let mut served: HashMap<String, usize> = HashMap::new();
        for _ in 0..60 {
            assert_eq!(names(&start_all(&mut queue, Pace::Ordinary)), [""; 0], "none of the others' workers");
            assert_eq!(queue.push("quick", 10), Ok(Pace::Ordinary));
            let quick = queue.pop(Pace::Ordinary).unwrap();
            let (cost, tenant, paid) = queue.pop(Pace::Slow).unwrap().into_parts();
            queue.finish(&tenant, paid, cost);
            *served.entry(tenant.to_string()).or_default() += 1;
            let (cost, tenant, paid) = quick.into_parts();
            queue.finish(&tenant, paid, cost);
        }
        assert_eq!(served.values().copied().collect::<Vec<_>>(), [10; 6], "in turns");
        assert_eq!((queue.waiting(), queue.waiting_for(Pace::Slow)), (0, 0));
    }
}

#[test]
fn what_waits_changes_workers_with_what_is_learnt_of_its_tenant() {
    let mut queue = FairQueue::new(2, 10_000, 10_000);
    for _ in 0..5_000 {
        queue.push("tenant", 10).unwrap();
    }
    let waiting = |queue: &FairQueue<i64>| [Pace::Ordinary, Pace::Slow].map(|pace| queue.waiting_for(pace));
    let (_, tenant, paid) = queue.pop(Pace::Ordinary).unwrap().into_parts();
    assert_eq!(waiting(&queue), [4_999, 0]);
    queue.finish(&tenant, paid, 1_000_000);
    assert_eq!(waiting(&queue), [0, 4_999]);
    assert!(queue.pop(Pace::Ordinary).is_none());
    while let Some(started) = queue.pop(Pace::Slow) {
        let (cost, tenant, paid) = started.into_parts();
        queue.finish(&tenant, paid, cost);
    }
    let [ordinary, slow] = waiting(&queue);
    assert!(ordinary > 3_000 && slow == 0, "it has come back: {ordinary} and {slow} wait");
    assert!(queue.pop(Pace::Ordinary).is_some());
}

#[test]
fn slow_tenants_give_the_others_no_credit() {
    let mut queue = FairQueue::new(2, 1024, 64);
    let begin = |queue: &mut FairQueue<i64>, tenant: &str, cost: i64, count: usize| {
        for _ in 0..count {
            queue.push(tenant, cost).unwrap();
        }
    };
    let run = |queue: &mut FairQueue<i64>, pace| {
        let (cost, tenant, paid) = queue.pop(pace).unwrap().into_parts();
        queue.finish(&tenant, paid, cost);
        queue.push(&tenant, cost).unwrap();
        tenant
    };
    begin(&mut queue, "slow", 300_000, 1);
    run(&mut queue, Pace::Ordinary);
    // One more than runs, so that its debts are not forgiven.
    begin(&mut queue, "slow", 300_000, 1);
    begin(&mut queue, "busy", 200, 8);
    for _ in 0..20 {
        assert_eq!(&*run(&mut queue, Pace::Slow), "slow");
        assert_eq!(&*run(&mut queue, Pace::Ordinary), "busy");
    }
    begin(&mut queue, "newcomer", 10, 1);
    let waited = (0..).find(|_| &*run(&mut queue, Pace::Ordinary) == "newcomer").unwrap();
    assert!(waited <= 2 * QUANTUM / 200, "it waited for {waited} calls of 200 µs");
}

#[test]
fn slow_tenants_have_a_part_of_the_queue() {
    let mut queue = FairQueue::new(2, 8, 64);
    queue.push("slow", 300_000).unwrap();
    let (cost, tenant, paid) = queue.pop(Pace::Ordinary).unwrap().into_parts();
    queue.finish(&tenant, paid, cost);
    for _ in 0..2 {
        assert_eq!(queue.push("slow", cost), Ok(Pace::Slow));
    }
    assert_eq!(queue.push("slow", cost), Err((Refusal::Slow(2), cost)));
    for number in 0..6 {
        assert_eq!(queue.push(&format!("other-{number}"), 10), Ok(Pace::Ordinary));
    }
    assert_eq!(queue.push("other", 10), Err((Refusal::Full, 10)));
}

#[test]
fn a_tenant_is_slow_until_enough_short_calls_have_followed() {
    let mut known = Known::default();
    known.learn(SLOW);
    assert_eq!(known.pace(), Pace::Ordinary, "as long as an interpreter's calls may be");
    known.learn(1_000_000);
    let calls = (1..).find(|_| {
        known.learn(10);
        known.pace() == Pace::Ordinary
    });
    assert!(calls.is_some_and(|calls| (500..2_000).contains(&calls)), "{calls:?}");
}

#[test]
fn short_calls_of_a_tenant_may_use_all_workers_once_they_have_earned_it() {
    let mut queue = FairQueue::new(4, 1024, 64);
    let run = |queue: &mut FairQueue<i64>, cost| {
        queue.push("tenant", cost).unwrap();
        let (cost, tenant, paid) = pop(queue).unwrap().into_parts();
        queue.finish(&tenant, paid, cost);
    };
    let at_once = |queue: &mut FairQueue<i64>| {
        for _ in 0..8 {
            queue.push("tenant", 10).unwrap();
        }
        let running = start_all(queue, Pace::Ordinary);
        let count = running.len();
        let mut all = running;
        while let Some(started) = all.pop() {
            let (cost, tenant, paid) = started.into_parts();
            queue.finish(&tenant, paid, cost);
            all.extend(pop(queue));
        }
        count
    };
    assert_eq!(at_once(&mut queue), 3, "nothing is known of it");
    for _ in 0..TRUSTED / 100 {
        run(&mut queue, 100);
    }
    assert_eq!(at_once(&mut queue), 8, "and being idle in between does no harm");
    run(&mut queue, SLOW);
    // A short call or a thousand between long ones buy nothing.
    for _ in 0..1_000 {
        run(&mut queue, 100);
    }
    assert_eq!(at_once(&mut queue), 3);
}

#[test]
fn a_single_worker_serves_everybody() {
    let mut queue = FairQueue::new(1, 1024, 64);
    queue.push("long", 100_000).unwrap();
    queue.push("other", 10).unwrap();
    for _ in 0..2 {
        let (cost, tenant, paid) = pop(&mut queue).unwrap().into_parts();
        queue.finish(&tenant, paid, cost);
    }
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn held_jobs_keep_their_place_and_debts_are_paid_meanwhile() {
    let mut queue = FairQueue::new(2, 1024, 64);
    queue.push("long", 1).unwrap();
    queue.push("long", 2).unwrap();
    let first = pop(&mut queue).unwrap();
    assert!(queue.pop(Pace::Ordinary).is_none(), "the second is held");
    assert_eq!(queue.waiting(), 1);
    let (_, tenant, paid) = first.into_parts();
    queue.finish(&tenant, paid, SLOW);
    assert_eq!(pop(&mut queue).unwrap().into_parts().0, 2);
}
