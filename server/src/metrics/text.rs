//! Samples in Prometheus' text format, version 0.0.4. The crate `prometheus` knows how names and labels are written; its
//! registries and counters are not used, for what is counted here costs an addition and no look-up.

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Line, MetricFamily, MetricType},
};
use taskq_core::tally::{self, BOUNDS_US};

use super::{
    metric::{About, Kind, Metric},
    scrape::{Sample, Value},
};

/// All metrics that have samples.
pub(super) fn write<'a>(samples: impl Fn(Metric) -> Vec<Sample<'a>>) -> Result<String, prometheus::Error> {
    let mut families = Vec::with_capacity(Metric::ALL.len());
    for metric in Metric::ALL {
        let about = metric.about();
        let lines: Vec<Line> = samples(*metric).into_iter().map(|sample| line(&about, sample)).collect();
        if lines.is_empty() {
            continue;
        }
        let mut family = MetricFamily::default();
        family.set_name(about.name.to_owned());
        family.set_help(about.help.to_owned());
        family.set_field_type(match about.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(lines);
        families.push(family);
    }
    TextEncoder::new().encode_to_string(&families)
}

fn line(about: &About, sample: Sample<'_>) -> Line {
    assert_eq!(
        about.labels.len(),
        sample.labels.len(),
        "{} has these labels: {:?}",
        about.name,
        about.labels
    );
    let pair = |(name, value): (&&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut line = Line::from_label(about.labels.iter().zip(sample.labels).map(pair).collect());
    match (about.kind, sample.value) {
        (Kind::Counter, Value::Number(value)) => {
            let mut counter = Counter::default();
            counter.set_value(value);
            line.set_counter(counter);
        }
        (Kind::Gauge, Value::Number(value)) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            line.set_gauge(gauge);
        }
        (Kind::Histogram, Value::Spans(spans)) => line.set_histogram(histogram(spans)),
        (Kind::Counter | Kind::Gauge, Value::Spans(_)) | (Kind::Histogram, Value::Number(_)) => {
            panic!("{} has values of another kind", about.name)
        }
    }
    line
}

fn histogram(spans: &tally::Histogram) -> Histogram {
    let mut seen = 0;
    let mut buckets = Vec::with_capacity(BOUNDS_US.len());
    for (bound_us, count) in BOUNDS_US.iter().zip(spans.counts) {
        seen += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound_us as f64 / 1e6);
        bucket.set_cumulative_count(seen);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(spans.counts.iter().sum());
    histogram.set_sample_sum(spans.sum_us as f64 / 1e6);
    histogram
}
