//! The alarms in the templates, and the metrics that they watch.
//!
//! AWS's own metrics come from the local cloud's CloudWatch. The functions' metrics are read from their logs here, because the
//! local cloud does not extract metrics from logs as CloudWatch does.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{System, faults::finally};

/// An alarm in a template.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// The metrics that it watches.
    pub watched: Vec<Watched>,
    threshold: f64,
    comparison: String,
}

/// A metric that an alarm watches.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub metric: String,
    /// The names of its dimensions.
    pub dimensions: Vec<String>,
    statistic: String,
}

impl Alarm {
    /// Every alarm of every template.
    pub fn all() -> Vec<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../infra");
        let files = fs::read_dir(folder).expect("infra").flatten().map(|file| file.path());
        let templates = files.filter(|path| path.extension().is_some_and(|kind| kind == "yaml"));
        templates.flat_map(|path| Self::of(&fs::read_to_string(path).expect("a template"))).collect()
    }

    /// The alarm of this name.
    pub fn named(name: &str) -> Self {
        let found = Self::all().into_iter().find(|alarm| alarm.name == name);
        found.unwrap_or_else(|| panic!("no template has the alarm {name}"))
    }

    fn of(template: &str) -> Vec<Self> {
        let document = &YamlLoader::load_from_str(template).expect("YAML")[0];
        let resources = document["Resources"].as_hash().expect("resources").values();
        let alarms = resources.filter(|resource| resource["Type"].as_str() == Some("AWS::CloudWatch::Alarm"));
        alarms.map(|alarm| Self::read(&alarm["Properties"])).collect()
    }

    fn read(properties: &Yaml) -> Self {
        let watched = match properties["Metrics"].as_vec() {
            None => vec![Watched::read(properties, statistic(properties))],
            Some(queries) => queries.iter().filter_map(Watched::of_query).collect(),
        };
        Self {
            name: text(&properties["AlarmName"]),
            watched,
            threshold: number(&properties["Threshold"]),
            comparison: text(&properties["ComparisonOperator"]),
        }
    }

    /// Whether a value breaches the threshold. The number of periods is ignored.
    pub fn rings_at(&self, value: f64) -> bool {
        match self.comparison.as_str() {
            "GreaterThanThreshold" => value > self.threshold,
            "GreaterThanOrEqualToThreshold" => value >= self.threshold,
            other => panic!("{}: unknown comparison {other}", self.name),
        }
    }

    /// The watched metric of this name.
    pub fn metric(&self, name: &str) -> &Watched {
        let found = self.watched.iter().find(|watched| watched.metric == name);
        found.unwrap_or_else(|| panic!("{} does not watch {name}", self.name))
    }
}

impl Watched {
    fn read(metric: &Yaml, statistic: String) -> Self {
        let dimensions = metric["Dimensions"].as_vec().into_iter().flatten();
        Self {
            namespace: text(&metric["Namespace"]),
            metric: text(&metric["MetricName"]),
            dimensions: dimensions.map(|dimension| text(&dimension["Name"])).collect(),
            statistic,
        }
    }

    /// Reads an entry of `Metrics`: a metric, or a Metrics Insights query. `None` if it is an expression over other entries.
    fn of_query(query: &Yaml) -> Option<Self> {
        let metric = &query["MetricStat"];
        if !metric.is_badvalue() {
            return Some(Self::read(&metric["Metric"], text(&metric["Stat"])));
        }
        // SELECT SUM(StepFailures) FROM SCHEMA(Madang, step)
        let select = query["Expression"].as_str()?.strip_prefix("SELECT ")?;
        let (aggregate, schema) = select.split_once(" FROM SCHEMA(").expect("a schema");
        let (function, metric) = aggregate.split_once('(').expect("an aggregate");
        let mut names = schema.trim_end_matches(')').split(", ").map(str::to_owned);
        let statistic = match function {
            "SUM" => "Sum",
            "MAX" => "Maximum",
            other => panic!("unknown aggregate {other} in {select}"),
        };
        Some(Self {
            namespace: names.next().expect("a namespace"),
            metric: metric.trim_end_matches(')').to_owned(),
            dimensions: names.collect(),
            statistic: statistic.to_owned(),
        })
    }

    /// The statistic of these values, as CloudWatch would calculate it for one period. `None` if there are no values.
    pub fn value(&self, emitted: &[Emitted]) -> Option<f64> {
        let matching: Vec<&Emitted> = emitted.iter().filter(|line| line.metric == self.metric).collect();
        for line in &matching {
            let unit = if self.statistic == "Sum" { "Count" } else { "Milliseconds" };
            assert_eq!((&line.namespace, &line.dimensions), (&self.namespace, &self.dimensions), "{line:?}");
            assert_eq!(line.unit, unit, "{line:?}");
        }
        let mut values: Vec<f64> = matching.iter().flat_map(|line| line.values.clone()).collect();
        values.sort_unstable_by(f64::total_cmp);
        match self.statistic.as_str() {
            _ if values.is_empty() => None,
            "Sum" => Some(values.iter().sum()),
            "Maximum" => values.last().copied(),
            // Of up to a hundred values this is the largest.
            "p99" => Some(values[(values.len() * 99).div_ceil(100) - 1]),
            other => panic!("unknown statistic {other} of {} values", values.len()),
        }
    }
}

