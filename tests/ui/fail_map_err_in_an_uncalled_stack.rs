//! `.map_err(Error::Service)` in something that nobody calls: which error? `ServiceErrors` has no
//! such question.

use buttress::{Error, Stack};
use tower::util::MapErrLayer;

fn main() {
    let _layers = Stack::new().layer(MapErrLayer::new(Error::Service));
}
