//! `/metrics`: asks every shard at scrape time and encodes the answers, labelled by shard, never by room.
//!
//! Written in the Prometheus text format 0.0.4: a gauge `websocket_connections` beside a counter
//! `websocket_connections_total`, names the field's dashboards use, would be one family of two types in OpenMetrics.

use std::fmt::{self, Write as _};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use shards::core::channel::UNDELIVERABLES;
use shards::core::counters::{
    Counters, DROP_REASONS, Histogram, REFUSALS, SHED_CAUSES, UNRECOVERED, UPSTREAM_ENDS,
};
use shards::core::message::{Answer, Query};
use shards::core::usage::OUTCOMES;

use super::App;
use super::lifecycle::Phase;
use super::process::Process;
use super::readings::{Growth, Reading, readings};
use super::upstreams::Glance;
use crate::audit::{Audit, AuditReport};
use crate::auth::KeyReport;
use crate::jobs::{Jobs, JobsReport};
use crate::logging;
use crate::publish::{self, PublishReport};
use crate::store::{self, StoreReport};
use crate::worker::{WorkerReport, Workers, describe};

/// How long a shard may take: well under a scraper's own patience.
const ANSWER: Duration = Duration::from_secs(2);

/// By traffic class, in the order the shards count.
const CLASSES: [&str; 3] = ["control", "audio", "droppable"];

/// Answers a scrape, whatever state the shards are in.
pub(crate) async fn scrape(State(app): State<App>) -> Response {
    // The store comes behind the shards: whatever they had told when they answered has reached it by then.
    let shards = counters_of_all(&app, ANSWER).await;
    let untold = || shards.iter().map(|counters| counters.as_ref().map(|shard| shard.store.untold_since));
    let store = app.stores.as_ref().map(|stores| stores.report(untold()));
    let scrape = Scrape {
        shards,
        process: Process::read(),
        ready: app.lifecycle.phase() == Phase::Ready,
        uptime_s: app.started.elapsed().as_secs_f64(),
        log_lines_held_back: logging::held_back(),
        limits: app.limits.clone(),
        build: [("version", env!("CARGO_PKG_VERSION")), ("profile", app.profile), ("engine", app.engine)],
        keys: app.gate.as_ref().map(|gate| gate.report()),
        audit: app.audit.as_ref().map(Audit::report),
        jobs: app.jobs.as_ref().map(Jobs::report).unwrap_or_default(),
        publishing: app.publishing.report(),
        workers: app.workers.as_ref().map(Workers::report),
        store,
        model_server: app.model_server.as_deref().map(Glance::at),
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], encode(scrape))
        .into_response()
}

/// Every shard's counters; nothing for one that did not answer in time.
pub(crate) async fn counters_of_all(app: &App, within: Duration) -> Vec<Option<Counters>> {
    let answers = app.line.ask_all(|| Query::Counters, within).await;
    let counters = |answer| match answer {
        Ok(Answer::Counters(counters)) => Some(*counters),
        _ => None,
    };
    answers.into_iter().map(counters).collect()
}

/// What one scrape shows.
#[derive(Debug)]
struct Scrape {
    shards: Vec<Option<Counters>>,
    process: Process,
    ready: bool,
    uptime_s: f64,
    log_lines_held_back: u64,
    limits: Vec<(&'static str, u64)>,
    build: [(&'static str, &'static str); 3],
    /// Where tokens are asked for.
    keys: Option<KeyReport>,
    /// Where there is an audit log.
    audit: Option<AuditReport>,
    /// For each receiver of jobs.
    jobs: Vec<JobsReport>,
    /// What was published from outside.
    publishing: PublishReport,
    /// Where there are workers.
    workers: Option<WorkerReport>,
    /// Where there is a store.
    store: Option<StoreReport>,
    /// Where there is a model server.
    model_server: Option<Glance>,
}

fn encode(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut open_metrics = String::with_capacity(32 * 1024);
    text::encode(&mut open_metrics, &registry).expect("writing to a string");
    plain(&open_metrics)
}

/// From OpenMetrics to the text format 0.0.4: a counter's family is named with its `_total`, units and the end are
/// not marked.
fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, words)| words);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some(help) = help.take() {
                writeln!(out, "# HELP {name}{suffix} {help}").expect("writing to a string");
            }
            writeln!(out, "# TYPE {name}{suffix} {kind}").expect("writing to a string");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        self.node(out)?;
        self.keys(out)?;
        self.audit(out)?;
        self.jobs(out)?;
        publish::describe(&self.publishing, out)?;
        self.workers.iter().try_for_each(|report| describe(report, out))?;
        self.store.iter().try_for_each(|report| store::describe(report, out))?;
        self.model_server(out)?;
        self.dead_letters(out)?;
        self.readings(out)?;
        self.labelled(out)?;
        self.responses(out)?;
        self.histogram(out, "ws_outbox_batch_size", "Events per text message sent", 1.0, |c| &c.batch_size)?;
        let help = "From a message's being due to the kernel's taking its last byte";
        self.histogram(out, "ws_outbox_send_latency_seconds", help, 1e6, |c| &c.send_latency_us)?;
        let help = "How long events waited for company";
        self.histogram(out, "voxhall_coalesce_wait_seconds", help, 1e6, |c| &c.coalesce_wait_us)?;
        self.histogram(out, "voxhall_turn_seconds", "From waking to sleeping, per turn", 1e6, |c| {
            &c.wire.turn_us
        })
    }
}

