//! An ambassador: a program beside an application that makes its calls for it.
//!
//! README.md in this directory says what it does and how it is run; `cargo run --example ambassador
//! --features .. -- --help` says it in short.

mod admin;
mod client;
mod config;
mod drive;
mod headers;
mod outcome;
mod problem;
mod proxy;
mod server;
mod shutdown;
mod stack;
mod telemetry;

use std::{env, error::Error, path::PathBuf, process::ExitCode, sync::atomic::AtomicBool};

use admin::Admin;
use config::{Protocol, Settings};
use headers::{Forwarding, Via};
use outcome::Outcomes;
use proxy::Proxy;
use server::Listeners;
use stack::Protected;

const USAGE: &str = "\
ambassador [CONFIG]                serve; CONFIG is ambassador.toml unless it is given
ambassador --check-config [CONFIG] check the configuration, print it with every default, exit
ambassador --drive URL RATE SECONDS [CONNECTIONS]
                                   ask URL at a fixed rate, whatever comes back, and say how long it took

Any field of CONFIG can come from the environment: AMBASSADOR__UPSTREAMS__STOCK__LISTEN=0.0.0.0:8081

Exit codes: 0 stopped and drained, 1 failed or cut somebody off, 2 the configuration makes no sense.";

fn main() -> ExitCode {
    let mut arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("--drive") => return exit(1, drive::run(&arguments[1..])),
        _ => {}
    }
    let check = arguments.first().is_some_and(|first| first == "--check-config");
    if check {
        arguments.remove(0);
    }
    let file = PathBuf::from(arguments.pop().unwrap_or_else(|| "ambassador.toml".to_owned()));
    if !arguments.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let settings = match Settings::read(&file) {
        Ok(settings) => settings,
        Err(error) => return exit(2, Err(error)),
    };
    if check { exit(2, print(settings)) } else { serve(settings) }
}

/// Zero if it went well, else this code and a line that says why.
fn exit(code: u8, outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ambassador: {error}");
            ExitCode::from(code)
        }
    }
}

/// Prints the configuration if the policies can be built from it.
fn print(settings: Settings) -> Result<(), Box<dyn Error>> {
    let effective = toml::to_string(&settings)?;
    proxies(settings)?;
    println!("{effective}");
    Ok(())
}

/// What is in front of each upstream. Kept for the life of the process, like the policies in it.
fn proxies(settings: Settings) -> Result<Vec<&'static Proxy>, Box<dyn Error>> {
    let via = Via::new(&settings.name);
    let upstreams = settings.upstreams.into_iter().map(|(name, upstream)| {
        let forwarding = Forwarding {
            via: via.clone(),
            preserve_host: upstream.preserve_host,
            trust_inbound: upstream.trust_inbound,
            http2: upstream.primary.protocol == Protocol::Http2,
        };
        let outcomes = Outcomes::new(&name);
        let upstream = Protected::new(&name, upstream, &via)
            .map_err(|error| format!("upstreams.{name}: {error}"))?;
        Ok(&*Box::leak(Box::new(Proxy { name, upstream, outcomes, forwarding })))
    });
    upstreams.collect()
}

fn serve(settings: Settings) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = settings.worker_threads {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit(1, Err(error.into())),
    };
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> ExitCode {
    let addresses: Vec<_> = settings.upstreams.values().map(|upstream| upstream.listen).collect();
    let (admin, drain) = (settings.admin, settings.drain);
    let configured = settings.level().map_err(Into::into).and_then(|level| {
        telemetry::log(level);
        let metrics = telemetry::metrics()?;
        Ok((metrics, proxies(settings)?))
    });
    let (metrics, proxies) = match configured {
        Ok(configured) => configured,
        Err(error) => return exit(2, Err(error)),
    };
    tokio::spawn(telemetry::upkeep(metrics.clone()));

    let stopping = AtomicBool::new(false);
    let view: &'static Admin =
        Box::leak(Box::new(Admin { proxies: proxies.clone(), metrics, stopping }));
    let (mut listeners, mut admins) = (Listeners::new(), Listeners::new());
    let mut bound =
        admins.add("admin", admin, move |request, _| async move { view.answer(&request) }).await;
    for (proxy, address) in proxies.iter().copied().zip(addresses) {
        if bound.is_ok() {
            let answer = move |request, caller| proxy.answer(request, caller);
            bound = listeners.add(&proxy.name, address, answer).await;
        }
    }
    if let Err(error) = bound {
        return exit(1, Err(format!("cannot listen: {error}").into()));
    }
    // The admin listener stays to the end, so that somebody can watch.
    shutdown::wait_and_drain(listeners, view, drain).await
}
