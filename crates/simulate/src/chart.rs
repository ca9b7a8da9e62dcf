//! Line charts in SVG, with a logarithmic axis for the size.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// The left, top, right and bottom edge of the area of the lines.
const AREA: (f64, f64, f64, f64) = (48.0, 36.0, 540.0, 368.0);
/// The least distance of two names at the right, in pixels.
const NAMES_APART: f64 = 20.0;

/// A chart of lines.
///
/// ```
/// use larder_simulate::chart::{Chart, ChartLine, Scale, Style};
///
/// let points = vec![(1.0, 20.0), (10.0, 55.0)];
/// let line = ChartLine { name: "Auto".to_owned(), colour: "#000", style: Style::Thick, points };
/// let svg = Chart { title: "hit ratio in %".to_owned(), scale: Scale::Linear, lines: vec![line] }.draw();
/// assert!(svg.starts_with("<svg"));
/// ```
#[derive(Clone, Debug)]
pub struct Chart {
    /// The text above the lines.
    pub title: String,
    /// The vertical axis.
    pub scale: Scale,
    /// The lines.
    pub lines: Vec<ChartLine>,
}

/// The vertical axis.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// From 0 to the largest value.
    Linear,
    /// From a power of ten to another one.
    Log,
}

/// A line with its name.
#[derive(Clone, Debug)]
pub struct ChartLine {
    /// The name, at the right end.
    pub name: String,
    /// A colour of SVG.
    pub colour: &'static str,
    /// How it is drawn.
    pub style: Style,
    /// The size of the cache, which is above 0, and the value.
    pub points: Vec<(f64, f64)>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// Wider than the others.
    Thick,
    /// Drawn through.
    Plain,
    /// In dashes.
    Dashed,
    /// In dots.
    Dotted,
}

impl Style {
    fn attributes(&self) -> &'static str {
        match self {
            Self::Thick => r#"stroke-width="3.5""#,
            Self::Plain => r#"stroke-width="1.5""#,
            Self::Dashed => r#"stroke-width="1.5" stroke-dasharray="6 3""#,
            Self::Dotted => r#"stroke-width="2" stroke-dasharray="2 3""#,
        }
    }
}

/// A range of values on an axis of pixels.
struct Axis {
    is_log: bool,
    values: (f64, f64),
    pixels: (f64, f64),
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_log { value.max(1e-9).log10() } else { value };
        let (from, to) = (place(self.values.0), place(self.values.1));
        let share = if to > from { (place(value) - from) / (to - from) } else { 0.5 };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }
}

