//! Pictures with two axes: latency against touched memory, group size, number of actors; the
//! distribution of single restarts; memory over many restarts. Called by `report.rs` for `--svg`. It draws
//! what the report holds and computes nothing else.

use std::fmt::Write as _;

use crate::report::{Report, Series};
use crate::restart::{COLD, HOT};
use crate::{flat, group, memory, plot, scale};

const LEFT: f64 = 80.0;
const TOP: f64 = 40.0;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 330.0;
const KEY: f64 = 320.0;
/// So few points are marked each.
const FEW: usize = 12;
const COLOURS: [&str; 8] = [
    "#1b6ca8", "#c44e52", "#55a868", "#8172b2", "#937860", "#da8bc3", "#8c8c8c", "#64b5cd",
];

/// One picture.
pub struct Picture {
    /// Its name, from which the file gets its own.
    pub name: String,
    title: String,
    horizontal: Axis,
    vertical: Axis,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

#[derive(Clone, Copy)]
struct Axis {
    label: &'static str,
    logarithmic: bool,
}

const MICROSECONDS: Axis = Axis {
    label: "us",
    logarithmic: true,
};

/// All that the report has points for.
pub fn all(report: &Report) -> Vec<Picture> {
    let mut all = Vec::new();
    for (part, label) in [
        (memory::PART, "MiB touched by the old life"),
        (group::PART, "members"),
        (scale::PART, "other actors"),
    ] {
        all.extend(points(report, part, label));
    }
    all.extend(
        [HOT, COLD]
            .iter()
            .filter_map(|part| distribution(report, part)),
    );
    let series = report.series.iter().filter(|one| one.part == flat::PART);
    all.extend(series.map(memory_over_time));
    all
}

/// Medians of rows with a point, one line a curve.
fn points(report: &Report, part: &'static str, label: &'static str) -> Option<Picture> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for row in report.rows.iter().filter(|row| row.part == part) {
        let Some((curve, x)) = row.point else {
            continue;
        };
        let point = (x, row.percentile(50));
        match lines.iter_mut().find(|(name, _)| name == curve) {
            Some((_, points)) => points.push(point),
            None => lines.push((curve.to_owned(), vec![point])),
        }
    }
    (!lines.is_empty()).then(|| Picture {
        name: format!("{part} curve"),
        title: format!("{part}: p50"),
        horizontal: Axis {
            label,
            logarithmic: true,
        },
        vertical: MICROSECONDS,
        lines,
    })
}

/// How many of a hundred restarts take at most so long: the C actor's and its limits.
fn distribution(report: &Report, part: &&'static str) -> Option<Picture> {
    let rows = report.rows.iter().filter(|row| row.part == *part);
    let shown = rows.filter(|row| {
        row.what.starts_with("ours: C")
            || row.what.contains("woken on pidfd, SEGV")
            || row.what.contains("handler wakes")
    });
    let lines: Vec<_> = shown
        .map(|row| {
            let points = (1..=100).map(|percent| (row.percentile(percent), percent as f64));
            (row.what.clone(), points.collect())
        })
        .collect();
    (!lines.is_empty()).then(|| Picture {
        name: format!("{part} distribution"),
        title: format!("{part}: how many of a hundred take at most so long"),
        horizontal: MICROSECONDS,
        vertical: Axis {
            label: "%",
            logarithmic: false,
        },
        lines,
    })
}

fn memory_over_time(series: &Series) -> Picture {
    let columns = series.columns.iter().enumerate().skip(1);
    let shown = columns.filter(|(_, name)| name.contains("PSS") || name.contains("bank"));
    let lines = shown.map(|(column, name)| {
        let points = series.rows.iter().map(|row| (row[0], row[column]));
        (name.clone(), points.collect())
    });
    Picture {
        name: format!("{} {}", series.part, series.what),
        title: format!("memory over the restarts of {}", series.what),
        horizontal: Axis {
            label: "restarts",
            logarithmic: false,
        },
        vertical: Axis {
            label: "KiB",
            logarithmic: false,
        },
        lines: lines.collect(),
    }
}

impl Axis {
    fn at(self, value: f64) -> f64 {
        if self.logarithmic {
            // Nothing at all stands where one does.
            value.max(1.0).log10()
        } else {
            value
        }
    }

