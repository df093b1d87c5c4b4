//! A RabbitMQ of one's own: started on free ports of this machine with a directory of its own, and
//! gone without a trace at the end. The one that Debian may have started is not touched.
//!
//! Plain std, so that examples and tests can take it as it is.
#![allow(unreachable_pub)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "there is no runtime here")]

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::port;

/// The server's own script. Debian's wrapper around it wants to be the user `rabbitmq`.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// It takes four to ten seconds on a small machine.
const START: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// By this process, so that each has a directory of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    directory: PathBuf,
    ports: Ports,
    /// Where Erlang's nodes tell each other their ports. It would start one by itself, as a daemon that
    /// stays.
    registry: Child,
    server: Option<Child>,
    warden: Warden,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    distribution: u16,
    registry: u16,
}

impl Broker {
    /// Starts one, and waits until it answers.
    pub fn start() -> io::Result<Self> {
        if !Path::new(SERVER).exists() {
            let missing = format!("{SERVER} is not there: apt-get install rabbitmq-server");
            return Err(io::Error::new(io::ErrorKind::NotFound, missing));
        }
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("buttress-rabbitmq-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("enabled_plugins"), "[].")?;
        let ports =
            Ports { amqp: port::free()?, distribution: port::free()?, registry: port::free()? };
        let mut warden = Warden::over(&directory)?;
        let registry = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports.registry.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        warden.watch(&[&registry])?;
        let mut broker = Broker { directory, ports, registry, server: None, warden };
        broker.restart()?;
        Ok(broker)
    }

    /// Where it is.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// Kills it with `SIGKILL`. What it wrote to disk stays.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = self.warden.watch(&[&self.registry]);
            // It has ended or is about to: either is what is wanted.
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Starts it where it was, after [`kill`](Self::kill), and waits until it answers.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let mut server = self.command()?.spawn()?;
        self.warden.watch(&[&self.registry, &server])?;
        let begun = Instant::now();
        while !self.answers() {
            if let Some(status) = server.try_wait()? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            if begun.elapsed() > START {
                self.server = Some(server);
                self.kill();
                return Err(self.failure("did not answer in time"));
            }
            thread::sleep(TICK);
        }
        self.server = Some(server);
        Ok(())
    }

    /// What an expression of Erlang comes to inside of the broker.
    pub fn evaluate(&self, expression: &str) -> io::Result<String> {
        // Without a name of its own every call says that it is node `c17`, and the broker refuses the
        // second of two at a time.
        static CALLED: AtomicU32 = AtomicU32::new(0);
        let cookie = fs::read_to_string(self.directory.join(".erlang.cookie"))?;
        let call = CALLED.fetch_add(1, Ordering::Relaxed);
        let caller = format!("caller{}x{call}", std::process::id());
        let mut call = Command::new("erl_call")
            .env("HOME", &self.directory)
            .env("ERL_EPMD_PORT", self.ports.registry.to_string())
            .args(["-h", &caller, "-n", &self.node(), "-c", cookie.trim(), "-timeout", "10", "-e"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        call.stdin.take().map_or(Ok(()), |mut stdin| writeln!(stdin, "{expression}."))?;
        let output = call.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.strip_prefix("{ok, ").and_then(|said| said.trim_end().strip_suffix('}')) {
            Some(value) => Ok(value.to_owned()),
            None => Err(io::Error::other(format!("{expression}: {output:?}"))),
        }
    }

    fn node(&self) -> String {
        format!("buttress{}@localhost", self.ports.amqp)
    }

    fn command(&self) -> io::Result<Command> {
        let Ports { amqp, distribution, registry } = self.ports;
        let output = File::options().create(true).append(true).open(self.output())?;
        let mut command = Command::new(SERVER);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("LANG", "C.UTF-8")
            // For Erlang's cookie.
            .env("HOME", &self.directory)
            // The script then becomes the server, which can be killed, and does not wait for it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", registry.to_string())
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", amqp.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        for (variable, file) in [
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_PID_FILE", "pid"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
            ("RABBITMQ_CONF_ENV_FILE", "environment"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ] {
            command.env(variable, self.directory.join(file));
        }
        Ok(command)
    }

    /// Whether it speaks AMQP: its first frame is then a method, which is type 1, on channel 0.
    fn answers(&self) -> bool {
        let greet = || -> io::Result<[u8; 3]> {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ports.amqp);
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"AMQP\x00\x00\x09\x01")?;
            let mut frame = [0; 3];
            stream.read_exact(&mut frame)?;
            Ok(frame)
        };
        matches!(greet(), Ok([1, 0, 0]))
    }

    fn output(&self) -> PathBuf {
        self.directory.join("output")
    }

    fn failure(&self, what: &str) -> io::Error {
        let output = fs::read_to_string(self.output()).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        io::Error::other(format!("rabbitmq-server {what}; it said last:\n{last}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = self.warden.watch(&[]);
        let _ = self.registry.kill();
        let _ = self.registry.wait();
        // The warden removes the directory.
    }
}

/// A shell that waits for this process to end, however it ends, and then ends what this process has
/// started and removes the directory.
#[derive(Debug)]
struct Warden {
    shell: Child,
    /// Closed when this process ends.
    line: Option<ChildStdin>,
}

impl Warden {
    fn over(directory: &Path) -> io::Result<Self> {
        const DUTY: &str = r#"
            trap '' INT TERM HUP
            while read -r line; do processes=$line; done
            [ -z "$processes" ] || kill -9 $processes
            for attempt in 1 2 3 4 5; do rm -rf "$1" && break; sleep 0.2; done
        "#;
        let mut shell = Command::new("sh")
            .args(["-c", DUTY, "warden"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let line = shell.stdin.take();
        Ok(Warden { shell, line })
    }

    /// These and no others are to be ended. One that has ended must not stay among them: its number
    /// may be given to somebody else.
    fn watch(&mut self, children: &[&Child]) -> io::Result<()> {
        let ids: Vec<String> = children.iter().map(|child| child.id().to_string()).collect();
        self.line.as_mut().map_or(Ok(()), |line| writeln!(line, "{}", ids.join(" ")))
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        self.line = None;
        let _ = self.shell.wait();
    }
}
