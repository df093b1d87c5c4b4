//! The bookkeeping against a list that is looked through from end to end.

use proptest::prelude::*;
use tokio::{task, time::Instant};

use super::{
    Hand, Id,
    tests::{SECOND, Tasks, letter, start_all},
};
use crate::consumer::Settle;

#[derive(Clone, Debug)]
enum Step {
    Take(u8),
    Start,
    Probe,
    Hold(usize),
    TryAgain(usize),
    Settle(usize),
    SettleFails(usize),
    Settled(usize),
    Due,
    NoMoreWaiting,
    Lose(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..8_usize;
    let step = prop_oneof![
        8 => (0..3_u8).prop_map(Step::Take),
        6 => Just(Step::Start),
        2 => Just(Step::Probe),
        3 => which.clone().prop_map(Step::Hold),
        2 => which.clone().prop_map(Step::TryAgain),
        6 => which.clone().prop_map(Step::Settle),
        2 => which.clone().prop_map(Step::SettleFails),
        6 => which.clone().prop_map(Step::Settled),
        2 => Just(Step::Due),
        1 => Just(Step::NoMoreWaiting),
        2 => which.prop_map(Step::Lose),
    ];
    prop::collection::vec(step, 1..120)
}

/// What a delivery is doing, written for obviousness.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Lying,
    Running,
    Probing,
    Waiting,
    Settling,
    SettlingLater,
}

impl Doing {
    fn runs(self) -> bool {
        matches!(self, Doing::Running | Doing::Probing)
    }
}

#[derive(Debug)]
struct Line {
    id: Id,
    key: u8,
    doing: Doing,
    held: bool,
    task: Option<task::Id>,
}

/// In order of arrival.
#[derive(Debug, Default)]
struct List(Vec<Line>);

impl List {
    fn line(&mut self, id: Id) -> &mut Line {
        self.0.iter_mut().find(|line| line.id == id).unwrap()
    }

    /// The `n`th that does something like this.
    fn pick(&mut self, which: impl Fn(Doing) -> bool, n: usize) -> Option<&mut Line> {
        let mut those: Vec<&mut Line> =
            self.0.iter_mut().filter(|line| which(line.doing)).collect();
        (!those.is_empty()).then(|| those.swap_remove(n % those.len()))
    }

    fn remove(&mut self, id: Id) {
        self.0.retain(|line| line.id != id);
    }

    /// Those that may be started: nobody of their key who came before them is unsettled.
    fn may_start(&self) -> Vec<&Line> {
        let first = |at: usize| {
            let unsettled =
                |line: &&Line| !matches!(line.doing, Doing::Settling | Doing::SettlingLater);
            let before = self.0[..at].iter().filter(unsettled);
            before.into_iter().all(|line| line.key != self.0[at].key)
        };
        let lying = (0..self.0.len()).filter(|at| self.0[*at].doing == Doing::Lying);
        lying.filter(|at| first(*at)).map(|at| &self.0[at]).collect()
    }
}

