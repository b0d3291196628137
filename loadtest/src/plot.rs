//! The plots of the page, drawn by plotters as SVG. Colours become CSS variables, so that one drawing serves light
//! and dark.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::Report;
use crate::table;

/// Size of a drawing; the page scales it.
const SIZE: (u32, u32) = (760, 300);

/// Stand-ins that are replaced by variables after drawing: plotters knows only fixed colours.
const INK: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(4, 5, 6);
const FIRST: RGBColor = RGBColor(7, 8, 9);
const SECOND: RGBColor = RGBColor(10, 11, 12);
const SHADE: RGBColor = RGBColor(13, 14, 15);

const VARIABLES: [(&str, &str); 5] = [
    ("#010203", "var(--ink)"),
    ("#040506", "var(--grid)"),
    ("#070809", "var(--first)"),
    ("#0A0B0C", "var(--second)"),
    ("#0D0E0F", "var(--shade)"),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Points of a line and their colour.
struct Series {
    points: Vec<(f64, f64)>,
    color: RGBColor,
}

/// Latency over its quantiles, the tail stretched: each nine takes the same width.
pub(crate) fn latency(report: &Report) -> Result<String, String> {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let points: Vec<(f64, f64)> =
        report.curve.iter().map(|&(quantile, us)| (nines(quantile), us as f64 / 1e3)).collect();
    let label = |nines: &f64| match nines.round() as u32 {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        n => format!("99{}{} %", if n > 2 { "." } else { "" }, "9".repeat(n as usize - 2)),
    };
    let series = [Series { points, color: FIRST }];
    draw(&series, None, &label, &|ms| table::time((ms * 1e3) as u64))
}

/// Frames a second, offered and returned.
pub(crate) fn rate(report: &Report) -> Result<String, String> {
    let line = |of: fn(&crate::report::Sample) -> f64, color| Series {
        points: report.samples.iter().map(|sample| (sample.at_s, of(sample))).collect(),
        color,
    };
    let series = [line(|sample| sample.offered_per_s, SECOND), line(|sample| sample.received_per_s, FIRST)];
    draw(&series, Some(report.window_s), &seconds, &|rate| format!("{rate:.0}"))
}

/// The server's share of a core.
pub(crate) fn cpu(report: &Report) -> Result<String, String> {
    let points = report.samples.iter().map(|sample| (sample.at_s, sample.server_cpu_percent)).collect();
    draw(&[Series { points, color: FIRST }], Some(report.window_s), &seconds, &|percent| {
        format!("{percent:.0} %")
    })
}

/// The server's resident memory.
pub(crate) fn memory(report: &Report) -> Result<String, String> {
    let points = report.samples.iter().map(|sample| (sample.at_s, sample.server_rss_bytes as f64)).collect();
    let label = |bytes: &f64| table::bytes(*bytes as u64);
    draw(&[Series { points, color: FIRST }], Some(report.window_s), &seconds, &label)
}

fn seconds(at_s: &f64) -> String {
    format!("{at_s:.0} s")
}

/// Draws lines over a common axis, the measured window shaded.
fn draw(
    series: &[Series],
    window: Option<(f64, f64)>,
    x_label: &dyn Fn(&f64) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&area, series, window, x_label, y_label).map_err(|error| format!("a plot: {error}"))?;
        area.present().map_err(|error| format!("a plot: {error}"))?;
    }
    for (color, variable) in VARIABLES {
        svg = svg.replace(color, variable);
    }
    let fixed = format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    Ok(svg.replace(&fixed, "<svg role=\"img\""))
}

fn draw_on(
    area: &Area<'_>,
    series: &[Series],
    window: Option<(f64, f64)>,
    x_label: &dyn Fn(&f64) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || series.iter().flat_map(|series| &series.points);
    let width = points().map(|point| point.0).fold(1.0, f64::max);
    let height = points().map(|point| point.1).fold(0.0, f64::max).max(1e-3) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(36)
        .x_label_area_size(28)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..width, 0.0..height)?;
    if let Some((from, to)) = window {
        let corners = [(from, 0.0), (to.min(width), height)];
        chart.draw_series([Rectangle::new(corners, SHADE.filled())])?;
    }
    let text = ("sans-serif", 13).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .y_labels(5)
        .x_label_formatter(x_label)
        .y_label_formatter(y_label)
        .label_style(text)
        .draw()?;
    for line in series {
        let under = AreaSeries::new(line.points.iter().copied(), 0.0, line.color.mix(0.08));
        chart.draw_series(under)?;
        chart.draw_series(LineSeries::new(line.points.iter().copied(), line.color.stroke_width(2)))?;
    }
    Ok(())
}
