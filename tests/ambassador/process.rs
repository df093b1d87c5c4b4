//! The ambassador as a child process.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long anything may take that has no other limit: the machine is shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running ambassador. Killed when it is dropped.
pub(crate) struct Ambassador {
    child: Child,
    /// Where it listens, by the names of its upstreams; and `admin`.
    addresses: HashMap<String, SocketAddr>,
    log: Arc<Mutex<Vec<Value>>>,
}

/// The example, built from the sources as they are. `cargo test --test ambassador` alone would not
/// build it, and an old one would be tested without a word.
pub(crate) fn executable() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // target/<profile>/deps/ambassador-<hash>
        let test = env::current_exe().unwrap();
        let directory = test.parent().and_then(Path::parent).unwrap();
        let profile = if directory.ends_with("debug") { "dev" } else { "release" };
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo tells this test of its package, ring's build script would take for a change.
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
            cargo.env_remove(name);
        }
        let built = cargo
            .env_remove("CARGO_MANIFEST_DIR")
            .args(["build", "--quiet", "--all-features", "--example", "ambassador"])
            .args(["--profile", profile, "--target-dir"])
            .arg(directory.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "the example is not built");
        directory.join("examples/ambassador")
    })
}

/// A file with this in it, where the tests of this target may write.
pub(crate) fn file(kind: &str, text: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("ambassador-{}-{number}.{kind}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

impl Ambassador {
    /// Starts one with this configuration, in which every port is 0, and waits until it listens.
    pub(crate) fn start(configuration: &str) -> Self {
        let configuration = format!("admin = \"127.0.0.1:0\"\n{configuration}");
        let listeners = configuration.matches("listen = ").count() + 1;
        let mut child = Command::new(executable())
            .arg(file("toml", &configuration))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in output.lines() {
                let event: Value = serde_json::from_str(&line.unwrap()).expect("a line of JSON");
                let fields = &event["fields"];
                if fields["message"] == "listening" {
                    let name = fields["listener"].as_str().unwrap().to_owned();
                    let address = fields["address"].as_str().unwrap().parse().unwrap();
                    let _ = sender.send((name, address));
                }
                lines.lock().unwrap().push(event);
            }
        });
        let next = |_| receiver.recv_timeout(PATIENCE).expect("it listens");
        let addresses = (0..listeners).map(next).collect();
        Ambassador { child, addresses, log }
    }

    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.addresses[listener]
    }

    pub(crate) fn url(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(listener))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the admin listener says at this path.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let response = client().get(self.url("admin", path)).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// The view of one upstream's policies.
    pub(crate) async fn policies(&self, upstream: &str) -> Value {
        let all: Value = serde_json::from_str(&self.admin("/policies").await).unwrap();
        all[upstream].clone()
    }

    /// How many requests have ended in this way.
    pub(crate) async fn ended(&self, upstream: &str, outcome: &str) -> u64 {
        let metrics = self.admin("/metrics").await;
        let is_it = |line: &&str| {
            line.starts_with("ambassador_requests_total{")
                && line.contains(&format!("upstream=\"{upstream}\""))
                && line.contains(&format!("outcome=\"{outcome}\""))
        };
        let line = metrics.lines().find(is_it);
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The messages logged so far that contain this, as text.
    pub(crate) fn logged(&self, what: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().map(Value::to_string).filter(|line| line.contains(what)).collect()
    }

    pub(crate) fn terminate(&self) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.id())).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not exit");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Ambassador {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that asks no proxy of the environment.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Waits until this holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not {what} in time");
        sleep(Duration::from_millis(10)).await;
    }
}
