//! Who may use the compiler: few at a time, a tenant once, everybody in turn.
//!
//! Uploads and loads (components that were accepted before) have a lane each. A turn that is free goes to the lanes alternately, so
//! that no flood of uploads keeps a load waiting for more than two of them; within a lane to the tenant that has waited for longest.
//! A tenant's further ones wait for its own first, not in front of others. How many wait in a lane, of all tenants together, is
//! bounded. What may as well be left undone takes a turn only if nobody wants it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::id::AppId;

/// What the compiler is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Uploads,
    Loads,
}

/// The turns at the compiler.
pub(super) struct Turns {
    state: Arc<Mutex<State>>,
    /// Who may be in each lane, waiting or having a turn.
    inside_max: [usize; 2],
}

/// Too many wait already.
#[derive(Debug, thiserror::Error)]
#[error("{waiting} components are waiting to be compiled, and no more may")]
pub(super) struct Full {
    waiting: usize,
}

/// A turn; over when it is dropped.
pub(super) struct Turn {
    _place: Place,
}

struct State {
    free: usize,
    /// Who has a turn, and which place it came from.
    having: HashMap<AppId, u64>,
    /// Who waits, in each lane.
    lines: [Line; 2],
    inside: [usize; 2],
    /// The lane that is asked first when a turn is free.
    next: Lane,
    /// Places given so far.
    places: u64,
}

/// The tenants that wait in a lane, the next one first.
#[derive(Default)]
struct Line(VecDeque<Waiting>);

