//! The Whimbrel fleet server
fn main() {}
