//! gRPC: what a status means, and refusals as statuses.
