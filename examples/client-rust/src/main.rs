//! Calls a model on the agent, in Rust
fn main() {}
