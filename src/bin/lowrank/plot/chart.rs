//! Curves as SVG: panels below each other, a legend beside each.

use std::ops::Range;

use lowrank::{Error, ErrorKind, Result};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, LogCoord};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A panel.
pub struct Chart {
    /// What runs up, and what it is about.
    pub title: String,
    /// What runs to the right.
    pub across: String,
    /// Whether what runs up is on a logarithmic scale.
    pub log: bool,
    /// Whether what runs to the right is on a logarithmic scale.
    pub log_across: bool,
    /// The curves.
    pub series: Vec<Series>,
}

/// A curve.
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its number among the colours.
    pub colour: usize,
    /// How it is drawn.
    pub line: Line,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// In one stroke.
    Solid,
    /// In long dashes.
    Dashed,
    /// In short ones.
    Dotted,
}

impl Line {
    /// Length of a dash and of a gap, for those that have them.
    fn dashes(self) -> Option<(i32, i32)> {
        match self {
            Line::Solid => None,
            Line::Dashed => Some((9, 5)),
            Line::Dotted => Some((2, 4)),
        }
    }
}

/// Wong's palette, which also colour-blind people can tell apart, and two more.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(90, 90, 90),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 60, 160),
    RGBColor(120, 94, 40),
];

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 420;
const LEGEND_WIDTH: u32 = 240;
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws panels.
///
/// # Errors
/// If a panel has nothing to show.
pub fn draw(charts: &[Chart]) -> Result<String> {
    let mut svg = String::new();
    let height = PANEL_HEIGHT * charts.len() as u32;
    let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    let failed = |e: DrawingAreaErrorKind<std::io::Error>| {
        Error::new(ErrorKind::Io, format!("the picture cannot be drawn: {e}"))
    };
    root.fill(&WHITE).map_err(failed)?;
    for (panel, chart) in root.split_evenly((charts.len(), 1)).iter().zip(charts) {
        let Some((across, up)) = chart.ranges() else {
            let what = format!("there is nothing to draw of {}", chart.title);
            let remedy = match chart.log || chart.log_across {
                true => "only what is above zero shows on a logarithmic scale",
                false => "leave it out of --y",
            };
            return Err(Error::new(ErrorKind::BadInput, what).remedy(remedy));
        };
        match chart.log_across {
            true => chart.draw_above(panel, across.log_scale(), up),
            false => chart.draw_above(panel, across, up),
        }
        .map_err(failed)?;
    }
    root.present().map_err(failed)?;
    drop(root);
    Ok(svg)
}

impl Chart {
    fn shows(&self, point: &&(f64, f64)) -> bool {
        (!self.log || point.1 > 0.0) && (!self.log_across || point.0 > 0.0)
    }

    /// What the axes have to span, with some air.
    fn ranges(&self) -> Option<(Range<f64>, Range<f64>)> {
        let points = || {
            let all = self.series.iter().flat_map(|series| &series.points);
            all.filter(|point| self.shows(point))
        };
        points().next()?;
        let span = |of: fn(&(f64, f64)) -> f64| {
            points()
                .map(of)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                    (low.min(x), high.max(x))
                })
        };
        let (left, right) = span(|p| p.0);
        let right = match right > left {
            true => right,
            false if self.log_across => 2.0 * left,
            false => left + 1.0,
        };
        let (low, high) = span(|p| p.1);
        let up = match self.log {
            true => {
                let air = (high / low).powf(0.05).max(1.01);
                low / air..high * air
            }
            false if high > low => low - 0.05 * (high - low)..high + 0.05 * (high - low),
            false => low - 0.5..high + 0.5,
        };
        Some((left..right, up))
    }

    fn draw_above<X>(&self, panel: &Area<'_>, across: X, up: Range<f64>) -> Drawn
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
    {
        match self.log {
            // Powers of ten alone would leave a short axis without ticks.
            true if up.end < 20.0 * up.start => {
                let ticks = even_ticks(&up);
                let up: LogCoord<f64> = up.log_scale().into();
                self.draw(panel, across, up.with_key_points(ticks))
            }
            true => self.draw(panel, across, up.log_scale()),
            false => self.draw(panel, across, up),
        }
    }

    fn draw<X, Y>(&self, panel: &Area<'_>, across: X, up: Y) -> Drawn
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let (plot, legend) = panel.split_horizontally(WIDTH - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(across, up)?;
        chart
            .configure_mesh()
            .x_desc(&self.across)
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 15))
            .x_labels(10)
            .y_labels(8)
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|y| label(*y))
            .bold_line_style(RGBColor(215, 215, 215))
            .light_line_style(RGBColor(243, 243, 243))
            .max_light_lines(5)
            .draw()?;
        for series in &self.series {
            let points = series.points.iter().filter(|point| self.shows(point));
            let points: Vec<(f64, f64)> = points.copied().collect();
            let style = series.style();
            match series.line.dashes() {
                // A single point has no line.
                _ if points.len() == 1 => {
                    chart.draw_series([Circle::new(points[0], 3, style.filled())])?;
                }
                None => {
                    chart.draw_series(LineSeries::new(points, style))?;
                }
                Some((dash, gap)) => {
                    chart.draw_series(DashedLineSeries::new(points, dash, gap, style))?;
                }
            }
        }
        self.draw_legend(&legend)
    }

    fn draw_legend(&self, area: &Area<'_>) -> Drawn {
        let text = TextStyle::from((FONT, 14)).pos(Pos::new(HPos::Left, VPos::Center));
        for (at, series) in self.series.iter().enumerate() {
            let y = 56 + 22 * at as i32;
            let (left, right) = (4, 36);
            let (dash, gap) = series.line.dashes().unwrap_or((right - left, 0));
            let mut x = left;
            while x < right {
                let end = (x + dash).min(right);
                area.draw(&PathElement::new([(x, y), (end, y)], series.style()))?;
                x += dash + gap;
            }
            area.draw(&Text::new(
                series.name.as_str(),
                (right + 8, y),
                text.clone(),
            ))?;
        }
        Ok(())
    }
}

