//! Printing data: `-o table|json|yaml`.

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING};
use serde::Serialize;
use serde_json::Value;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// The flag of every command that prints data.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t, env = "EASTWEST_OUTPUT")]
    pub(crate) output: Format,
}

impl OutputArgs {
    /// Whether people read it.
    pub(crate) fn is_table(&self) -> bool {
        self.output == Format::Table
    }

    /// Prints `data`, for people by `table`.
    pub(crate) fn print<T: Serialize>(
        &self,
        data: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.output {
            Format::Table => table(data),
            Format::Json => serde_json::to_string_pretty(data).context("cannot write as JSON")?,
            Format::Yaml => serde_saphyr::to_string(data).context("cannot write as YAML")?,
        };
        write_out(text.trim_end())
    }
}

/// An answer that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub(crate) struct Unwritten(std::io::Error);

/// Writes to stdout; a reader that went away (`| head`) is no error.
pub(crate) fn write_out(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    written(writeln!(std::io::stdout(), "{text}")).map_err(anyhow::Error::from)
}

/// What a write to stdout comes to; a reader that went away is no error.
///
/// # Errors
/// The system refused: a disk that is full.
pub(crate) fn written(result: std::io::Result<()>) -> Result<(), Unwritten> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Unwritten(error)),
        _ => Ok(()),
    }
}

/// A plain table as kubectl prints them: a header, columns aligned, no lines. Where the terminal is too narrow for it, the
/// last column is wrapped; where that is not enough, each row is a block of lines.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    arranged(&header, &rows.into_iter().collect::<Vec<_>>(), width())
}

/// The width of the terminal, or what `COLUMNS` says; `None` where nothing limits a line.
fn width() -> Option<usize> {
    let given = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let of_terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col.into());
    given.or_else(of_terminal).filter(|width| *width > 0)
}

/// The space between two columns.
const GAP: usize = 2;
/// The least width to which the last column is wrapped.
const LEAST: usize = 24;

fn arranged<const N: usize>(header: &[&str; N], rows: &[[String; N]], width: Option<usize>) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(header[column].len())
    };
    let before: usize = (0..N - 1).map(|column| widest(column) + GAP).sum();
    let left = width.map(|width| width.saturating_sub(before));
    let last = match left {
        Some(left) if widest(N - 1) > left && left >= LEAST => Some(left),
        Some(left) if widest(N - 1) > left => return blocks(header, rows),
        _ => None,
    };
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table.add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    if let (Some(last), Some(width)) = (last, width) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(bounded(width + GAP));
        for (number, column) in table.column_iter_mut().enumerate() {
            let own = if number == N - 1 { last } else { widest(number) };
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(bounded(own + GAP))));
        }
    }
    table.trim_fmt()
}

fn bounded(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

/// Each row as lines of header and cell; cells that say nothing are left out.
fn blocks<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> String {
    let name = header.iter().map(|name| name.len()).max().unwrap_or(0);
    let block = |row: &[String; N]| {
        let told = header.iter().zip(row).filter(|(_, cell)| !matches!(cell.as_str(), "" | "-"));
        told.map(|(header, cell)| format!("{header:name$}  {cell}\n")).collect::<String>()
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// `1 error`, `2 errors`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    plural_of(count, noun, &format!("{noun}s"))
}

/// `1 policy`, `2 policies`.
pub(crate) fn plural_of(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A JSON array as a slice; anything else is empty.
pub(crate) fn entries(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A JSON scalar as a cell of a table; `-` for null and for nothing.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 3] = ["SEVERITY", "OBJECT", "MESSAGE"];

    fn rows() -> Vec<[String; 3]> {
        let row = |object: &str, message: &str| ["warning".to_owned(), object.to_owned(), message.to_owned()];
        vec![
            row(
                "DestinationRule/shop/reviews",
                "its tls block is hidden by DestinationRule/shop/other, which has none",
            ),
            row("Service/shop/a", "-"),
        ]
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    /// Whatever the width: no line of a wrapped table is wider, and every word of every cell is there.
    #[test]
    fn tables_fit_the_terminal() {
        let whole = arranged(&HEADER, &rows(), None);
        assert_eq!(whole.lines().count(), 3, "{whole}");
        for width in 64..=whole.len() {
            let table = arranged(&HEADER, &rows(), Some(width));
            assert!(widest(&table) <= width, "{width}:\n{table}");
            // Only a word that is wider than its column is broken.
            let words = rows().concat().join(" ");
            for word in words.split(' ').filter(|word| word.len() <= LEAST || word.len() + 40 <= width) {
                assert!(table.contains(word), "{width}: {word}:\n{table}");
            }
        }
        assert_eq!(arranged(&HEADER, &rows(), Some(widest(&whole))), whole);
    }

    #[test]
    fn a_row_is_a_block_where_no_table_fits() {
        let table = arranged(&HEADER, &rows(), Some(40));
        let expected = "SEVERITY  warning\nOBJECT    DestinationRule/shop/reviews\n\
                        MESSAGE   its tls block is hidden by DestinationRule/shop/other, which has none\n\n\
                        SEVERITY  warning\nOBJECT    Service/shop/a";
        assert_eq!(table, expected);
    }
}