impl Scrape {
    /// Each shard that answered, with its label.
    fn up(&self) -> impl Iterator<Item = (String, &Counters)> {
        self.shards
            .iter()
            .enumerate()
            .filter_map(|(shard, counters)| Some((shard.to_string(), counters.as_ref()?)))
    }

    fn node(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            out.encode_descriptor("voxhall_build_info", "What runs here", None, MetricType::Gauge)?;
        family.encode_family(&self.build)?.encode_gauge(&1.0)?;
        gauge(out, "voxhall_ready", "Whether new clients are welcome", f64::from(u8::from(self.ready)))?;
        gauge(out, "voxhall_uptime_seconds", "Time since the start", self.uptime_s)?;
        let held = self.log_lines_held_back;
        counter(
            out,
            "voxhall_log_lines_held_back",
            "Log lines not written because there were too many",
            held as f64,
        )?;
        let process = &self.process;
        gauge(out, "process_resident_memory_bytes", "Resident memory", process.resident_bytes as f64)?;
        counter(out, "process_cpu_seconds", "User and system time", process.cpu_seconds)?;
        gauge(out, "process_open_fds", "Open descriptors", process.open_fds as f64)?;
        let open: u64 = self.up().map(|(_, counters)| counters.open).sum();
        let per_connection = if open == 0 { 0.0 } else { process.resident_bytes as f64 / open as f64 };
        let help = "Resident memory divided by open connections";
        gauge(out, "memory_usage_per_connection_bytes", help, per_connection)?;
        let mut family =
            out.encode_descriptor("voxhall_limit", "Limits in force", None, MetricType::Gauge)?;
        for (key, value) in &self.limits {
            family.encode_family(&[("key", *key)])?.encode_gauge(&(*value as f64))?;
        }
        let mut family =
            out.encode_descriptor("voxhall_shard_up", "Whether the shard answered", None, MetricType::Gauge)?;
        for (shard, counters) in self.shards.iter().enumerate() {
            let up = f64::from(u8::from(counters.is_some()));
            family.encode_family(&[("shard", shard.to_string())])?.encode_gauge(&up)?;
        }
        Ok(())
    }

    fn keys(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(KeyReport { keys, reads, early_reads, failed_reads }) = self.keys else { return Ok(()) };
        gauge(out, "voxhall_auth_keys", "Keys that tokens are checked with", keys as f64)?;
        counter(out, "voxhall_auth_key_reads", "Times the keys were read again", reads as f64)?;
        let help = "Times the keys were to be read early because a token named one that was not known";
        counter(out, "voxhall_auth_key_reads_early", help, early_reads as f64)?;
        let help = "Times the keys could not be read again, which left the old ones in force";
        counter(out, "voxhall_auth_key_reads_failed", help, failed_reads as f64)
    }

    fn audit(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(AuditReport { written, dropped }) = &self.audit else { return Ok(()) };
        counter(out, "voxhall_audit_written", "Records written to the audit log", *written as f64)?;
        let help = "Records that found their queue full or could not be written";
        let mut family = out.encode_descriptor("voxhall_audit_dropped", help, None, MetricType::Counter)?;
        for (shard, count) in dropped {
            count_of(&mut family, &[("shard", shard.as_str())], *count)?;
        }
        Ok(())
    }

