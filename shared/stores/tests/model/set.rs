//! Small sets of messages or polls, as bit masks.

use std::fmt;

/// A set of numbers below 8.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u8);

impl Set {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns the set of one number.
    pub fn only(number: usize) -> Self {
        Self(1 << number)
    }

    /// Returns the set of all numbers below `end`.
    pub fn below(end: usize) -> Self {
        (0..end).collect()
    }

    /// Tells whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether the set contains a number.
    pub fn has(self, number: usize) -> bool {
        self.0 & (1 << number) != 0
    }

    /// Tells whether two sets have a number in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the union.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the difference.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Adds a number.
    pub fn insert(&mut self, number: usize) {
        self.0 |= 1 << number;
    }

    /// Returns the number of elements.
    pub fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    /// Iterates over the numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&number| self.has(number))
    }

    /// Iterates over all subsets, including the empty set and the set itself.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0).filter(move |bits| bits & !self.0 == 0).map(Self)
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        numbers.into_iter().fold(Self::EMPTY, |set, number| set.union(Self::only(number)))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}
