//! The `polls` function.