impl Chart {
    /// The chart as a file.
    pub fn draw(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{}\" y=\"20\" font-size=\"14\">{}</text>\n",
            AREA.0,
            escaped(&self.title)
        );
        let (sizes, values) = (self.sizes(), self.values());
        self.draw_grid(&mut svg, &sizes, &values);
        for line in &self.lines {
            draw_line(&mut svg, line, &sizes, &values);
        }
        self.draw_names(&mut svg, &values);
        svg.push_str("</svg>\n");
        svg
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.lines.iter().flat_map(|line| line.points.iter().copied())
    }

    fn sizes(&self) -> Axis {
        let (from, to) = range(self.points().map(|(size, _)| size));
        Axis { is_log: true, values: (from, to), pixels: (AREA.0, AREA.2) }
    }

    fn values(&self) -> Axis {
        let (least, most) = range(self.points().map(|(_, value)| value));
        let (is_log, values) = match self.scale {
            Scale::Linear => (false, (0.0, (most / 10.0).ceil().max(1.0) * 10.0)),
            Scale::Log => (true, (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()))),
        };
        Axis { is_log, values, pixels: (AREA.3, AREA.1) }
    }

    /// Lines at round values and at each size, with their numbers.
    fn draw_grid(&self, svg: &mut String, sizes: &Axis, values: &Axis) {
        let (left, top, right, bottom) = AREA;
        for value in self.marks(values) {
            let y = values.at(value);
            let _ = writeln!(svg, r##"<path d="M{left} {y:.1}H{right}" stroke="#ddd"/>"##);
            let (x, y) = (left - 6.0, y + 4.0);
            let _ = writeln!(svg, r#"<text x="{x}" y="{y:.1}" text-anchor="end">{value}</text>"#);
        }
        let mut drawn: Vec<f64> = self.points().map(|(size, _)| size).collect();
        drawn.sort_by(f64::total_cmp);
        drawn.dedup();
        for size in drawn {
            let (x, y) = (sizes.at(size), bottom + 18.0);
            let _ = writeln!(svg, r##"<path d="M{x:.1} {top}V{bottom}" stroke="#eee"/>"##);
            let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{size} %</text>"#);
        }
    }

    fn marks(&self, values: &Axis) -> Vec<f64> {
        let (from, to) = values.values;
        match self.scale {
            Scale::Linear => {
                let step = if to > 50.0 { 20.0 } else { 10.0 };
                (0..=(to / step) as u32).map(|mark| f64::from(mark) * step).collect()
            }
            Scale::Log => {
                let powers = std::iter::successors(Some(from), |mark| Some(mark * 10.0));
                let marks = powers.flat_map(|power| [power, power * 2.0, power * 5.0]);
                marks.take_while(|mark| *mark <= to * 1.001).map(f64::round).collect()
            }
        }
    }

    /// The names, in the order of the lines at their right end.
    fn draw_names(&self, svg: &mut String, values: &Axis) {
        let last = |line: &ChartLine| line.points.last().map_or(0.0, |(_, value)| *value);
        let mut sorted: Vec<&ChartLine> = self.lines.iter().collect();
        sorted.sort_by(|one, other| last(other).total_cmp(&last(one)));
        let mut lowest = AREA.1 - NAMES_APART;
        for (place, line) in sorted.iter().enumerate() {
            let below = (sorted.len() - place - 1) as f64 * NAMES_APART;
            let y = values.at(last(line)).min(AREA.3 - below).max(lowest + NAMES_APART);
            lowest = y;
            let (from, to, text) = (AREA.2 + 20.0, AREA.2 + 44.0, AREA.2 + 50.0);
            let (colour, style, y_text) = (line.colour, line.style.attributes(), y + 4.0);
            let _ = writeln!(svg, r#"<path d="M{from} {y:.1}H{to}" stroke="{colour}" {style}/>"#);
            let _ = writeln!(svg, r#"<text x="{text}" y="{y_text:.1}">{}</text>"#, escaped(&line.name));
        }
    }
}

/// A chart of dots: a row for each name, with a dot for each series, over a logarithmic axis.
///
/// ```
/// use larder_simulate::chart::DotChart;
///
/// let series = vec![("Table".to_owned(), "#d55e00"), ("Adaptive".to_owned(), "#000")];
/// let rows = vec![("small".to_owned(), vec![1.4, 1.0]), ("large".to_owned(), vec![4.0, 1.1])];
/// let svg = DotChart { title: "time over that of the oracle".to_owned(), series, rows }.draw();
/// assert!(svg.contains("<circle"));
/// ```
#[derive(Clone, Debug)]
pub struct DotChart {
    /// The text above the dots.
    pub title: String,
    /// The name and the colour of each series, as of SVG. A dot of a later one covers those before it.
    pub series: Vec<(String, &'static str)>,
    /// The name of each row, and its value of each series, which is above 0.
    pub rows: Vec<(String, Vec<f64>)>,
}

/// The left and the right edge of the area of the dots, and the y of the first row.
const DOTS: (f64, f64, f64) = (150.0, 700.0, 76.0);
const ROW_HEIGHT: f64 = 17.0;

impl DotChart {
    /// The chart as a file.
    pub fn draw(&self) -> String {
        let (left, right, top) = DOTS;
        let bottom = top + self.rows.len() as f64 * ROW_HEIGHT;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{0}\" fill=\"#fff\"/>\n\
             <text x=\"10\" y=\"20\" font-size=\"14\">{}</text>\n",
            bottom + 10.0,
            escaped(&self.title)
        );
        for (nth, (name, colour)) in self.series.iter().enumerate() {
            let (x, text) = (left + nth as f64 * 110.0, left + nth as f64 * 110.0 + 10.0);
            let _ = writeln!(svg, r#"<circle cx="{x}" cy="40" r="4.5" fill="{colour}"/>"#);
            let _ = writeln!(svg, r#"<text x="{text}" y="44">{}</text>"#, escaped(name));
        }
        let (least, most) = range(self.rows.iter().flat_map(|(_, values)| values.iter().copied()));
        let axis = Axis { is_log: true, values: (least.min(1.0) * 0.9, most * 1.1), pixels: (left, right) };
        let powers = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
        for mark in powers.into_iter().filter(|mark| (axis.values.0..=axis.values.1).contains(mark)) {
            let (x, colour) = (axis.at(mark), if mark == 1.0 { "#888" } else { "#ddd" });
            let _ = writeln!(svg, r#"<path d="M{x:.1} {}V{bottom}" stroke="{colour}"/>"#, top - 10.0);
            let _ =
                writeln!(svg, r#"<text x="{x:.1}" y="{}" text-anchor="middle">{mark}</text>"#, top - 14.0);
        }
        for (nth, row) in self.rows.iter().enumerate() {
            self.draw_row(&mut svg, row, &axis, top + nth as f64 * ROW_HEIGHT);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_row(&self, svg: &mut String, (name, values): &(String, Vec<f64>), axis: &Axis, y: f64) {
        let (left, right, _) = DOTS;
        let (x, text) = (left - 8.0, y + 4.0);
        let _ = writeln!(svg, r##"<path d="M{left} {y}H{right}" stroke="#f0f0f0"/>"##);
        let _ = writeln!(svg, r#"<text x="{x}" y="{text}" text-anchor="end">{}</text>"#, escaped(name));
        for (value, (_, colour)) in values.iter().zip(&self.series) {
            let x = axis.at(*value);
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y}" r="4.5" fill="{colour}"/>"#);
        }
    }
}

fn draw_line(svg: &mut String, line: &ChartLine, sizes: &Axis, values: &Axis) {
    let mut points = String::new();
    for (size, value) in &line.points {
        let _ = write!(points, "{:.1},{:.1} ", sizes.at(*size), values.at(*value));
    }
    let (points, colour, style) = (points.trim_end(), line.colour, line.style.attributes());
    let _ = writeln!(svg, r#"<polyline points="{points}" fill="none" stroke="{colour}" {style}/>"#);
}

/// The least and the largest of the numbers; 1 and 1 if there is none.
fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let widen = |range: Option<(f64, f64)>, number: f64| {
        Some(range.map_or((number, number), |(least, most)| (least.min(number), most.max(number))))
    };
    numbers.fold(None, widen).unwrap_or((1.0, 1.0))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale) -> Chart {
        let line = |name: &str, values: [f64; 2]| ChartLine {
            name: name.to_owned(),
            colour: "#000",
            style: Style::Plain,
            points: [1.0, 100.0].into_iter().zip(values).collect(),
        };
        Chart {
            title: "a < b & c".into(),
            scale,
            lines: vec![line("one", [20.0, 40.0]), line("two", [30.0, 90.0])],
        }
    }

    #[test]
    fn points_are_within_the_area() {
        let svg = chart(Scale::Linear).draw();
        // 20 of 90, and 40 of 90, of 332 pixels above 368.
        assert!(svg.contains(r#"<polyline points="48.0,294.2 540.0,220.4""#), "{svg}");
        assert!(svg.contains(r#"<polyline points="48.0,257.3 540.0,36.0""#), "{svg}");
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
    }

    #[test]
    fn dots_are_at_their_values_on_a_logarithmic_axis() {
        let series = vec![("one".to_owned(), "#000"), ("two".to_owned(), "#888")];
        let rows = vec![("a < b".to_owned(), vec![1.0, 10.0])];
        let svg = DotChart { title: String::new(), series, rows }.draw();
        // From 0.9 to 11: log10(1 / 0.9) and log10(10 / 0.9) of log10(11 / 0.9), of 550 pixels from 150 on.
        assert!(svg.contains(r##"cx="173.1" cy="76" r="4.5" fill="#000""##), "{svg}");
        assert!(svg.contains(r##"cx="679.1" cy="76" r="4.5" fill="#888""##), "{svg}");
        assert!(
            svg.contains("a &lt; b") && svg.contains(">5</text>") && !svg.contains(">20</text>"),
            "{svg}"
        );
    }

    #[test]
    fn logarithmic_axis_goes_from_one_power_of_ten_to_another() {
        let chart = chart(Scale::Log);
        assert_eq!(chart.marks(&chart.values()), [10.0, 20.0, 50.0, 100.0]);
        // log10(40) of 1 to 2: 0.602 of 332 pixels above 368.
        assert!(chart.draw().contains("540.0,168.1"), "{}", chart.draw());
    }

    #[test]
    fn names_are_in_the_order_of_the_lines_and_do_not_overlap() {
        let svg = chart(Scale::Linear).draw();
        assert!(svg.find(">two<") < svg.find(">one<"), "{svg}");
        let mut many = chart(Scale::Linear);
        many.lines = (0..16)
            .map(|n| ChartLine {
                name: format!("line {n}"),
                colour: "#000",
                style: Style::Dashed,
                points: vec![(1.0, 50.0)],
            })
            .collect();
        let svg = many.draw();
        let places: Vec<f64> = svg
            .split("<text x=\"590\" y=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(places.len(), 16);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= NAMES_APART - 0.1), "{places:?}");
        assert!(places[15] < HEIGHT, "{places:?}");
    }
}
