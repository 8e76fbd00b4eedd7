//! Which format is asked for, and what becomes of the text on its way to the older one.

use prometheus_client::metrics::histogram::Histogram;

use super::*;
use crate::telemetry::{ComponentLabel, Telemetry};

#[test]
fn only_whoever_names_openmetrics_has_it() {
    for (accepted, asks) in [
        (&[][..], false),
        (&["*/*"], false),
        (&["text/plain;version=0.0.4"], false),
        (&["application/openmetrics-text"], true),
        (
            &["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"],
            true,
        ),
        (&["text/plain, Application/OpenMetrics-Text ; version=0.0.1"], true),
        (&["text/plain", "application/openmetrics-text"], true),
        (&["application/openmetrics-text;q=0, text/plain"], false),
        (&["application/openmetrics-text-or-so"], false),
    ] {
        assert_eq!(asks_for_openmetrics(accepted.iter().copied()), asks, "{accepted:?}");
    }
}

#[test]
fn descriptions_of_counters_bear_the_name_of_their_series_and_all_else_stays() {
    let telemetry = Telemetry::default();
    let label = || ComponentLabel::new("a");
    telemetry.counters("rows", "Rows, # TYPE or not").get_or_create(&label()).inc_by(7);
    telemetry.gauges("rows_queued", "Rows waiting").get_or_create(&label()).set(1.5);
    let histogram = Histogram::new([1.0, 2.0]);
    histogram.observe(1.5);
    telemetry.register("duration_seconds", "Duration", histogram);
    let expected = "\
# HELP rows_total Rows, # TYPE or not.
# TYPE rows_total counter
rows_total{component=\"a\"} 7
# HELP rows_queued Rows waiting.
# TYPE rows_queued gauge
rows_queued{component=\"a\"} 1.5
# HELP duration_seconds Duration.
# TYPE duration_seconds histogram
duration_seconds_sum 1.5
duration_seconds_count 1
duration_seconds_bucket{le=\"1.0\"} 0
duration_seconds_bucket{le=\"2.0\"} 1
duration_seconds_bucket{le=\"+Inf\"} 1
";
    assert_eq!(prometheus(&telemetry.encode()), expected);
}

#[test]
fn label_values_are_left_alone_whatever_they_look_like() {
    let telemetry = Telemetry::default();
    let gauges = telemetry.gauges("up", "Up");
    for value in ["a # {b=\"c\"} 1", "# EOF", "x\n# TYPE up counter\n# EOF", "# UNIT up seconds"] {
        gauges.get_or_create(&ComponentLabel::new(value)).set(1.0);
    }
    let openmetrics = telemetry.encode();
    let text = prometheus(&openmetrics);
    assert_eq!(Some(text.as_str()), openmetrics.strip_suffix("# EOF\n"));
    assert_eq!(text.lines().count(), 2 + 4, "{text}");
}

#[test]
fn what_the_older_format_does_not_know_is_named_otherwise_or_left_out() {
    let openmetrics = "\
# HELP build Build.
# TYPE build info
build_info{version=\"1\"} 1
# TYPE odd unknown
odd 1
# TYPE age_seconds gauge
# UNIT age_seconds seconds
# HELP age_seconds
age_seconds 2
# EOF
";
    let expected = "\
# HELP build_info Build.
# TYPE build_info gauge
build_info{version=\"1\"} 1
# TYPE odd untyped
odd 1
# TYPE age_seconds gauge
# HELP age_seconds 
age_seconds 2
";
    assert_eq!(prometheus(openmetrics), expected);
    assert_eq!(prometheus("# EOF\n"), "");
}
