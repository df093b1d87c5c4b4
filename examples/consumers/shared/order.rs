use std::{error::Error, fmt};

use tokio::time::{MissedTickBehavior, interval};

use super::{database::RECOVERED, millis};

/// How many a second.
const RATE: u64 = 200;

/// How many there are: the last ones come when the database is well again.
pub(crate) const ORDERS: u64 = (RECOVERED.as_secs() + 1) * RATE;

/// What the messages say: `17 apple`.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) article: String,
}

/// A message that is no order.
#[derive(Debug)]
pub(crate) struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an order: {:?}", self.0)
    }
}

impl Order {
    pub(crate) fn decode(body: &[u8]) -> Result<Order, Unreadable> {
        let text = String::from_utf8_lossy(body);
        let unreadable = || Unreadable(text.to_string());
        let (number, article) = text.split_once(' ').ok_or_else(unreadable)?;
        let number = number.parse().map_err(|_| unreadable())?;
        Ok(Order { number, article: article.to_owned() })
    }
}

/// Publishes all orders at a steady rate: each by its customer, whose orders are kept in order, and its
/// body. One in a hundred is for an article that does not exist, and one in a hundred is unreadable.
pub(crate) async fn produce<E: Into<Box<dyn Error + Send + Sync>>>(
    publish: impl AsyncFn(String, Vec<u8>) -> Result<(), E>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut ticks = interval(millis(1000 / RATE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..ORDERS {
        ticks.tick().await;
        let body = match number % 100 {
            33 => format!("{number} unicorn"),
            66 => format!("{{ order no. {number}"),
            _ => format!("{number} apple"),
        };
        let customer = format!("customer-{}", number % 20);
        publish(customer, body.into_bytes()).await.map_err(Into::into)?;
    }
    Ok(())
}