proptest! {
    /// Against a list in order of arrival: one may be started exactly if nobody of its key who
    /// came before it is unsettled, and nobody is ever forgotten.
    #[test]
    fn is_a_list_in_order_of_arrival(steps in steps()) {
        let (mut hand, tasks) = (Hand::new(), Tasks::new());
        let now = Instant::now();
        let mut list = List::default();
        for step in steps {
            match step {
                Step::Take(key) => {
                    let id = hand.take(letter(key), true, now);
                    list.0.push(Line { id, key, doing: Doing::Lying, held: false, task: None });
                }
                Step::Start | Step::Probe => {
                    let probe = matches!(step, Step::Probe);
                    let next = if probe { hand.next_probe() } else { hand.next_ready() };
                    let may = list.may_start();
                    prop_assert_eq!(next.is_some(), !may.is_empty());
                    let Some(id) = next else { continue };
                    prop_assert!(may.iter().any(|line| line.id == id));
                    let untried = may.iter().any(|line| !line.held);
                    let line = list.line(id);
                    prop_assert!(!probe || !untried || !line.held, "one that may fail again");
                    let task = tasks.one();
                    hand.start(id, task, probe.then_some(now));
                    line.doing = if probe { Doing::Probing } else { Doing::Running };
                    line.task = Some(task);
                }
                Step::Hold(n) => if let Some(line) = list.pick(Doing::runs, n) {
                    hand.hold(line.id);
                    (line.doing, line.held) = (Doing::Lying, true);
                },
                Step::TryAgain(n) => if let Some(line) = list.pick(Doing::runs, n) {
                    hand.try_again_at(line.id, now);
                    line.doing = Doing::Waiting;
                },
                Step::Settle(n) => if let Some(line) = list.pick(Doing::runs, n) {
                    prop_assert!(hand.settle(line.id, Settle::Ack, 0).is_some());
                    line.doing = Doing::Settling;
                },
                Step::SettleFails(n) => {
                    if let Some(line) = list.pick(|doing| doing == Doing::Settling, n) {
                        hand.settle_again_at(line.id, letter(line.key), Settle::Ack, 1, now);
                        line.doing = Doing::SettlingLater;
                    }
                }
                Step::Settled(n) => {
                    if let Some(line) = list.pick(|doing| doing == Doing::Settling, n) {
                        let id = line.id;
                        hand.remove(id);
                        list.remove(id);
                    }
                }
                Step::Due => if let Some(id) = hand.due(now) {
                    let line = list.line(id);
                    if line.doing == Doing::SettlingLater {
                        prop_assert!(hand.settle(id, Settle::Ack, 1).is_some());
                        line.doing = Doing::Settling;
                    } else {
                        prop_assert_eq!(line.doing, Doing::Waiting);
                        hand.wait_no_longer(id);
                        line.doing = Doing::Lying;
                    }
                },
                Step::NoMoreWaiting => {
                    hand.no_more_waiting();
                    let waiting = list.0.iter_mut().filter(|line| line.doing == Doing::Waiting);
                    waiting.for_each(|line| line.doing = Doing::Lying);
                }
                Step::Lose(n) => if let Some(line) = list.pick(|_| true, n) {
                    let id = line.id;
                    hand.remove(id);
                    list.remove(id);
                },
            }
            let (may, before) = (list.may_start(), now - SECOND);
            let probes = list.0.iter().filter(|line| line.doing == Doing::Probing);
            let waits = |line: &Line| {
                matches!(line.doing, Doing::Waiting | Doing::SettlingLater)
            };
            prop_assert_eq!(hand.len(), list.0.len());
            prop_assert_eq!(hand.has_ready(), !may.is_empty());
            prop_assert_eq!(hand.next_due().is_some(), list.0.iter().any(waits));
            prop_assert_eq!(hand.probes_since(before), probes.clone().count());
            let untried = may.into_iter().chain(probes).any(|line| !line.held);
            prop_assert_eq!(hand.has_untried(before), untried);
            let running = list.0.iter().filter(|line| line.doing.runs());
            prop_assert_eq!(hand.running(), running.count());
            for line in &list.0 {
                let runs = line.doing.runs().then_some(line.id);
                prop_assert_eq!(line.task.and_then(|task| hand.in_task(task)), runs);
            }
        }
        // To the end, whatever state it is in.
        for _ in 0..10 * list.0.len() {
            while let Some(id) = hand.due(now) {
                hand.wait_no_longer(id);
            }
            for id in start_all(&mut hand, &tasks) {
                hand.remove(id);
            }
            for line in list.0.iter().filter(|line| line.doing.runs() || line.doing == Doing::Settling) {
                hand.remove(line.id);
            }
        }
        prop_assert!(hand.is_empty());
        prop_assert!(hand.followers.is_empty() && hand.lists.are_empty());
    }
}
