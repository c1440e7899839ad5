//! The one reader of the environment.
//!
//! Every variable is set by `template.yaml`, or by Lambda, and has no default here: a missing one is a mistake in
//! the deployment, and all mistakes are reported at once.

use std::{fmt::Display, str::FromStr};

/// All that is wrong with the environment.
#[derive(Debug, thiserror::Error)]
#[error("the function's environment is not right: {}", .0.join("; "))]
pub struct Error(Vec<String>);

/// Reads variables through a lookup function and remembers what is wrong with them.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

/// Looks a variable up in the process's environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl<'a> Reader<'a> {
    /// Reads through `lookup`.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, errors: Vec::new() }
    }

    /// A variable as text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.reject(format!("{name} is not set"));
        }
        value
    }

    /// A variable that may be empty or absent.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// A variable of any type that has a text form.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        self.built(name, text.parse())
    }

    /// The configuration, if nothing was wrong.
    ///
    /// # Errors
    /// Everything that was.
    pub fn finish<T>(self, config: Option<T>) -> Result<T, Error> {
        config.filter(|_| self.errors.is_empty()).ok_or(Error(self.errors))
    }

    /// What was built from a variable, or what is wrong with it; never the value, which may be a secret.
    pub fn built<T, E: Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.reject(format!("{name}: {error}"))).ok()
    }

    /// Notes what is wrong, once.
    pub fn reject(&mut self, error: String) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}
