//! The Whimbrel device agent
fn main() {}
