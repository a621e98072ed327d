//! A figure with its goal and its limit.

use serde_json::{json, Map, Value};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Cycles, area.
    Lower,
    /// Rates.
    Higher,
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name in the report.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// Unit.
    pub unit: &'static str,
    /// What is aimed at.
    pub goal: Option<f64>,
    /// What no design of this kind can pass.
    pub limit: Option<f64>,
    /// Which way is better.
    pub better: Direction,
}

impl Figure {
    /// A figure without a goal; the value is kept to a thousandth.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, better: Direction) -> Self {
        let value = (value * 1000.0).round() / 1000.0;
        Self { name: name.into(), value, unit, goal: None, limit: None, better }
    }

    /// Sets the goal.
    #[must_use]
    pub fn with_goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Sets the limit.
    #[must_use]
    pub fn with_limit(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Whether the goal is met; `None` without a goal.
    pub fn is_met(&self) -> Option<bool> {
        self.goal.map(|goal| match self.better {
            Direction::Lower => self.value <= goal,
            Direction::Higher => self.value >= goal,
        })
    }
}

/// The report: a flat map from the name of a figure to its value, unit, goal and limit.
pub fn report(figures: &[Figure]) -> Value {
    let entry = |figure: &Figure| {
        let Figure { value, unit, goal, limit, .. } = figure;
        (figure.name.clone(), json!({ "value": value, "unit": unit, "goal": goal, "limit": limit }))
    };
    Value::Object(figures.iter().map(entry).collect::<Map<String, Value>>())
}

/// The figures as a table for people.
pub fn table(figures: &[Figure]) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
    let mut rows = vec![["figure", "value", "unit", "goal", "limit", ""].map(str::to_owned)];
    rows.extend(figures.iter().map(|figure| {
        let verdict = match figure.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            figure.name.clone(),
            figure.value.to_string(),
            figure.unit.to_owned(),
            number(figure.goal),
            number(figure.limit),
            verdict.to_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Numbers to the right, words to the left.
            let cell = if [1, 3, 4].contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_on_the_right_side() {
        let cycles = Figure::new("a", 8.0, "cycles", Direction::Lower).with_goal(8.0);
        assert_eq!(cycles.is_met(), Some(true));
        assert_eq!(Figure { value: 8.001, ..cycles }.is_met(), Some(false));
        let rate = Figure::new("b", 9999.0, "1/s", Direction::Higher).with_goal(10_000.0);
        assert_eq!(rate.is_met(), Some(false));
        assert_eq!(Figure { value: 10_000.0, ..rate }.is_met(), Some(true));
        assert_eq!(Figure::new("c", 1.0, "MB/s", Direction::Higher).is_met(), None);
    }

    #[test]
    fn the_report_is_flat_and_the_table_names_a_miss() {
        let figures = [
            Figure::new("cycles", 9.12345, "cycles", Direction::Lower).with_goal(8.0).with_limit(5.25),
            Figure::new("rate", 3.0, "MB/s", Direction::Higher),
        ];
        assert_eq!(
            report(&figures),
            json!({
                "cycles": { "value": 9.123, "unit": "cycles", "goal": 8.0, "limit": 5.25 },
                "rate": { "value": 3.0, "unit": "MB/s", "goal": null, "limit": null },
            })
        );
        assert_eq!(
            table(&figures),
            "figure  value  unit    goal  limit\n\
             cycles  9.123  cycles     8   5.25  MISSED\n\
             rate        3  MB/s       -      -\n"
        );
    }
}
