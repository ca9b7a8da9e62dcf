//! Tables of text.

use std::fmt;

/// A table: the first row is the heading. Columns of numbers are aligned to the right.
#[derive(Debug)]
pub(crate) struct TextTable {
    right: &'static [usize],
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with this heading, whose columns in `right` are aligned to the right.
    pub(crate) fn new(heading: &[&str], right: &'static [usize]) -> Self {
        Self { right, rows: vec![heading.iter().map(|&text| text.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
                let gap = if column == 0 { "" } else { "  " };
                let is_right = self.right.contains(&column);
                let (before, after) = if is_right { (fill.as_str(), "") } else { ("", fill.as_str()) };
                line.extend([gap, before, cell, after]);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(&["name", "size"], &[1]);
        table.row(["a".to_owned(), "1 KiB".to_owned()]);
        table.row(["кладовая".to_owned(), "10 KiB".to_owned()]);
        assert_eq!(table.to_string(), "name        size\na          1 KiB\nкладовая  10 KiB\n");
    }
}
