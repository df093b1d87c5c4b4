use std::{error::Error, time::Duration};

use buttress::{
    breaker::CircuitBreaker,
    consumer::{Running, Status},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Database, order::ORDERS};

/// Something is wrong if it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

type Produced = JoinHandle<Result<(), Box<dyn Error + Send + Sync>>>;

/// A line each second until all that was produced is done; then the shutdown, and the sum.
pub(crate) async fn watch(
    running: Running,
    breaker: CircuitBreaker,
    database: &Database,
    produced: Produced,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    println!("      database   circuit     stored   dead  again  in hand");
    loop {
        seconds.tick().await;
        let status = running.status();
        println!("{}", line(&status, breaker, database));
        let done = database.stored().0 + status.summary.dead_lettered;
        if produced.is_finished() && done >= ORDERS {
            break;
        }
        if database.age() > PATIENCE {
            return Err(format!("not done after {PATIENCE:?}: {status:?}").into());
        }
    }
    produced.await??;
    let summary = running.shutdown(Duration::from_secs(10)).await;
    let (stored, twice) = database.stored();
    println!();
    println!("{ORDERS} orders: {stored} stored, {} dead letters.", summary.dead_lettered);
    println!(
        "{} deliveries: {} to try again, {twice} of something that was stored already.",
        summary.delivered, summary.retried
    );
    println!(
        "{} times an order was held because the database was down, and that cost no delivery.",
        summary.held
    );
    if stored + summary.dead_lettered < ORDERS {
        return Err(format!("some are lost: {summary:?}").into());
    }
    Ok(())
}

fn line(status: &Status, breaker: CircuitBreaker, database: &Database) -> String {
    let (age, health, circuit) = (database.age().as_secs(), database.health(), breaker.state());
    let (stored, _) = database.stored();
    let summary = &status.summary;
    let (dead, again) = (summary.dead_lettered, summary.retried + summary.retried_in_hand);
    let circuit = circuit.to_string();
    let seconds = |since: Instant| since.elapsed().as_secs_f64();
    let paused =
        status.paused_since.map(|since| format!("not pulling for {:.1} s", seconds(since)));
    let broken = status.broken_since.map(|since| format!("no broker for {:.1} s", seconds(since)));
    format!(
        "{age:>3} s {health:<10} {circuit:<10} {stored:>7} {dead:>6} {again:>6} {:>8}   {}{}",
        status.in_hand,
        paused.unwrap_or_default(),
        broken.unwrap_or_default(),
    )
}
