//! The `polls` function.
fn main() {}
