//! The `votes` function.
