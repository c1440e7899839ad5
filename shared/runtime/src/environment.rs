//! The only reader of environment variables.
//!
//! `template.yaml` or Lambda sets every variable, and none has a default here. A missing variable is an error of the
//! deployment, and all errors are reported at once.
//!
//! To add a variable: 1. Set it in `template.yaml`. 2. Read it with a [`Reader`] in the `read` function of the type
//! that uses it.

use std::{fmt::Display, str::FromStr};

/// All errors in the environment.
#[derive(Debug, thiserror::Error)]
#[error("the function's environment is invalid: {}", .0.join("; "))]
pub struct Error(Vec<String>);

/// A reader of variables through a lookup function. It collects all errors.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

/// Returns a variable of the process's environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl<'a> Reader<'a> {
    /// Creates a reader of the variables that `lookup` returns.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, errors: Vec::new() }
    }

    /// Reads a required variable.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.reject(format!("{name} is not set"));
        }
        value
    }

    /// Reads an optional variable. An empty one counts as absent.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// Reads and parses a required variable.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        self.built(name, text.parse())
    }

    /// Returns the configuration if there were no errors.
    ///
    /// # Errors
    /// All collected errors.
    pub fn finish<T>(self, config: Option<T>) -> Result<T, Error> {
        config.filter(|_| self.errors.is_empty()).ok_or(Error(self.errors))
    }

    /// Returns the result of building a value from a variable, and records its error. The error never contains the
    /// variable's value, which may be a secret.
    pub fn built<T, E: Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.reject(format!("{name}: {error}"))).ok()
    }

    /// Records an error once.
    pub fn reject(&mut self, error: String) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}
