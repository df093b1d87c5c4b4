//! NATS against its bare client: a `Contest` and `contest::hold(..)` go here.

pub(crate) async fn measure() {}
