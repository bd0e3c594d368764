//! The Whimbrel operator command line
fn main() {}
