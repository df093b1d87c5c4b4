//! Tests that need a process of their own: they run themselves again, as a child.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::runtime::Runtime;

use super::{
    dependency::Dependency,
    ledger::{Event, Ledger},
    message::Message,
    scenario::{Broker, PATIENCE, breaker, eventually, start},
};

/// What a child is told: where its broker is.
const ADDRESS: &str = "BUTTRESS_TEST_CHILD";

/// Runs a test in a process of its own, where nothing else takes processor time.
///
/// ```ignore
/// #[test]
/// fn open_circuit_is_quiet() {
///     child::alone("open_circuit_is_quiet", async || {
///         scenario::open_circuit(&Nats::start().await, &[]).await;
///     });
/// }
/// ```
///
/// The name is the test's own, with its modules.
pub fn alone(name: &str, test: impl AsyncFnOnce()) {
    if env::var_os(ADDRESS).is_some() {
        Runtime::new().unwrap().block_on(test());
        return;
    }
    let output = again(name, "alone").stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cried = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{name} failed in its own process:\n{said}\n{cried}");
    assert!(said.contains("1 passed"), "there is no test {name}:\n{said}");
}

/// This test binary, told to run that test and nothing else.
fn again(name: &str, address: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ADDRESS, address);
    command.stdout(Stdio::piped());
    command
}

/// A broker that another process can be connected to.
pub trait Reachable: Broker {
    /// Where it is, in words that [`at`](Self::at) understands in another process.
    fn address(&self) -> String;

    /// The broker there, which is somebody else's to stop.
    fn at(address: &str) -> Self;
}

/// A consumer in a process of its own is killed in the middle, and a second one takes over: nothing
/// is lost, at most the prefetch is handled twice, and it costs those one delivery.
///
/// ```ignore
/// #[test]
/// fn consumer_killed() {
///     child::killed("consumer_killed", async || Nats::start().await);
/// }
/// ```
pub fn killed<B: Reachable>(name: &str, broker: impl AsyncFnOnce() -> B) {
    let runtime = Runtime::new().unwrap();
    match env::var(ADDRESS) {
        Ok(address) => runtime.block_on(consume(&B::at(&address))),
        Err(_) => runtime.block_on(async { watch(name, &broker().await).await }),
    }
}

/// The child: handles messages until it is killed, and says which.
async fn consume<B: Broker>(broker: &B) {
    // The harness of the test has begun a line.
    say("");
    // Told before the handler returns, so before it can be settled.
    let dependency =
        Dependency::taking(Duration::from_millis(10)).announced(|id| say(&format!("handled {id}")));
    let ledger = Ledger::default();
    let _running = start(broker, &dependency, breaker(), false, &ledger).await;
    let mut told = 0;
    loop {
        let entries = ledger.entries();
        for entry in &entries[told..] {
            if let Event::Delivered { id, attempt: Some(attempt) } = entry.event {
                say(&format!("delivered {id} {attempt}"));
            }
        }
        told = entries.len();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Not `println!`, which the harness of the test may keep to itself.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).expect("the parent listens");
}

/// The parent.
async fn watch<B: Reachable>(name: &str, broker: &B) {
    const COUNT: u64 = 1_000;
    broker.publish(&Message::good(COUNT, 40)).await;

    let mut first = Consuming::start(name, &broker.address());
    eventually("the first has handled some", async || first.listen() >= COUNT as usize / 3).await;
    first.kill();
    let mut second = Consuming::start(name, &broker.address());
    eventually("the second has settled the rest", async || {
        second.listen();
        broker.left().await == 0
    })
    .await;
    second.kill();

    let all: BTreeSet<u64> = first.handled.keys().chain(second.handled.keys()).copied().collect();
    assert_eq!(all, (0..COUNT).collect(), "lost");
    let times = first.handled.values().chain(second.handled.values()).sum::<usize>();
    let duplicates = times - all.len();
    println!("killed: {duplicates} duplicates, the prefetch is {}", B::PREFETCH);
    assert!(duplicates <= B::PREFETCH, "{duplicates} duplicates");
    let again = second.delivered.values().filter(|attempt| **attempt > 1);
    assert!(again.clone().count() <= B::PREFETCH, "{} delivered again", again.count());
    let most = again.max().copied().unwrap_or(1);
    assert!(most <= 2, "the kill cost {} deliveries", most - 1);
}

/// A child, and what it has said so far. Killed when it is dropped.
struct Consuming {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// How often each.
    handled: BTreeMap<u64, usize>,
    /// The highest count that each came with.
    delivered: BTreeMap<u64, u32>,
}

impl Consuming {
    fn start(name: &str, address: &str) -> Self {
        let mut child = again(name, address).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Consuming { child, lines, handled: BTreeMap::new(), delivered: BTreeMap::new() }
    }

    /// Reads what it has said. Returns how many messages it has handled.
    fn listen(&mut self) -> usize {
        while let Ok(line) = self.lines.try_recv() {
            self.note(&line);
        }
        let gone = self.child.try_wait().unwrap();
        assert!(gone.is_none(), "the consumer ended by itself: {gone:?}");
        self.handled.len()
    }

    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["handled", id] => *self.handled.entry(id.parse().unwrap()).or_default() += 1,
            ["delivered", id, attempt] => {
                let highest = self.delivered.entry(id.parse().unwrap()).or_default();
                *highest = attempt.parse::<u32>().unwrap().max(*highest);
            }
            // The harness of the test talks, too.
            _ => {}
        }
    }

    /// SIGKILL, and the rest of what it had said.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.note(&line);
        }
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
