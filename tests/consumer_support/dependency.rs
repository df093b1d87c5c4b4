//! What the handler of the tests depends on. It fails by a script.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::pending,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use buttress::{
    Verdict,
    breaker::{CircuitBreaker, State as BreakerState},
};
use tokio::time::{Instant, sleep};

use super::message::{Kind, Order};

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every call fails at once.
    Errors,
    /// No call ever comes back.
    BlackHole,
    /// Every call panics.
    Panics,
}

/// After so many successes it fails for so long.
#[derive(Clone, Copy, Debug)]
pub struct Episode {
    pub after: usize,
    pub trouble: Trouble,
    pub lasting: Duration,
}

/// Why it did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Down,
    /// This one never.
    Rejected(u64),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Down => f.write_str("the dependency is down"),
            Failure::Rejected(id) => write!(f, "order {id} is rejected"),
        }
    }
}

impl std::error::Error for Failure {}

/// The classifier that goes with it.
pub fn verdict<T>(outcome: Result<&T, &buttress::Error<Failure>>) -> Verdict {
    match outcome {
        Ok(_) => Verdict::Success,
        Err(buttress::Error::Service(Failure::Rejected(_))) => Verdict::Permanent,
        Err(_) => Verdict::Transient,
    }
}

/// The dependency. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Dependency {
    takes: Duration,
    /// Is told of everything that is done, before the caller is.
    announce: fn(u64),
    breaker: Option<CircuitBreaker>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    episodes: VecDeque<Episode>,
    /// What it has now, and until when; without an end until [`Dependency::recover`].
    trouble: Option<(Trouble, Option<Instant>)>,
    calls: Vec<Call>,
    done: Vec<Done>,
    /// How often flaky orders have failed.
    flaked: HashMap<u64, u32>,
}

/// A call of it that had an order.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub id: u64,
    pub key: String,
    /// Whether it failed because of an episode.
    pub trouble: Option<Trouble>,
    /// Whether the circuit was closed when it began.
    pub closed: bool,
}

/// An order that it is through with: done or rejected.
#[derive(Clone, Debug)]
pub struct Done {
    pub at: Instant,
    pub id: u64,
    pub key: String,
    pub rejected: bool,
}

impl Dependency {
    /// A healthy one, whose calls take so long.
    pub fn taking(takes: Duration) -> Self {
        Dependency { takes, announce: |_| {}, breaker: None, state: Arc::default() }
    }

    /// Notes of each call what this breaker thought of it.
    pub fn behind(self, breaker: CircuitBreaker) -> Self {
        Dependency { breaker: Some(breaker), ..self }
    }

    /// Tells of each id that is done, before the caller hears of it.
    pub fn announced(self, announce: fn(u64)) -> Self {
        Dependency { announce, ..self }
    }

    /// One that has these, in this order.
    pub fn script(takes: Duration, episodes: impl IntoIterator<Item = Episode>) -> Self {
        let dependency = Dependency::taking(takes);
        dependency.state().episodes.extend(episodes);
        dependency
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Is in trouble from now on.
    pub fn fail(&self, trouble: Trouble) {
        self.state().trouble = Some((trouble, None));
    }

    pub fn recover(&self) {
        self.state().trouble = None;
    }

    pub async fn handle(&self, order: Order) -> Result<(), Failure> {
        let closed = self.breaker.is_none_or(|breaker| breaker.state() == BreakerState::Closed);
        let trouble = self.state().call(&order, closed);
        match trouble {
            None => {}
            Some(Trouble::Errors) => return Err(Failure::Down),
            Some(Trouble::BlackHole) => pending().await,
            // A panic without the noise.
            Some(Trouble::Panics) => resume_unwind(Box::new("the dependency's client has a bug")),
        }
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        let Order { id, key, kind } = order;
        if kind == Kind::Flaky && self.state().flakes(id) {
            return Err(Failure::Down);
        }
        let rejected = kind == Kind::Rejected;
        self.state().done.push(Done { at: Instant::now(), id, key, rejected });
        (self.announce)(id);
        if rejected { Err(Failure::Rejected(id)) } else { Ok(()) }
    }

    /// In the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// In the order in which they ended.
    pub fn done(&self) -> Vec<Done> {
        self.state().done.clone()
    }

    pub fn count_done(&self) -> usize {
        self.state().done.len()
    }

    /// Episodes that have not begun.
    pub fn episodes_left(&self) -> usize {
        self.state().episodes.len()
    }
}

impl State {
    fn flakes(&mut self, id: u64) -> bool {
        let flaked = self.flaked.entry(id).or_default();
        *flaked += 1;
        *flaked <= 3
    }

    fn call(&mut self, order: &Order, closed: bool) -> Option<Trouble> {
        let now = Instant::now();
        if self.trouble.is_some_and(|(_, end)| end.is_some_and(|end| end <= now)) {
            self.trouble = None;
        }
        if self.trouble.is_none()
            && self.episodes.front().is_some_and(|next| next.after <= self.done.len())
            && let Some(episode) = self.episodes.pop_front()
        {
            self.trouble = Some((episode.trouble, Some(now + episode.lasting)));
        }
        let trouble = self.trouble.map(|(trouble, _)| trouble);
        let (id, key) = (order.id, order.key.clone());
        self.calls.push(Call { at: now, id, key, trouble, closed });
        trouble
    }
}