struct Waiting {
    app: AppId,
    /// At least one.
    places: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// Somebody who waits or has a turn.
struct Place {
    state: Arc<Mutex<State>>,
    app: AppId,
    number: u64,
    /// None: it didn't wait.
    lane: Option<Lane>,
}

impl Turns {
    /// So many turns at a time, and so many in each lane, waiting or at it.
    pub(super) fn new(turns: usize, uploads_max: usize, loads_max: usize) -> Self {
        let state = State {
            free: turns.max(1),
            having: HashMap::new(),
            lines: [Line::default(), Line::default()],
            inside: [0, 0],
            next: Lane::Loads,
            places: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), inside_max: [uploads_max, loads_max] }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Full`], at once.
    pub(super) async fn enter(&self, lane: Lane, app: &AppId) -> Result<Turn, Full> {
        let (place, given) = self.join(lane, app)?;
        // The other end stands in the line, and leaves it by giving the turn or with this place.
        given.await.map_err(|_| Full { waiting: 0 })?;
        Ok(Turn { _place: place })
    }

    /// A turn at once, where one is free that nobody waits for, and the tenant has none.
    pub(super) fn try_enter(&self, app: &AppId) -> Option<Turn> {
        let mut state = lock(&self.state);
        if state.free == 0 || state.having.contains_key(app) || state.lines.iter().any(|line| !line.0.is_empty()) {
            return None;
        }
        let place = Place { state: self.state.clone(), app: app.clone(), number: state.number(), lane: None };
        state.give(app, place.number);
        Some(Turn { _place: place })
    }

    fn join(&self, lane: Lane, app: &AppId) -> Result<(Place, oneshot::Receiver<()>), Full> {
        let mut state = lock(&self.state);
        let waiting = state.inside[lane.index()];
        if waiting >= self.inside_max[lane.index()] {
            return Err(Full { waiting });
        }
        state.inside[lane.index()] += 1;
        let place = Place { state: self.state.clone(), app: app.clone(), number: state.number(), lane: Some(lane) };
        let (give, given) = oneshot::channel();
        state.lines[lane.index()].push(app, place.number, give);
        state.give_all();
        Ok((place, given))
    }
}

impl Lane {
    fn index(self) -> usize {
        match self {
            Self::Uploads => 0,
            Self::Loads => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Uploads => Self::Loads,
            Self::Loads => Self::Uploads,
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    fn give(&mut self, app: &AppId, number: u64) {
        self.free -= 1;
        self.having.insert(app.clone(), number);
    }

    /// Gives the turns that are free to those who wait and have none.
    fn give_all(&mut self) {
        while self.free > 0 {
            let lanes = [self.next, self.next.other()];
            let next = lanes.into_iter().find_map(|lane| {
                let (app, number, give) = self.lines[lane.index()].pop(&self.having)?;
                Some((lane, app, number, give))
            });
            let Some((lane, app, number, give)) = next else { return };
            self.next = lane.other();
            self.give(&app, number);
            // Who is about to leave gives the turn back when its place is dropped.
            let _ = give.send(());
        }
    }

    /// Takes a turn back. The tenant goes to the end of the lines that it waits in.
    fn take_back(&mut self, app: &AppId) {
        self.having.remove(app);
        self.free += 1;
        for line in &mut self.lines {
            line.send_to_the_end(app);
        }
        self.give_all();
    }
}

impl Line {
    fn push(&mut self, app: &AppId, number: u64, give: oneshot::Sender<()>) {
        match self.0.iter_mut().find(|waiting| waiting.app == *app) {
            Some(waiting) => waiting.places.push_back((number, give)),
            None => self.0.push_back(Waiting { app: app.clone(), places: VecDeque::from([(number, give)]) }),
        }
    }

    /// Takes the first place of the first tenant that has no turn.
    fn pop(&mut self, having: &HashMap<AppId, u64>) -> Option<(AppId, u64, oneshot::Sender<()>)> {
        let index = self.0.iter().position(|waiting| !having.contains_key(&waiting.app))?;
        let waiting = &mut self.0[index];
        let (number, give) = waiting.places.pop_front()?;
        let app = waiting.app.clone();
        if waiting.places.is_empty() {
            self.0.remove(index);
        }
        Some((app, number, give))
    }

    fn send_to_the_end(&mut self, app: &AppId) {
        let index = self.0.iter().position(|waiting| waiting.app == *app);
        if let Some(waiting) = index.and_then(|index| self.0.remove(index)) {
            self.0.push_back(waiting);
        }
    }

    fn leave(&mut self, app: &AppId, number: u64) {
        if let Some(waiting) = self.0.iter_mut().find(|waiting| waiting.app == *app) {
            waiting.places.retain(|(other, _)| *other != number);
        }
        self.0.retain(|waiting| !waiting.places.is_empty());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some(lane) = self.lane {
            state.inside[lane.index()] -= 1;
        }
        if state.having.get(&self.app) == Some(&self.number) {
            state.take_back(&self.app);
        } else if let Some(lane) = self.lane {
            state.lines[lane.index()].leave(&self.app, self.number);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::{
        Lane::{Loads, Uploads},
        *,
    };
    use crate::id::TypedId as _;

    /// Polls a future once: what it has at once, or nothing.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    fn app(number: u64) -> AppId {
        AppId::from_ulid(ulid::Ulid::from_parts(number, 0))
    }

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Turn, Full>> + 'a>>;

    /// Somebody who waits, until the turn has come.
    struct Waiter<'a>(Option<Entering<'a>>);

    impl<'a> Waiter<'a> {
        fn new(turns: &'a Turns, lane: Lane, app: &'a AppId) -> Self {
            let mut waiter = Self(Some(Box::pin(turns.enter(lane, app))));
            assert!(waiter.turn().is_none(), "it need not wait");
            waiter
        }

        fn turn(&mut self) -> Option<Turn> {
            let turn = now(self.0.as_mut()?.as_mut())?;
            self.0 = None;
            Some(turn.unwrap())
        }
    }

    #[test]
    fn a_tenant_has_one_turn_in_all_and_the_next_is_another_tenants() {
        let turns = Turns::new(2, 10, 10);
        let (one, two, three) = (app(1), app(2), app(3));
        let first = now(turns.enter(Uploads, &one)).unwrap().unwrap();
        let mut upload = Waiter::new(&turns, Uploads, &one);
        let mut load = Waiter::new(&turns, Loads, &one);
        let other = now(turns.enter(Loads, &two)).unwrap().unwrap();
        assert!(now(turns.enter(Loads, &three)).is_none(), "all turns are taken, by uploads and loads together");
        drop(first);
        let first = upload.turn().or_else(|| load.turn()).unwrap();
        assert!(upload.turn().is_none() && load.turn().is_none(), "one of the two at a time");
        drop((first, other, upload, load));
        let state = lock(&turns.state);
        assert_eq!((state.free, state.inside), (2, [0, 0]));
        assert!(state.having.is_empty() && state.lines.iter().all(|line| line.0.is_empty()));
    }

    #[test]
    fn uploads_and_loads_take_turns_however_many_wait() {
        let turns = Turns::new(1, 10, 10);
        let apps: Vec<AppId> = (0..8).map(app).collect();
        let first = now(turns.enter(Uploads, &apps[0])).unwrap().unwrap();
        let mut waiters: Vec<(char, Waiter<'_>)> =
            apps[1..5].iter().map(|app| ('u', Waiter::new(&turns, Uploads, app))).collect();
        waiters.extend(apps[5..].iter().map(|app| ('l', Waiter::new(&turns, Loads, app))));
        drop(first);
        let mut order = String::new();
        while let Some((lane, turn)) =
            waiters.iter_mut().find_map(|(lane, waiter)| waiter.turn().map(|turn| (*lane, turn)))
        {
            order.push(lane);
            assert!(waiters.iter_mut().all(|(_, waiter)| waiter.turn().is_none()), "one at a time");
            drop(turn);
        }
        assert_eq!(order, "lululuu");
    }

    #[test]
    fn who_finds_it_full_is_told_at_once_and_who_gives_up_leaves_its_place() {
        let turns = Turns::new(1, 2, 10);
        let (one, two, three) = (app(1), app(2), app(3));
        let first = now(turns.enter(Uploads, &one)).unwrap().unwrap();
        let second = Waiter::new(&turns, Uploads, &two);
        assert!(now(turns.enter(Uploads, &three)).unwrap().is_err());
        let load = Waiter::new(&turns, Loads, &two);
        drop(second);
        let mut third = Waiter::new(&turns, Uploads, &three);
        drop(first);
        assert!(third.turn().is_none(), "the load is next");
        // Which gives up without having noticed.
        drop(load);
        assert!(third.turn().is_some());
    }

    #[test]
    fn a_tenant_with_much_to_do_does_not_stand_in_front_of_others() {
        let turns = Turns::new(1, 10, 10);
        let (busy, other) = (app(1), app(2));
        let first = now(turns.enter(Uploads, &busy)).unwrap().unwrap();
        let mut second = Waiter::new(&turns, Uploads, &busy);
        let mut third = Waiter::new(&turns, Uploads, &busy);
        let mut others = Waiter::new(&turns, Uploads, &other);
        drop(first);
        assert!(second.turn().is_none());
        drop(others.turn().expect("it came after two of the busy one's, and is next"));
        drop(second.turn().unwrap());
        assert!(third.turn().is_some());
    }

    #[test]
    fn what_may_be_left_undone_takes_only_what_nobody_wants() {
        let turns = Turns::new(2, 10, 10);
        let (one, two, three) = (app(1), app(2), app(3));
        let first = turns.try_enter(&one).unwrap();
        assert!(turns.try_enter(&one).is_none(), "the tenant has a turn");
        let mut upload = Waiter::new(&turns, Uploads, &one);
        assert!(turns.try_enter(&two).is_none(), "somebody waits");
        let second = now(turns.enter(Uploads, &two)).unwrap().unwrap();
        drop(first);
        let upload = upload.turn().unwrap();
        assert!(turns.try_enter(&three).is_none(), "none is free");
        drop((second, upload));
        assert!(turns.try_enter(&one).is_some());
    }
}
