//! The report as one page: no script, nothing fetched, light and dark.

use std::fmt::Write as _;

use crate::plot;
use crate::report::Report;
use crate::table::{self, bytes, time};

const STYLE: &str = include_str!("report.css");

/// Draws the page.
pub(crate) fn page(report: &Report) -> Result<String, String> {
    let mut body = String::new();
    let _ = write!(
        body,
        "<header><p class=\"kind\">Voxhall load test</p><h1>{}</h1><p>{} clients in {} rooms, {:.1} s measured</p>\
         <pre>voxhall-loadtest {}</pre></header>",
        report.scenario,
        report.clients,
        report.rooms,
        report.duration_s,
        escape(&report.command)
    );
    let _ = write!(body, "<section class=\"tiles\">{}</section>", tiles(report));
    if !report.expect.is_empty() {
        let _ =
            write!(body, "<section><h2>Bounds</h2><ul class=\"bounds\">{}</ul></section>", bounds(report));
    }
    body.push_str("<section class=\"plots\">");
    if report.latency_us.count > 0 {
        figure(&mut body, "Latency from the intended send time", "by percentile", &plot::latency(report)?);
    }
    let legend = "<i class=\"first\"></i>returned <i class=\"second\"></i>offered; shaded: what is measured";
    figure(&mut body, "Frames a second", legend, &plot::rate(report)?);
    figure(&mut body, "Server CPU", "of one core", &plot::cpu(report)?);
    figure(&mut body, "Server memory", "resident", &plot::memory(report)?);
    let _ = write!(
        body,
        "</section><section><h2>All figures</h2><pre class=\"all\">{}</pre></section>",
        escape(&table::render(report))
    );
    Ok(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{} · Voxhall load test</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        report.scenario
    ))
}

fn tiles(report: &Report) -> String {
    let mut tiles = String::new();
    let mut tile = |name: &str, value: String, note: String| {
        let _ = write!(tiles, "<div><span>{name}</span><b>{value}</b><small>{note}</small></div>");
    };
    if report.latency_us.count > 0 {
        let late = format!("generator late by {}", time(report.lateness_us.p99));
        tile("p99 latency", time(report.latency_us.p99), late);
        tile(
            "delivered",
            format!("{:.0}/s", report.rate_per_s),
            format!("{:.0}/s offered", report.offered_per_s),
        );
        let of = format!("of {}, {} dropped by the server", report.expected, report.dropped);
        tile("lost", report.lost.to_string(), of);
    }
    let shakes = &report.handshakes;
    tile(
        "handshakes",
        format!("{:.0}/s", shakes.per_s),
        format!("{} ok, {} failed", shakes.ok, shakes.failed),
    );
    if let Some(storm) = &report.storm {
        let back = storm.back_s.map_or("not all".into(), |back_s| format!("{back_s:.2} s"));
        tile("all back", back, format!("{} cut", storm.dropped));
    }
    let server = &report.server;
    if let Some(percent) = server.cpu_percent_of_core {
        let each = server.cpu_us_per_message.map(|us| format!("{us:.2} us a frame")).unwrap_or_default();
        tile("server CPU", format!("{percent:.1} %"), each);
    }
    if let Some(rss) = server.rss_bytes {
        let each = server.rss_bytes_per_room.map(|each| format!("{each:.0} B a room")).unwrap_or_default();
        tile("server memory", bytes(rss), each);
    }
    tiles
}

fn bounds(report: &Report) -> String {
    let mut items = String::new();
    for verdict in &report.expect {
        let value =
            verdict.value.map_or("not measured".into(), |value| table::metric_value(&verdict.bound, value));
        let (class, word) = if verdict.ok { ("held", "held") } else { ("broken", "broken") };
        let bound = escape(&verdict.bound);
        let _ = write!(items, "<li class=\"{class}\"><code>{bound}</code> {word}: {value}</li>");
    }
    items
}

fn figure(body: &mut String, title: &str, note: &str, svg: &str) {
    let _ =
        write!(body, "<figure><figcaption><h2>{title}</h2><small>{note}</small></figcaption>{svg}</figure>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
