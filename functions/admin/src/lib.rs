//! The `admin` function.
