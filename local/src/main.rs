//! Command line of the local stack.
fn main() {}
