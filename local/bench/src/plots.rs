//! Draws the docs' plots as SVG.
//!
//! To add a plot: write its function and call it in [`write`] if the report has its figures.
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{coord::ranged1d::ValueFormatter, prelude::*};

use super::{
    cell::{Design, Sample},
    plan::{BATCHES, CONCURRENCIES},
    report::Report,
    surge::Surge,
};

const SIZE: (u32, u32) = (760, 380);
const TEXT: (&str, u32) = ("sans-serif", 15);
const COLORS: [RGBColor; 4] =
    [RGBColor(40, 40, 40), RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

/// The article's first design took 1.51 million invocations for 280,000 votes.
const ARTICLE_FIRST_INVOCATIONS_PER_VOTE: f64 = 1.51e6 / 280e3;
/// Invocations of the article's second design, at the peak of an evening with 700,000 votes.
const ARTICLE_SECOND_INVOCATIONS: f64 = 1_600.0;
const ARTICLE_BATCH: f64 = 300.0;

/// Writes the plots whose figures the report has.
///
/// # Errors
/// A file cannot be written.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    if report.default_cells(Design::Votes).nth(1).is_some() {
        capacity(report, &folder.join("capacity.svg")).map_err(|error| anyhow!("{error}"))?;
    }
    if let Some(evening) = &report.evening {
        evening_plot(evening, &folder.join("evening.svg")).map_err(|error| anyhow!("{error}"))?;
    }
    if let Some(surge) = &report.surge {
        surge_plot(surge, &folder.join("surge.svg")).map_err(|error| anyhow!("{error}"))?;
    }
    Ok(())
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn area(file: &Path) -> Result<Area<'_>, Box<dyn std::error::Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

/// Plots votes per second by concurrency, with a point for each repetition and a line through the medians.
fn capacity(report: &Report, file: &Path) -> DrawResult {
    let area = area(file)?;
    let mut lines = vec![("floor: bare inserts, 300 a commit".to_owned(), Design::Floor, 300)];
    lines.extend(BATCHES.map(|batch| (format!("votes function, batches of {batch}"), Design::Votes, batch)));
    let highest = report.cells.iter().filter_map(|measured| Some(measured.rate()?.max)).fold(0.0, f64::max);
    let positions = CONCURRENCIES.len() as f64 - 0.5;
    let mut chart = ChartBuilder::on(&area)
        .caption("Votes counted a second", TEXT)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..positions, 0.0..highest * 1.35)?;
    let concurrency = |position: &f64| {
        let near = (position - position.round()).abs() < 0.01 && *position > -0.4;
        let found = if near { CONCURRENCIES.get(position.round() as usize) } else { None };
        found.map_or_else(String::new, ToString::to_string)
    };
    mesh(&mut chart, "batches at a time", CONCURRENCIES.len() * 2 - 1, &concurrency, &thousands)?;
    for ((name, design, batch), color) in lines.into_iter().zip(COLORS) {
        let cells = CONCURRENCIES.into_iter().enumerate();
        let cells: Vec<_> = cells
            .filter_map(|(position, concurrency)| {
                Some((position as f64, report.find(design, concurrency, batch)?))
            })
            .collect();
        let medians =
            cells.iter().filter_map(|(position, measured)| Some((*position, measured.rate()?.median)));
        let series = chart.draw_series(LineSeries::new(medians, color.stroke_width(2)))?;
        series
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        let samples = cells.iter().flat_map(|(position, measured)| {
            measured.samples.iter().map(move |sample| (*position, sample.rate()))
        });
        chart.draw_series(samples.map(|point| Circle::new(point, 2, color.mix(0.5).filled())))?;
    }
    legend(&mut chart)?;
    area.present()?;
    Ok(())
}

