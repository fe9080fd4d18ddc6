//! Text in aligned columns.

/// Which way a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lean {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a header. Columns in which no cell says anything are left out.
pub struct Table<const N: usize> {
    header: [(&'static str, Lean); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub fn new(header: [(&'static str, Lean); N]) -> Table<N> {
        Table {
            header,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The lines of the table, the header first.
    pub fn text(&self) -> String {
        let length = |text: &str| text.chars().count();
        let widths: [usize; N] = std::array::from_fn(|column| {
            let widest = self.rows.iter().map(|row| length(&row[column])).max();
            match widest {
                None | Some(0) => 0,
                Some(widest) => widest.max(length(self.header[column].0)),
            }
        });
        let line = |cells: [&str; N]| {
            let mut line = String::new();
            for ((cell, width), (_, lean)) in cells.iter().zip(widths).zip(self.header) {
                if width == 0 {
                    continue;
                }
                match lean {
                    Lean::Left => line += &format!("{cell:width$}  "),
                    Lean::Right => line += &format!("{cell:>width$}  "),
                }
            }
            line.truncate(line.trim_end().len());
            line + "\n"
        };
        let rows = self
            .rows
            .iter()
            .map(|row| row.each_ref().map(String::as_str));
        let header = self.header.map(|(name, _)| name);
        std::iter::once(header).chain(rows).map(line).collect()
    }
}

/// A bar of this share of `width` characters, to an eighth of one; of what is not nothing, something shows.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let mut eighths = (share * width as f64 * 8.0).round() as usize;
    if share > 0.0 {
        eighths = eighths.max(1);
    }
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_those_that_say_nothing_left_out() {
        let mut table = Table::new([
            ("rank", Lean::Right),
            ("item", Lean::Left),
            ("title", Lean::Left),
        ]);
        table.push(["1".into(), "é".into(), String::new()]);
        table.push(["10".into(), "seven".into(), String::new()]);
        assert_eq!(table.text(), "rank  item\n   1  é\n  10  seven\n");
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(1e-9, 4), "▏");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.65, 4), "██▋");
        assert_eq!(bar(1.0, 4), "████");
    }
}
