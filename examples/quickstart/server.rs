//! A real HTTP server on a loopback port that behaves as the script says.

use std::{
    future::pending,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::net::TcpListener;

use crate::script::{Behaviour, SLOW, Script, TOO_SLOW};

/// A running server, and when each request reached it.
#[derive(Clone)]
pub struct Server {
    script: Script,
    requests: Arc<Mutex<Requests>>,
}

struct Requests {
    /// In the order of arrival, on the script's clock.
    arrivals: Vec<Duration>,
    /// Seeded, so that both servers draw the same fates, run after run.
    fates: StdRng,
}

impl Server {
    /// Starts a server and returns it with the address of its one page.
    pub async fn start(script: Script) -> io::Result<(Server, reqwest::Url)> {
        let requests = Requests { arrivals: Vec::new(), fates: StdRng::seed_from_u64(7) };
        let server = Server { script, requests: Arc::new(Mutex::new(requests)) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/orders", listener.local_addr()?);
        let router = Router::new().route("/orders", get(answer)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((server, url.parse().expect("an address makes a URL")))
    }

    /// When each request arrived, from the one with this number on.
    pub fn arrivals_from(&self, number: usize) -> Vec<Duration> {
        self.requests.lock().unwrap().arrivals[number..].to_vec()
    }

    /// Notes a request and draws what becomes of it.
    fn take_in(&self) -> Fate {
        let now = self.script.now();
        let requests = &mut *self.requests.lock().unwrap();
        requests.arrivals.push(now);
        let draw: f64 = requests.fates.random();
        match self.script.phase_at(now).behaviour {
            Behaviour::Errors(share) if draw < share => Fate::Error,
            Behaviour::Brownout { too_slow, .. } if draw < too_slow => Fate::After(TOO_SLOW),
            Behaviour::Brownout { too_slow, slow } if draw < too_slow + slow => Fate::After(SLOW),
            Behaviour::BlackHole => Fate::Never,
            _ => Fate::AtOnce,
        }
    }
}

enum Fate {
    AtOnce,
    After(Duration),
    Error,
    Never,
}

async fn answer(State(server): State<Server>) -> StatusCode {
    match server.take_in() {
        Fate::AtOnce => StatusCode::OK,
        Fate::Error => StatusCode::SERVICE_UNAVAILABLE,
        Fate::Never => pending().await,
        Fate::After(delay) => {
            tokio::time::sleep(delay).await;
            StatusCode::OK
        }
    }
}