    fn jobs(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let help = "Jobs that Redis has taken";
        let mut family = out.encode_descriptor("voxhall_jobs_delivered", help, None, MetricType::Counter)?;
        for jobs in &self.jobs {
            count_of(&mut family, &[("receiver", jobs.receiver)], jobs.delivered)?;
        }
        let help = "Attempts to deliver jobs that failed and are made again";
        let mut family =
            out.encode_descriptor("voxhall_jobs_failed_attempts", help, None, MetricType::Counter)?;
        for jobs in &self.jobs {
            count_of(&mut family, &[("receiver", jobs.receiver)], jobs.failed)?;
        }
        let help = "Jobs that are lost";
        let mut family = out.encode_descriptor("voxhall_jobs_dropped", help, None, MetricType::Counter)?;
        for jobs in &self.jobs {
            for (reason, count) in jobs.dropped {
                count_of(&mut family, &[("reason", reason), ("receiver", jobs.receiver)], count)?;
            }
        }
        let help = "Jobs that wait for Redis";
        let mut family = out.encode_descriptor("voxhall_jobs_waiting", help, None, MetricType::Gauge)?;
        for jobs in &self.jobs {
            family.encode_family(&[("receiver", jobs.receiver)])?.encode_gauge(&(jobs.waiting as f64))?;
        }
        Ok(())
    }

    fn model_server(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in self.model_server.into_iter().flat_map(Glance::gauges) {
            gauge(out, name, help, value)?;
        }
        let help = "Model sessions, and attempts at one, that ended, and how";
        let mut family = out.encode_descriptor("voxhall_upstream_ended", help, None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (how, count) in UPSTREAM_ENDS.iter().zip(counters.upstreams.ended) {
                count_of(&mut family, &[("how", *how), ("shard", shard.as_str())], count)?;
            }
        }
        let help = "From an engine's asking for a model session to its being open";
        self.histogram(out, "voxhall_upstream_connect_seconds", help, 1e6, |c| &c.upstreams.connect_us)
    }

    fn dead_letters(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Publications that could not be delivered, by reason";
        let mut family = out.encode_descriptor("voxhall_dead_letters", help, None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (reason, count) in UNDELIVERABLES.iter().zip(counters.channels.dead_letters) {
                count_of(&mut family, &[("reason", *reason), ("shard", shard.as_str())], count)?;
            }
        }
        Ok(())
    }

    fn readings(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shards: Vec<(String, Vec<Reading>)> = self.up().map(|(shard, c)| (shard, readings(c))).collect();
        let Some((_, first)) = shards.first() else { return Ok(()) };
        for (at, reading) in first.iter().enumerate() {
            let kind = match reading.growth {
                Growth::Counter => MetricType::Counter,
                Growth::Gauge => MetricType::Gauge,
            };
            let mut family = out.encode_descriptor(reading.metric, reading.help, None, kind)?;
            for (shard, readings) in &shards {
                let value = readings[at].value;
                let labels = [("shard", shard.as_str())];
                let mut metric = family.encode_family(&labels)?;
                match reading.growth {
                    Growth::Counter => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?,
                    Growth::Gauge => metric.encode_gauge(&(value as f64))?,
                }
            }
        }
        let help = "Messages waiting to be worked on: from clients for engines, and from other shards";
        let mut family = out.encode_descriptor("message_queue_depth", help, None, MetricType::Gauge)?;
        for (shard, counters) in self.up() {
            let depth = counters.inbound_queued + counters.wire.mesh_depth;
            family.encode_family(&[("shard", shard)])?.encode_gauge(&(depth as f64))?;
        }
        Ok(())
    }

    fn labelled(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Messages dropped from lanes";
        let mut family =
            out.encode_descriptor("ws_outbox_dropped_messages", help, None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (reason, by_class) in DROP_REASONS.iter().zip(counters.dropped) {
                for (class, count) in CLASSES.iter().zip(by_class) {
                    let labels = [("class", *class), ("reason", *reason), ("shard", shard.as_str())];
                    count_of(&mut family, &labels, count)?;
                }
            }
        }
        let mut family =
            out.encode_descriptor("voxhall_refused", "Requests that got no room", None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (reason, count) in REFUSALS.iter().zip(counters.refused) {
                count_of(&mut family, &[("reason", *reason), ("shard", shard.as_str())], count)?;
            }
        }
        let help = "Times that a client could not be told what it had missed";
        let mut family = out.encode_descriptor("voxhall_not_recovered", help, None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (reason, count) in UNRECOVERED.iter().zip(counters.history.not_recovered) {
                count_of(&mut family, &[("reason", *reason), ("shard", shard.as_str())], count)?;
            }
        }
        let help = "Whether the shard turns new clients away, and why";
        let mut family = out.encode_descriptor("voxhall_shedding", help, None, MetricType::Gauge)?;
        for (shard, counters) in self.up() {
            for (cause, sheds) in SHED_CAUSES.iter().zip(counters.shedding) {
                let labels = [("cause", *cause), ("shard", shard.as_str())];
                family.encode_family(&labels)?.encode_gauge(&f64::from(u8::from(sheds)))?;
            }
        }
        let help = "Close codes sent or received; 0 stands for all beyond the first few";
        let mut family = out.encode_descriptor("voxhall_close_codes", help, None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (code, count) in &counters.close_codes {
                count_of(&mut family, &[("code", code.to_string()), ("shard", shard.clone())], *count)?;
            }
        }
        Ok(())
    }