    /// Where it begins and ends, and what is marked.
    fn span(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64, Vec<f64>) {
        let most = values.clone().fold(0.0, f64::max);
        if !self.logarithmic {
            let step = 10_f64.powf(most.max(1.0).log10().floor());
            let end = (most / step).ceil().max(1.0) * step;
            return (0.0, end, vec![0.0, end / 4.0, end / 2.0, end * 0.75, end]);
        }
        let low = self.at(values.fold(f64::INFINITY, f64::min)).floor();
        let high = self.at(most).ceil().max(low + 1.0);
        let mut marks = Vec::new();
        let mut power = low;
        while power <= high {
            marks.push(10_f64.powf(power));
            power += 1.0;
        }
        (low, high, marks)
    }
}

impl Picture {
    /// As SVG.
    pub fn svg(&self) -> String {
        let values = self.lines.iter().flat_map(|(_, points)| points);
        let (left, right, columns) = self.horizontal.span(values.clone().map(|point| point.0));
        let (low, high, rows) = self.vertical.span(values.map(|point| point.1));
        let x = |value| LEFT + (self.horizontal.at(value) - left) / (right - left) * WIDTH;
        let y = |value| TOP + HEIGHT - (self.vertical.at(value) - low) / (high - low) * HEIGHT;
        let mut body = String::new();
        let (bottom, end) = (TOP + HEIGHT, LEFT + WIDTH);
        for mark in columns {
            // Writing to a String cannot fail, here and below.
            let (at, below) = (x(mark), bottom + 18.0);
            let _ = writeln!(
                body,
                "<line x1='{at:.1}' x2='{at:.1}' y1='{TOP}' y2='{bottom}' stroke='#ddd'/>\
                 <text x='{at:.1}' y='{below}' text-anchor='middle' fill='#555'>{mark}</text>"
            );
        }
        for mark in rows {
            let (at, before) = (y(mark), LEFT - 8.0);
            let _ = writeln!(
                body,
                "<line x1='{LEFT}' x2='{end}' y1='{at:.1}' y2='{at:.1}' stroke='#ddd'/>\
                 <text x='{before}' y='{at:.1}' text-anchor='end' fill='#555'>{mark}</text>"
            );
        }
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let dash = if name.starts_with("limit") {
                "5 4"
            } else {
                "none"
            };
            let path: Vec<String> = points
                .iter()
                .map(|(across, up)| format!("{:.1},{:.1}", x(*across), y(*up)))
                .collect();
            if points.len() <= FEW {
                for (across, up) in points {
                    let (across, up) = (x(*across), y(*up));
                    let _ = writeln!(
                        body,
                        "<circle cx='{across:.1}' cy='{up:.1}' r='4' fill='{colour}'/>"
                    );
                }
            }
            let (down, from, name) = (
                TOP + 14.0 + 18.0 * number as f64,
                end + 14.0,
                plot::escaped(name),
            );
            let _ = writeln!(
                body,
                "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>\
                 <text x='{from}' y='{down}' fill='{colour}'>{name}</text>",
                path.join(" ")
            );
        }
        self.framed(&body)
    }

    fn framed(&self, body: &str) -> String {
        let (width, height) = (LEFT + WIDTH + KEY, TOP + HEIGHT + 50.0);
        let (middle, low) = (LEFT + WIDTH / 2.0, TOP + HEIGHT + 40.0);
        let (title, across, up) = (
            plot::escaped(&self.title),
            self.horizontal.label,
            self.vertical.label,
        );
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='sans-serif' \
             font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n\
             <text x='10' y='20' font-size='15'>{title}</text>\n\
             <text x='{middle}' y='{low}' text-anchor='middle'>{across}</text>\
             <text x='10' y='{TOP}'>{up}</text>\n{body}</svg>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_a_line_for_each_name_and_its_points_in_order() {
        let mut report = Report::new();
        for (what, x, value) in [("ours: a", 10.0, 20.0), ("ours: b", 100.0, 200.0)] {
            report.row(group::PART, what, None, vec![value]);
            report.point(group::PART, what, "ours", x);
        }
        let all = all(&report);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].lines[0].1, [(10.0, 20.0), (100.0, 200.0)]);
        assert!(all[0].svg().contains("<polyline points='80.0,"));
    }
}
