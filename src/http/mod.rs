//! HTTP: what a response means, which requests may be repeated, and refusals as responses.
