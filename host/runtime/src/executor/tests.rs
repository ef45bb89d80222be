use std::sync::mpsc;
use std::time::Duration;

use super::meter::processor_time;
use super::*;
use crate::Outcome;

#[test]
fn a_panic_in_a_worker_ends_its_ticket_and_not_the_worker() {
    let executor = Executor::new(ExecutorConfig { workers: 1, queue_max: 10, tenant_in_flight_max: 10 });
    let panicking = executor.submit_call("tenant", Box::new(|_| panic!("a bug"))).unwrap();
    let fine = executor.submit_call("tenant", Box::new(|_| Report { outcome: Outcome::Unchanged, ..lost() })).unwrap();
    let Outcome::Failed(failure) = panicking.wait().outcome else { panic!("it should have failed") };
    assert_eq!(failure.code, FailureCode::Internal);
    assert_eq!(fine.wait().outcome, Outcome::Unchanged);
}

/// Where a call ran: the thread, its `nice`, its pace.
type Place = (Option<String>, i32, Pace);

fn config(workers: usize) -> ExecutorConfig {
    ExecutorConfig { workers, queue_max: 10, tenant_in_flight_max: 10 }
}

/// A call that works for so long and says where.
fn working(takes: Duration, sender: &mpsc::SyncSender<Place>) -> Call {
    let sender = sender.clone();
    Box::new(move |pace| {
        let begun = processor_time();
        while processor_time() - begun < takes {
            std::hint::spin_loop();
        }
        let _ = sender.send((thread::current().name().map(str::to_owned), priority(), pace));
        Report { outcome: Outcome::Unchanged, ..lost() }
    })
}

const VERY_LONG: Duration = Duration::from_millis(60);

#[test]
fn who_has_had_a_very_long_call_gets_a_worker_that_stands_back() {
    // One of its calls at a time until it is known: the second waits for what the first has shown.
    let executor = Executor::new(config(2));
    let (sender, receiver) = mpsc::sync_channel(3);
    executor.submit_call("slow", working(VERY_LONG, &sender)).unwrap();
    executor.submit_call("slow", working(Duration::ZERO, &sender)).unwrap();
    let (first, second) = (receiver.recv().unwrap(), receiver.recv().unwrap());
    assert!(first.0.is_some_and(|name| name.ends_with(['0', '1'])) && first.1 == priority());
    assert_eq!((second.0.as_deref(), second.2), (Some("plugin-slow"), Pace::Slow));
    #[cfg(target_os = "linux")]
    assert_eq!(second.1, (priority() + STEPS_BACK).min(19));
    executor.submit_call("quick", working(Duration::ZERO, &sender)).unwrap();
    assert_eq!(receiver.recv().unwrap().1, priority(), "the others' calls stay where they were");
}

#[test]
fn who_only_waited_for_a_processor_is_not_slow() {
    let executor = Executor::new(config(2));
    let (sender, receiver) = mpsc::sync_channel(3);
    let waiting = |_| {
        thread::sleep(VERY_LONG);
        Report { outcome: Outcome::Unchanged, ..lost() }
    };
    executor.submit_call("tenant", Box::new(waiting)).unwrap().wait();
    executor.submit_call("tenant", working(Duration::ZERO, &sender)).unwrap();
    assert_eq!(receiver.recv().unwrap().2, Pace::Ordinary);
}

#[test]
fn when_it_stops_all_workers_do_what_slow_tenants_have_left() {
    let executor = Executor::new(config(2));
    let (sender, receiver) = mpsc::sync_channel(10);
    executor.submit_call("slow", working(VERY_LONG, &sender)).unwrap().wait();
    let tickets: Vec<Ticket> =
        (0..3).map(|_| executor.submit_call("slow", working(VERY_LONG, &sender)).unwrap()).collect();
    executor.shutdown();
    tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait().outcome, Outcome::Unchanged));
    let names: Vec<Option<String>> = receiver.try_iter().skip(1).map(|place| place.0).collect();
    assert!(names.iter().any(|name| name.as_deref() != Some("plugin-slow")), "{names:?}");
}

#[test]
fn a_call_on_the_worker_that_stands_back_has_longer_by_the_clock() {
    let deadline = |pace| {
        let mut request = request();
        to_pace(&mut request, pace);
        request.limits.deadline
    };
    assert_eq!(deadline(Pace::Slow), 4 * deadline(Pace::Ordinary));
    assert_eq!(deadline(Pace::Ordinary), crate::Limits::default().deadline);
}

fn request() -> Request {
    let input = crate::MapInput {
        event: crate::InboundEvent {
            id: String::new(),
            source: crate::Source { id: String::new(), name: String::new(), profile: String::new() },
            received_at: String::new(),
            headers: Vec::new(),
            payload: String::new(),
        },
        rules: Vec::new(),
    };
    Request { input: crate::Input::Map(input), settings: "{}".into(), limits: crate::Limits::default() }
}

/// The calling thread's `nice`.
fn priority() -> i32 {
    rustix::process::getpriority_process(None).unwrap()
}
