use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Order, millis};

/// A database that is well for a while, and then is not. Clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Database {
    since: Instant,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    calls: u64,
    /// Orders that are in it, and how often each was written.
    stored: HashMap<u64, u32>,
}

/// Its day: from when on what is wrong with it.
const DAY: [(Duration, Health); 6] = [
    (millis(0), Health::Well),
    (millis(2_000), Health::Flaky),
    (millis(3_000), Health::Silent),
    (millis(5_000), Health::Well),
    (millis(7_000), Health::Down),
    (millis(10_000), Health::Well),
];

/// When the last trouble is over.
pub(crate) const RECOVERED: Duration = DAY[DAY.len() - 1].0;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// One call in eight fails.
    Flaky,
    /// Takes every call and answers none.
    Silent,
    /// Refuses every call.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Health::Well => "well",
            Health::Flaky => "flaky",
            Health::Silent => "silent",
            Health::Down => "down",
        })
    }
}

/// What the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Unavailable,
    NoSuchArticle(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unavailable => f.write_str("the database is unavailable"),
            Problem::NoSuchArticle(article) => write!(f, "there is no article {article:?}"),
        }
    }
}

impl std::error::Error for Problem {}

impl Database {
    /// Its day begins now.
    pub(crate) fn new() -> Self {
        Database { since: Instant::now(), books: Arc::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn health(&self) -> Health {
        let age = self.age();
        let begun = DAY.iter().rev().find(|(from, _)| *from <= age);
        begun.map_or(Health::Well, |(_, health)| *health)
    }

    /// Writes an order. Written twice, it is there once: a consumer may see a message again.
    pub(crate) async fn store(&self, order: Order) -> Result<(), Problem> {
        let calls = {
            let mut books = self.books();
            books.calls += 1;
            books.calls
        };
        match self.health() {
            Health::Silent => pending().await,
            Health::Down => return Err(Problem::Unavailable),
            Health::Flaky if calls.is_multiple_of(8) => return Err(Problem::Unavailable),
            Health::Well | Health::Flaky => sleep(millis(10)).await,
        }
        if order.article == "unicorn" {
            return Err(Problem::NoSuchArticle(order.article));
        }
        *self.books().stored.entry(order.number).or_default() += 1;
        Ok(())
    }

    /// How many orders are in it, and how many were written once more than needed.
    pub(crate) fn stored(&self) -> (u64, u64) {
        let books = self.books();
        let times: u64 = books.stored.values().copied().map(u64::from).sum();
        let stored = books.stored.len() as u64;
        (stored, times - stored)
    }
}
