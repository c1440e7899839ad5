//! Statistics of repeated measurements.
use serde::Serialize;

/// Median and range of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median; of an even number, the mean of the two middle values.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Spread {
    /// Returns the spread, or `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
        Some(Self { median: f64::midpoint(values[low], values[high]), min, max })
    }
}

/// Returns the weighted percentile, or `None` without values.
pub fn percentile(values: impl IntoIterator<Item = (f64, u64)>, share: f64) -> Option<f64> {
    let mut values: Vec<(f64, u64)> = values.into_iter().collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: u64 = values.iter().map(|(_, weight)| weight).sum();
    let target = share * total as f64;
    let mut seen = 0;
    values
        .into_iter()
        .find(|(_, weight)| {
            seen += weight;
            seen as f64 >= target
        })
        .map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_percentile_goes_by_weight() {
        let values = [(9.0, 1), (1.0, 98), (5.0, 1)];
        assert_eq!(percentile(values, 0.5), Some(1.0));
        assert_eq!(percentile(values, 0.99), Some(5.0));
        assert_eq!(percentile(values, 1.0), Some(9.0));
        assert_eq!(percentile([], 0.5), None);
    }
}
