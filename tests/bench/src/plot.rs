//! Each part as a picture: a line for each row of its table, from the median to the 99th percentile,
//! over a logarithmic axis. Called by `main.rs` for `--svg`. It draws what the report holds and
//! computes nothing.

use std::fmt::Write as _;

use crate::report::Row;

const LINE: f64 = 22.0;
const LABELS: f64 = 330.0;
const WIDTH: f64 = 620.0;
const NUMBERS: f64 = 150.0;
const TOP: f64 = 48.0;

/// The rows of one part as SVG.
pub fn svg(part: &str, rows: &[&Row]) -> String {
    let all = || {
        rows.iter()
            .flat_map(|row| [row.percentile(50), row.percentile(99)])
    };
    let low = decade(all().fold(f64::INFINITY, f64::min)).floor();
    let high = decade(all().fold(0.0, f64::max)).ceil().max(low + 1.0);
    let x = |value: f64| LABELS + (decade(value) - low) / (high - low) * WIDTH;
    let mut height = TOP + 10.0;
    let mut body = String::new();
    for row in rows {
        let (half, most) = (row.percentile(50), row.percentile(99));
        let colour = if row.what.starts_with("ours") {
            "#1b6ca8"
        } else {
            "#8a8a8a"
        };
        let (from, to, label) = (x(half), x(most), LABELS - 10.0);
        // Writing to a String cannot fail, here and below.
        let down = height + 4.0;
        let name = escaped(&row.what);
        let _ = writeln!(
            body,
            "<text x='{label}' y='{down:.0}' text-anchor='end'>{name}</text>"
        );
        let _ = writeln!(
            body,
            "<line x1='{from:.1}' x2='{to:.1}' y1='{height:.0}' y2='{height:.0}' stroke='{colour}' stroke-width='5'/>"
        );
        let _ = writeln!(
            body,
            "<circle cx='{from:.1}' cy='{height:.0}' r='5' fill='{colour}'/>"
        );
        let right = LABELS + WIDTH + 12.0;
        let _ = writeln!(
            body,
            "<text x='{right}' y='{down:.0}' fill='#555'>{half:.0} / {most:.0}</text>"
        );
        height += LINE;
    }
    let mut grid = String::new();
    let mut power = low;
    while power <= high {
        let at = x(10_f64.powf(power));
        let _ = writeln!(
            grid,
            "<line x1='{at:.1}' x2='{at:.1}' y1='{TOP}' y2='{height:.0}' stroke='#ddd'/>"
        );
        let (up, value) = (TOP - 6.0, 10_f64.powf(power));
        let _ = writeln!(
            grid,
            "<text x='{at:.1}' y='{up}' text-anchor='middle' fill='#555'>{value} us</text>"
        );
        power += 1.0;
    }
    let width = LABELS + WIDTH + NUMBERS;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height:.0}' font-family='sans-serif' \
         font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='20' font-size='15'>{}: dot p50, line to p99</text>\n{grid}{body}</svg>\n",
        escaped(part)
    )
}

fn decade(value: f64) -> f64 {
    value.max(0.1).log10()
}

/// Text that stands in SVG.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
