//! The load: open loop, so many calls a second whatever becomes of them.
//!
//! A closed loop, in which each user waits for an answer before asking again, goes easy on a server
//! that is in trouble. The world does not.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep_until};

use crate::script::Script;

/// What the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    /// An answer from the fallback: usable, and known to be second best.
    Degraded,
    Failed,
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When it was due on the script's clock. It belongs to the phase of this time.
    pub offered: Duration,
    /// How late the load generator was with it. More than some milliseconds mean that the machine
    /// cannot make this load.
    pub late: Duration,
    /// How long the caller waited, counted from when the call was due: had the load generator
    /// itself fallen behind, that would show here.
    pub took: Duration,
    pub answer: Answer,
}

impl Call {
    /// When it was made.
    pub fn made(&self) -> Duration {
        self.offered + self.late
    }
}

/// The calls of one client.
#[derive(Default)]
pub struct Calls {
    offered: AtomicUsize,
    finished: Mutex<Vec<Call>>,
}

impl Calls {
    /// How many calls have been made so far.
    pub fn offered(&self) -> usize {
        self.offered.load(Ordering::Relaxed)
    }

    /// The calls in the order in which they came to an end, from the one with this number on.
    pub fn finished_from(&self, number: usize) -> Vec<Call> {
        self.finished.lock().unwrap()[number..].to_vec()
    }
}

/// Makes `rate` calls a second for as long as the script lasts, and waits for the last of them.
pub async fn offer<F>(script: &Script, rate: u32, calls: &Arc<Calls>, call: impl Fn() -> F)
where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let offered = Duration::from_secs(1) * number / rate;
        if offered >= script.length() {
            break;
        }
        let due = script.start + offered;
        sleep_until(due).await;
        calls.offered.fetch_add(1, Ordering::Relaxed);
        let (call, calls) = (call(), Arc::clone(calls));
        under_way.spawn(async move {
            let late = due.elapsed();
            let answer = call.await;
            let took = due.elapsed();
            calls.finished.lock().unwrap().push(Call { offered, late, took, answer });
        });
    }
    under_way.join_all().await;
}
