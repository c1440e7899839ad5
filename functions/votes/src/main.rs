//! The `votes` function.
fn main() {}