/// Plots invocations and commits of an evening on a logarithmic axis.
fn evening_plot(evening: &Sample, file: &Path) -> DrawResult {
    let area = area(file)?;
    let votes = evening.votes as f64;
    let bars = [
        ("v1 invocations", ARTICLE_FIRST_INVOCATIONS_PER_VOTE * votes, 0),
        ("v1 commits", votes, 0),
        ("v2 invocations", ARTICLE_SECOND_INVOCATIONS * votes / 700e3, 2),
        ("v2 commits", votes / ARTICLE_BATCH, 2),
        ("invocations here", evening.invocations as f64, 1),
        ("commits here", evening.commits_per_vote * votes, 1),
    ];
    let caption = format!("{} votes: invocations and commits (v1, v2: the article's)", thousands(&votes));
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, TEXT)
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..5.5, (100.0..votes * 20.0).log_scale())?;
    let name = |position: &f64| {
        let near = (position - position.round()).abs() < 0.01 && *position > -0.4;
        let found = if near { bars.get(position.round() as usize) } else { None };
        found.map_or_else(String::new, |(name, ..)| (*name).to_owned())
    };
    mesh(&mut chart, "", 11, &name, &thousands)?;
    for (position, (_, value, color)) in bars.iter().enumerate() {
        let position = position as f64;
        let corners = [(position - 0.35, 100.0), (position + 0.35, *value)];
        chart.draw_series([Rectangle::new(corners, COLORS[*color].mix(0.8).filled())])?;
        chart.draw_series([Text::new(thousands(&value.round()), (position - 0.3, value * 1.5), TEXT)])?;
    }
    area.present()?;
    Ok(())
}

/// Plots each batch's lag over the course of the surge.
fn surge_plot(surge: &Surge, file: &Path) -> DrawResult {
    let area = area(file)?;
    let seconds = |at_ms: u64| (at_ms as f64 - surge.started_ms as f64) / 1e3;
    let points: Vec<(f64, f64)> =
        surge.batches.iter().map(|batch| (seconds(batch.at_ms), batch.lag_ms / 1e3)).collect();
    let last = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let lag_max = points.iter().map(|point| point.1).fold(4.0, f64::max);
    let fastest = surge.course.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("A surge: from vote to ranking", TEXT)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, 0.0..lag_max * 1.3)?;
    let number = |value: &f64| format!("{value:.1}");
    mesh(&mut chart, "seconds", 10, &|value: &f64| format!("{value:.0}"), &number)?;
    let mut course = Vec::new();
    for (index, (from, rate)) in surge.course.iter().enumerate() {
        let to = surge.course.get(index + 1).map_or(last, |(next, _)| *next);
        course.extend([(*from, rate / fastest * lag_max), (to, rate / fastest * lag_max)]);
    }
    let color = COLORS[2].mix(0.6);
    let label = format!("votes cast, at most {} a second", thousands(&fastest));
    let series = chart.draw_series(LineSeries::new(course, color.stroke_width(2)))?;
    series.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    let series =
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, COLORS[1].mix(0.6).filled())))?;
    series
        .label("a batch: seconds since its oldest vote was cast")
        .legend(|(x, y)| Circle::new((x + 9, y), 3, COLORS[1].filled()));
    legend(&mut chart)?;
    area.present()?;
    Ok(())
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn mesh<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    x_name: &str,
    x_labels: usize,
    x_format: &dyn Fn(&f64) -> String,
    y_format: &dyn Fn(&f64) -> String,
) -> DrawResult
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().light_line_style(TRANSPARENT).label_style(TEXT);
    mesh.x_desc(x_name)
        .x_labels(x_labels)
        .x_label_formatter(&x_format)
        .y_label_formatter(&y_format)
        .draw()?;
    Ok(())
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>) -> DrawResult
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(TEXT)
        .draw()?;
    Ok(())
}

fn thousands(value: &f64) -> String {
    if *value >= 1e6 {
        format!("{:.2} M", value / 1e6)
    } else if *value >= 1e4 {
        format!("{:.0} k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}
