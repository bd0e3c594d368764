//! Project tasks: demo, test, bench, tidy, dist
fn main() {}
