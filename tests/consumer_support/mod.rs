//! What the tests of message consumers share: a broker in memory, a ledger of what a consumer says
//! to any broker, and the scenario that each broker's tests run.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub)]

pub mod child;
pub mod dependency;
pub mod ledger;
pub mod memory;
pub mod message;
pub mod process;
pub mod scenario;
pub mod signal;
