//! A NATS server of our own, for an example or a test: on a free port of the loopback interface, with
//! JetStream in a temporary directory, gone with its owner.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::port;

/// How long it may take to answer. A store with many messages takes a while to be read again.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// A running `nats-server`, or one that was killed and can be started again.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Option<Child>,
    port: u16,
    name: String,
    directory: PathBuf,
}

impl NatsServer {
    /// Starts one, and waits until it answers.
    pub(crate) fn start() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("buttress-nats-{}-{number}", process::id());
        let directory = env::temp_dir().join(&name);
        fs::create_dir_all(&directory)?;
        let mut server = NatsServer { child: None, port: port::free()?, name, directory };
        server.run()?;
        Ok(server)
    }

    /// What a client connects to.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it where it stands (SIGKILL). Clients see their connections break.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only where it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again after [`kill`](Self::kill): same port, same messages.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.run()
    }

    fn run(&mut self) -> io::Result<()> {
        self.child = Some(self.spawn()?);
        let mut waited = Duration::ZERO;
        while !self.answers()? {
            if waited >= PATIENCE {
                return Err(self.failure("did not answer in time"));
            }
            // Nothing else is to be done meanwhile: a blocking wait, as the program begins.
            #[allow(clippy::disallowed_methods)]
            thread::sleep(PAUSE);
            waited += PAUSE;
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(program());
        command
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--name", &self.name, "--jetstream", "--store_dir"])
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                "nats-server is not installed: `apt-get install nats-server`, or put it into the PATH",
            ),
            _ => error,
        })
    }

    /// Whether it, and nobody else on this port, says who it is.
    fn answers(&mut self) -> io::Result<bool> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            return Err(self.failure(&format!("ended at once, with {status}")));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(connection) = TcpStream::connect_timeout(&address, PAUSE) else { return Ok(false) };
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut greeting = String::new();
        if BufReader::new(connection).read_line(&mut greeting).is_err() {
            return Ok(false);
        }
        Ok(greeting.starts_with("INFO ") && greeting.contains(&self.name))
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        io::Error::other(format!("nats-server {what}; its log:\n{log}"))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Debian puts it where only root looks.
fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/nats-server");
    if debian.exists() { debian } else { Path::new("nats-server") }
}
