//! A figure as the value of a column.

use super::params::Params;
use super::{Conversion, FieldRule};
use crate::provider::rates::Rates;

/// Nanoseconds in a second, as a ratio's denominator.
pub const NANOS: f64 = 1e9;
/// Bytes in a kibibyte.
pub const KIBI: f64 = 1024.0;

/// Figures read at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The figures.
    pub params: &'a Params,
    /// When they were read, in nanoseconds on a clock that is never set.
    pub at: i64,
}

/// One field's value, or `None` while it is not known. `prefix` is put before native names, `scope` tells the counters of
/// one rule from those of another that reads the same figure, and `cores` is what a share of cores is a share of.
pub fn converted(
    field: &FieldRule,
    scope: &str,
    prefix: &str,
    reading: Reading<'_>,
    rates: &mut Rates<String>,
    cores: Option<f64>,
) -> Option<f64> {
    let name = format!("{prefix}{}", field.native);
    let Reading { params, at } = reading;
    let factor = field.factor.unwrap_or(1.0);
    let mut rate = |native: &str| {
        let counter = params.total(native)?;
        Some(rates.rate(format!("{scope}{}<{native}", field.field), at, counter)? * factor)
    };
    match field.convert {
        Conversion::Value => Some(params.amount(&name)? * factor),
        Conversion::Kibibytes => Some(params.amount(&name)? * factor * KIBI),
        Conversion::Rate => rate(&name),
        Conversion::KibibyteRate => Some(rate(&name)? * KIBI),
        Conversion::Share => Some((rate(&name)? / NANOS).min(1.0)),
        Conversion::ShareOfCores => {
            let rate = rate(&name)?;
            let cores = cores.filter(|cores| *cores > 0.0)?;
            Some((rate / NANOS / cores).min(1.0))
        }
        Conversion::Latency => {
            let per = format!("{prefix}{}", field.per.as_ref()?);
            let (time, operations) = (params.total(&name)?, params.total(&per)?);
            let time = rates.delta(format!("{scope}{}<{name}", field.field), at, time);
            let operations = rates.delta(format!("{scope}{}<{per}", field.field), at, operations);
            let ((_, nanos), (_, operations)) = (time?, operations?);
            (operations > 0).then(|| nanos as f64 * factor / NANOS / operations as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn field(convert: Conversion, factor: Option<f64>) -> FieldRule {
        let (native, field) = ("a.time".to_owned(), "x".to_owned());
        FieldRule { native, field, convert, per: None, fresh: false, factor, unit: None }
    }

    fn two(field: &FieldRule, cores: Option<f64>) -> Option<f64> {
        let mut rates = Rates::new();
        let (first, second) = (Params::from_text("a.time=1000"), Params::from_text("a.time=2000001000"));
        converted(field, "", "", Reading { params: &first, at: SECOND }, &mut rates, cores);
        converted(field, "", "", Reading { params: &second, at: 3 * SECOND }, &mut rates, cores)
    }

    #[test]
    fn conversions_and_their_factor() {
        assert_eq!(two(&field(Conversion::Rate, None), None), Some(1e9));
        assert_eq!(two(&field(Conversion::Rate, Some(1e-9)), None), Some(1.0));
        assert_eq!(two(&field(Conversion::Value, Some(0.5)), None), Some(1_000_000_500.0));
        assert_eq!(two(&field(Conversion::Share, Some(1000.0)), None), Some(1.0), "never above 1");
        assert_eq!(two(&field(Conversion::ShareOfCores, None), Some(4.0)), Some(0.25));
        assert_eq!(two(&field(Conversion::ShareOfCores, None), None), None, "a share of what is not known");
    }

    #[test]
    fn two_rules_may_read_one_counter() {
        let mut rates = Rates::new();
        let rule = field(Conversion::Rate, None);
        for (at, text) in [(1, "a.time=1"), (2, "a.time=5")] {
            let params = Params::from_text(text);
            let reading = Reading { params: &params, at: at * SECOND };
            let both = ["", "1/"].map(|scope| converted(&rule, scope, "", reading, &mut rates, None));
            assert_eq!(both, if at == 1 { [None; 2] } else { [Some(4.0); 2] });
        }
    }
}