/// A metric that a function has emitted in one invocation.
#[derive(Clone, Debug)]
pub struct Emitted {
    namespace: String,
    metric: String,
    unit: String,
    dimensions: Vec<String>,
    values: Vec<f64>,
}

impl Emitted {
    /// Reads a log line in CloudWatch's embedded metric format, which describes its metrics in the object `_aws`.
    fn of_line(line: &Value) -> Vec<Self> {
        let texts = |value: &Value| value.as_array().unwrap().iter().map(as_text).collect();
        let mut found = Vec::new();
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
            let [dimensions] = directive["Dimensions"].as_array().unwrap().as_slice() else {
                panic!("expected one set of dimensions: {line}")
            };
            let dimensions: Vec<String> = texts(dimensions);
            assert!(dimensions.iter().all(|name| line[name].is_string()), "{line}");
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = as_text(&metric["Name"]);
                let values = match &line[&name] {
                    Value::Array(values) => values.iter().filter_map(Value::as_f64).collect(),
                    value => vec![value.as_f64().unwrap_or_else(|| panic!("no value of {name}: {line}"))],
                };
                found.push(Self {
                    namespace: as_text(&directive["Namespace"]),
                    metric: name,
                    unit: as_text(&metric["Unit"]),
                    dimensions: dimensions.clone(),
                    values,
                });
            }
        }
        found
    }
}

/// A moment, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u128);

impl Moment {
    /// The current moment.
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis())
    }

    /// The time since then.
    pub fn elapsed(self) -> Duration {
        Duration::from_millis(u64::try_from(Self::now().0 - self.0).unwrap_or_default())
    }
}

impl System {
    /// The metrics that a function has emitted since a moment.
    pub async fn emitted(&self, function: &str, metric: &str, since: Moment) -> Vec<Emitted> {
        let lines = self.log_lines_since(function, metric, u64::try_from(since.0).unwrap()).await;
        lines.iter().flat_map(Emitted::of_line).collect()
    }

    /// CloudWatch's sum of a metric that Lambda publishes for a function, since a moment.
    pub async fn lambda_sum(&self, function: &str, metric: &str, since: Moment) -> f64 {
        let seconds = |moment: Moment| u64::try_from(moment.0 / 1000).unwrap();
        let query = json!({
            "Namespace": "AWS/Lambda",
            "MetricName": metric,
            "Dimensions": [{"Name": "FunctionName", "Value": function}],
            "StartTime": seconds(since),
            "EndTime": seconds(Moment::now()) + 60,
            "Period": 60,
            "Statistics": ["Sum"],
        });
        let target = "GraniteServiceVersion20100801.GetMetricStatistics";
        let answer = self.aws_json("monitoring", "1.0", target, &query).await;
        answer["Datapoints"].as_array().unwrap().iter().filter_map(|point| point["Sum"].as_f64()).sum()
    }

    /// Stops deliveries from a function's queue while `test` runs, and resumes them even if the test fails.
    pub async fn without_deliveries(&self, function: &str, test: impl AsyncFnOnce()) {
        let lambda = aws_sdk_lambda::Client::new(&self.aws);
        let found = lambda.list_event_source_mappings().function_name(function).send().await;
        let mappings = found.expect("ListEventSourceMappings").event_source_mappings.unwrap_or_default();
        let [EventSourceMappingConfiguration { uuid: Some(mapping), .. }] = mappings.as_slice() else {
            panic!("expected one event source mapping: {mappings:?}")
        };
        let enable = async |enabled: bool| {
            let update = lambda.update_event_source_mapping().uuid(mapping).enabled(enabled);
            update.send().await.expect("UpdateEventSourceMapping");
        };
        enable(false).await;
        finally(Box::pin(test()), Box::pin(enable(true))).await;
    }

    /// Makes Lambda throttle every invocation of a function while `test` runs, and ends that even if the test fails.
    pub async fn with_function_throttled(&self, function: &str, test: impl AsyncFnOnce()) {
        let lambda = aws_sdk_lambda::Client::new(&self.aws);
        let throttle =
            lambda.put_function_concurrency().function_name(function).reserved_concurrent_executions(0);
        throttle.send().await.expect("PutFunctionConcurrency");
        finally(Box::pin(test()), async {
            let unthrottle = lambda.delete_function_concurrency().function_name(function);
            unthrottle.send().await.expect("DeleteFunctionConcurrency");
        })
        .await;
    }
}

/// The statistic of an alarm on one metric.
fn statistic(properties: &Yaml) -> String {
    let name = if properties["Statistic"].is_badvalue() { "ExtendedStatistic" } else { "Statistic" };
    text(&properties[name])
}

fn text(value: &Yaml) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value:?}")).to_owned()
}

fn number(value: &Yaml) -> f64 {
    let number = value.as_f64().or_else(|| value.as_i64()?.to_string().parse().ok());
    number.unwrap_or_else(|| panic!("not a number: {value:?}"))
}

fn as_text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
