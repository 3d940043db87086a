//! Tables of text for `aps`, `memstat` and `chorusStat`: plain columns, the same on a terminal
//! and in a pipe, so that `awk` can be put behind them.

use comfy_table::{ContentArrangement, Table, presets};

use crate::words::printable;

/// What stands where there is no value.
pub(crate) const NOTHING: &str = "-";

/// Lays `rows` out under `header`; every line ends with a newline and holds no trailing blanks.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// A value, or [`NOTHING`].
pub(crate) fn cell<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// A size with the largest unit that keeps it readable: `64MiB`, `1.5KiB`, `12B`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift != 0) else {
        return format!("{bytes}B");
    };
    let whole = bytes >> shift;
    let tenths = ((bytes - (whole << shift)) * 10) >> shift;
    if tenths == 0 {
        format!("{whole}{unit}")
    } else {
        format!("{whole}.{tenths}{unit}")
    }
}

/// A span of time: `1.5s`, `2m03s`, `1h02m`, `3d04h`.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_plain_and_end_without_blanks() {
        let rows = [
            vec!["redis".to_owned(), "1".to_owned()],
            vec!["a\nb".to_owned(), cell(None::<u32>)],
        ];
        assert_eq!(
            columns(&["NAME", "GID"], &rows),
            "NAME   GID\nredis  1\na\\nb   -\n"
        );
    }

    #[test]
    fn sizes_and_spans_are_readable() {
        assert_eq!(size(12), "12B");
        assert_eq!(size(64 << 20), "64MiB");
        assert_eq!(size(1536), "1.5KiB");
        assert_eq!(span(1520), "1.5s");
        assert_eq!(span(123_000), "2m03s");
        assert_eq!(span(90_000_000), "1d01h");
    }
}
