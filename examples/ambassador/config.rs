//! The configuration: a TOML file, overridden from the environment, checked as a whole.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use buttress::{StandardConfig, TimeoutConfig, http::body::BodyTimeoutConfig};
use config::{Config, Environment, File};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

/// The whole file. Its tables are the fields of these structs.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// What it calls itself in `Via`.
    pub(crate) name: String,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/policies` are. Not for strangers.
    pub(crate) admin: SocketAddr,
    /// `error`, `warn`, `info`, `debug` or `off`; at `debug`, a line for each request.
    pub(crate) log: String,
    /// Threads that serve; all processors if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worker_threads: Option<usize>,
    /// How long requests under way may take to finish once it is told to stop.
    #[serde(with = "humantime_serde")]
    pub(crate) drain: Duration,
    /// What is in front of what, by name. A name is also that of the policies.
    pub(crate) upstreams: BTreeMap<String, UpstreamSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::from("ambassador"),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9901)),
            log: String::from("info"),
            worker_threads: None,
            drain: Duration::from_secs(10),
            upstreams: BTreeMap::new(),
        }
    }
}

/// One listener and what is behind it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamSettings {
    /// Where the application calls it.
    pub(crate) listen: SocketAddr,
    /// Who is called.
    pub(crate) primary: Target,
    /// What the circuit breaker counts.
    #[serde(default)]
    pub(crate) monitor: Monitor,
    /// Whether the upstream sees the `Host` that the caller wrote, and not its own name.
    #[serde(default)]
    pub(crate) preserve_host: bool,
    /// Whether callers are believed what they say in `X-Forwarded-*`, and of deadlines and attempts.
    #[serde(default)]
    pub(crate) trust_inbound: bool,
    /// How many bytes of a request's body are kept to be sent again.
    #[serde(default = "replay_limit")]
    pub(crate) replay_limit: usize,
    /// Timeouts, retries, breaker: see `buttress::StandardConfig`.
    #[serde(default)]
    pub(crate) policies: StandardConfig,
    /// Limits to the bodies of responses.
    #[serde(default)]
    pub(crate) body_timeout: BodyTimeoutConfig,
    /// Who answers in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backup: Option<Target>,
    /// How long the backup's answer may take; the timeouts in `policies` are the primary's.
    #[serde(default)]
    pub(crate) backup_timeout: TimeoutConfig,
    /// What is answered in its place, where there is no backup or that fails as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) degraded: Option<DegradedSettings>,
}

fn replay_limit() -> usize {
    64 * 1024
}

/// A server, and how it is spoken to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Its origin: `http://` or `https://`, a name or address, a port; no path.
    #[serde(with = "text")]
    pub(crate) url: Uri,
    /// `http1` or `http2`, which without TLS is the one "with prior knowledge".
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// In PEM, whom to trust in place of the roots of the Web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How long connecting may take, TLS not included.
    #[serde(default = "connect_timeout", with = "humantime_serde")]
    pub(crate) connect_timeout: Duration,
    /// How long a connection is kept that nobody uses. Below what the server keeps its side for.
    #[serde(default = "idle_timeout", with = "humantime_serde")]
    pub(crate) idle_timeout: Duration,
}

fn connect_timeout() -> Duration {
    Duration::from_millis(250)
}

fn idle_timeout() -> Duration {
    Duration::from_secs(30)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    #[default]
    Http1,
    Http2,
}

/// What counts as a failure to the circuit breaker.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Monitor {
    /// Attempts to connect that failed: the proxy of the literature.
    Connections,
    /// Those, and statuses that are failures, answers that do not come, bodies that break off.
    #[default]
    Responses,
}

/// A static answer.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DegradedSettings {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
    /// For which methods. A payment that failed must not be told from a 200.
    pub(crate) methods: Vec<String>,
}

impl Default for DegradedSettings {
    fn default() -> Self {
        DegradedSettings {
            status: 200,
            content_type: String::from("application/json"),
            body: String::new(),
            methods: vec![String::from("GET"), String::from("HEAD")],
        }
    }
}

/// A value that makes no sense, with the field it is in.
#[derive(Debug, thiserror::Error)]
#[error("{field} {rule}, but is {given}")]
pub(crate) struct Nonsense {
    field: String,
    rule: &'static str,
    given: String,
}

impl Nonsense {
    fn inside(self, table: &str) -> Self {
        Nonsense { field: format!("{table}.{}", self.field), ..self }
    }
}