    fn responses(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Responses that are over, by how they ended";
        let mut family = out.encode_descriptor("voxhall_responses", help, None, MetricType::Counter)?;
        for (shard, counters) in self.up() {
            for (status, count) in OUTCOMES.iter().zip(counters.responses.over) {
                count_of(&mut family, &[("shard", shard.as_str()), ("status", *status)], count)?;
            }
        }
        let help = "From the end of the user's turn to the first audio of the response";
        self.histogram(out, "voxhall_response_first_audio_seconds", help, 1e6, |c| {
            &c.responses.first_audio_us
        })?;
        let help = "Audio of each response that had any";
        self.histogram(out, "voxhall_response_audio_seconds", help, 1e6, |c| &c.responses.audio_us)?;
        let help = "From the making of a response to its end";
        self.histogram(out, "voxhall_response_seconds", help, 1e6, |c| &c.responses.lasted_us)
    }

    /// One histogram of every shard; its numbers divided by `per` give the metric's unit.
    fn histogram<const N: usize>(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        per: f64,
        of: impl Fn(&Counters) -> &Histogram<N>,
    ) -> fmt::Result {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (shard, counters) in self.up() {
            let histogram = of(counters);
            let mut buckets: Vec<(f64, u64)> =
                histogram.buckets().map(|(bound, count)| (bound as f64 / per, count)).collect();
            buckets.push((f64::INFINITY, histogram.above()));
            family.encode_family(&[("shard", shard)])?.encode_histogram::<NoLabelSet>(
                histogram.sum() as f64 / per,
                histogram.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
}

fn count_of(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::{FakeMesh, with_app};
    use super::*;
    use shards::core::ShardId;

    async fn scraped(app: App) -> String {
        let response = scrape(State(app)).await;
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[test]
    fn each_shard_has_its_own_series_under_the_names_of_the_field() {
        with_app(FakeMesh::new(2), &[], |app, _| async move {
            let text = scraped(app).await;
            for line in [
                "# TYPE websocket_connections gauge",
                "websocket_connections{shard=\"0\"} 7.0",
                "# TYPE websocket_connections_total counter",
                "websocket_connections_total{shard=\"1\"} 101",
                "ws_outbox_queue_size{shard=\"0\"} 0.0",
                "ws_outbox_dropped_messages_total{class=\"droppable\",reason=\"aged\",shard=\"0\"} 5",
                "ws_outbox_send_latency_seconds_bucket{le=\"0.001\",shard=\"0\"} 0",
                "ws_outbox_send_latency_seconds_bucket{le=\"0.005\",shard=\"0\"} 1",
                "ws_outbox_send_latency_seconds_bucket{le=\"+Inf\",shard=\"0\"} 1",
                "ws_outbox_send_latency_seconds_sum{shard=\"0\"} 0.004",
                "ws_outbox_send_errors_total{shard=\"0\"} 0",
                "voxhall_close_codes_total{code=\"1001\",shard=\"1\"} 1",
                "voxhall_frames_received_total{shard=\"0\"} 0",
                "voxhall_limit{key=\"outbox.messages_max\"} 512.0",
                "voxhall_build_info{version=\"0.1.0\",profile=\"laptop\",engine=\"parrot\"} 1.0",
                "voxhall_ready 1.0",
                "voxhall_shard_up{shard=\"1\"} 1.0",
            ] {
                assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
            }
            assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        });
    }

    #[test]
    fn no_family_is_declared_twice() {
        with_app(FakeMesh::new(2), &[], |app, _| async move {
            let text = scraped(app).await;
            let mut types = HashMap::new();
            for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
                *types.entry(line.split(' ').next().expect("a name").to_owned()).or_insert(0) += 1;
            }
            assert!(types.len() > 50);
            assert!(types.values().all(|&times| times == 1), "{types:?}");
        });
    }

    #[test]
    fn a_scrape_answers_although_a_shard_does_not() {
        with_app(FakeMesh::new(2), &[], |app, mesh| async move {
            mesh.fill(ShardId(0));
            let text = scraped(app).await;
            assert!(text.contains("voxhall_shard_up{shard=\"0\"} 0.0"));
            assert!(text.contains("voxhall_shard_up{shard=\"1\"} 1.0"));
            assert!(!text.contains("websocket_connections{shard=\"0\"}"));
        });
    }
}
