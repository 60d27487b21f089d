//! Text in columns, as every table of the command line has it.

/// Columns between two columns.
const GAP: usize = 3;

/// The titles and rows in columns, every line ended; cells beyond the titles are dropped.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let mut columns = Columns::new(titles.iter().map(|title| (*title).to_owned()).collect());
    columns.widen(rows);
    let mut text = columns.title_line();
    for row in rows {
        text.push_str(&columns.line(row));
    }
    text
}

/// Columns whose widths grow with what is shown, so that the rows of a watch line up.
pub(crate) struct Columns {
    titles: Vec<String>,
    widths: Vec<usize>,
}

impl Columns {
    /// As wide as the titles.
    pub(crate) fn new(titles: Vec<String>) -> Self {
        let widths = titles.iter().map(|title| title.chars().count()).collect();
        Self { titles, widths }
    }

    /// Makes room for these rows.
    pub(crate) fn widen(&mut self, rows: &[Vec<String>]) {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }

    /// The titles.
    pub(crate) fn title_line(&self) -> String {
        self.line(&self.titles)
    }

    /// One row.
    pub(crate) fn line(&self, cells: &[String]) -> String {
        let mut text = String::new();
        for (width, cell) in self.widths.iter().zip(cells) {
            text.push_str(cell);
            let padding = (width + GAP).saturating_sub(cell.chars().count());
            text.push_str(&" ".repeat(padding));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["web".to_owned(), "1/1".to_owned()],
            vec!["a-longer-name".to_owned(), String::new()],
        ];
        expect![[r#"
            NAME            READY
            web             1/1
            a-longer-name
        "#]]
        .assert_eq(&table(&["NAME", "READY"], &rows));
    }
}