impl Settings {
    /// Reads the file and the environment: `AMBASSADOR__UPSTREAMS__STOCK__URL` is the field `url` of
    /// the table `upstreams.stock`.
    pub(crate) fn read(file: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let environment = Environment::with_prefix("AMBASSADOR")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true);
        let settings: Settings = Config::builder()
            .add_source(File::from(file))
            .add_source(environment)
            .build()?
            .try_deserialize()?;
        settings.check()?;
        Ok(settings)
    }

    pub(crate) fn level(&self) -> Result<LevelFilter, Nonsense> {
        let rule = "must be one of off, error, warn, info, debug";
        LevelFilter::from_str(&self.log).map_err(|_| nonsense("log", rule, &self.log))
    }

    /// What the types do not say. The policies check themselves when they are built.
    fn check(&self) -> Result<(), Nonsense> {
        self.level()?;
        let via = format!("1.1 {}", self.name);
        if self.name.contains([' ', ',']) || HeaderValue::try_from(via).is_err() {
            let rule = "must be one word that a header can hold";
            return Err(nonsense("name", rule, &self.name));
        }
        if self.worker_threads == Some(0) {
            return Err(nonsense("worker_threads", "must be at least 1", "0"));
        }
        if self.upstreams.is_empty() {
            return Err(nonsense("upstreams", "must have at least one table", "empty"));
        }
        for (name, upstream) in &self.upstreams {
            upstream.check().map_err(|error| error.inside(&format!("upstreams.{name}")))?;
        }
        Ok(())
    }
}

impl UpstreamSettings {
    fn check(&self) -> Result<(), Nonsense> {
        self.primary.check().map_err(|error| error.inside("primary"))?;
        if self.preserve_host && self.primary.protocol == Protocol::Http2 {
            let rule =
                "must be false where the protocol is http2, whose requests name the upstream";
            return Err(nonsense("preserve_host", rule, "true"));
        }
        if self.policies.breaker.is_none() {
            let rule =
                "must be there, for it is what an ambassador is for (`shadow = true` only watches)";
            return Err(nonsense("policies.breaker", rule, "false"));
        }
        if let Some(backup) = &self.backup {
            backup.check().map_err(|error| error.inside("backup"))?;
        }
        if (self.backup.is_some() || self.degraded.is_some()) && self.policies.fallback.is_none() {
            let rule = "must be there where there is a `backup` or a `degraded` answer";
            return Err(nonsense("policies.fallback", rule, "false"));
        }
        self.degraded.as_ref().map_or(Ok(()), DegradedSettings::check)
    }
}

impl Target {
    fn check(&self) -> Result<(), Nonsense> {
        let url = &self.url;
        let rule = "must be an origin such as http://stock:8080, without path, query or user";
        let known = matches!(url.scheme_str(), Some("http" | "https"));
        let path = url.path_and_query().is_none_or(|path| path == "/");
        let authority = url.authority().is_some_and(|to| !to.as_str().contains('@'));
        if !(known && path && authority) {
            return Err(nonsense("url", rule, url));
        }
        if self.ca_file.is_some() && url.scheme_str() == Some("http") {
            return Err(nonsense("ca_file", "must be left out where the url is http", "there"));
        }
        if self.connect_timeout.is_zero() {
            return Err(nonsense("connect_timeout", "must be above zero", "0s"));
        }
        Ok(())
    }
}

impl DegradedSettings {
    fn check(&self) -> Result<(), Nonsense> {
        let status = StatusCode::from_u16(self.status);
        if !status.is_ok_and(|status| status.as_u16() >= 200 && status != 204 && status != 304) {
            let rule = "must be a final status that can have a body";
            return Err(nonsense("degraded.status", rule, &self.status));
        }
        if HeaderValue::from_str(&self.content_type).is_err() {
            let rule = "must be a media type";
            return Err(nonsense("degraded.content_type", rule, &self.content_type));
        }
        if let Some(method) = self.methods.iter().find(|it| Method::from_str(it).is_err()) {
            return Err(nonsense("degraded.methods", "must be methods of HTTP", method));
        }
        Ok(())
    }

    pub(crate) fn answers(&self, method: &Method) -> bool {
        self.methods.iter().any(|it| it == method.as_str())
    }
}

fn nonsense(field: &str, rule: &'static str, given: &(impl ToString + ?Sized)) -> Nonsense {
    Nonsense { field: String::from(field), rule, given: given.to_string() }
}

/// A value that is written as text.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