impl Series {
    fn style(&self) -> ShapeStyle {
        COLOURS[self.colour % COLOURS.len()].stroke_width(2)
    }
}

/// Some six numbers in a range at even distances of 1, 2 or 5 times a power of ten.
fn even_ticks(range: &Range<f64>) -> Vec<f64> {
    let rough = (range.end - range.start) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|&step| step >= rough)
        .unwrap_or(rough);
    let (first, last) = ((range.start / step).ceil(), (range.end / step).floor());
    let count = (last - first).max(0.0) as usize;
    (0..=count).map(|at| (first + at as f64) * step).collect()
}

/// A number at an axis: as few digits as tell it from its neighbours.
fn label(x: f64) -> String {
    let size = x.abs();
    if size < 1e-12 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        let text = format!("{x:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        return format!("{digits}e{power}");
    }
    let text = format!("{x:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        for (x, text) in [
            (0.0, "0"),
            (1e-17, "0"),
            (0.95, "0.95"),
            (12.0, "12"),
            (150_000.0, "1.5e5"),
            (0.00002, "2e-5"),
            (-3.25, "-3.25"),
        ] {
            assert_eq!(label(x), text);
        }
    }

    #[test]
    fn ticks_are_even_and_within() {
        let ticks = even_ticks(&(0.93..1.21));
        assert_eq!(
            ticks.iter().map(|&x| label(x)).collect::<Vec<_>>(),
            ["0.95", "1", "1.05", "1.1", "1.15", "1.2"]
        );
    }

    fn chart(log: bool, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "loss".to_owned(),
            across: "epoch".to_owned(),
            log,
            log_across: false,
            series: vec![Series {
                name: "als & <friends>".to_owned(),
                colour: 0,
                line: Line::Solid,
                points,
            }],
        }
    }

    #[test]
    fn what_is_not_above_zero_has_no_place_on_a_logarithmic_scale() {
        let log = chart(true, vec![(0.0, 10.0), (1.0, 0.0), (2.0, 0.1)]);
        let (_, up) = log.ranges().unwrap();
        assert!(up.start > 0.0 && up.start < 0.1 && up.end > 10.0);
        draw(&[log]).unwrap();
        let mut across = chart(false, vec![(0.0, 10.0), (0.5, 1.0), (4.0, -1.0)]);
        across.log_across = true;
        let (right, up) = across.ranges().unwrap();
        assert!(right == (0.5..4.0) && up.end < 2.0);
        draw(&[across]).unwrap();
        assert!(draw(&[chart(true, vec![(0.0, -1.0)])]).is_err());
        assert!(draw(&[chart(false, Vec::new())]).is_err());
    }

    #[test]
    fn a_single_point_and_a_flat_curve_are_drawn() {
        let one = draw(&[chart(false, vec![(0.0, 2.0)])]).unwrap();
        assert!(one.contains("<circle"));
        let flat = draw(&[chart(false, vec![(0.0, 2.0), (1.0, 2.0)])]).unwrap();
        assert!(flat.contains("<polyline") && flat.contains("als &amp; &lt;friends&gt;"));
    }
}
