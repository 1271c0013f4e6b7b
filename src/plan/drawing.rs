//! A plan as a picture, in SVG: what is built first stands left, and lines lead to what is built with it. Pure.
//!
//! 1. Lines that follow from others are left out: what a package's dependency is itself built with.
//! 2. A package's column is one right of the rightmost of what it needs.
//! 3. In each column packages are ordered by where those lie that they are connected with, so that few lines cross.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::atom::Cpv;
use crate::plan::{Action, Plan, Planned};

/// How wide a character is, in the font size that is used, at most nearly always.
const CHARACTER: usize = 8;
const HEIGHT: usize = 40;
const GAP: usize = 16;
/// Between columns, for the lines.
const BETWEEN: usize = 80;
const MARGIN: usize = 20;
/// How often the order in the columns is improved; more change nothing.
const SWEEPS: usize = 4;

const STYLE: &str = "text{font:13px monospace;fill:#222}.why{fill:#666;font-size:11px}\
rect{rx:5;stroke-width:1.5}.build rect{fill:#fdebd0;stroke:#d68910}.reuse rect{fill:#e3f1e3;stroke:#5d9c5d}\
.share rect{fill:#e3ecf7;stroke:#5d7f9c}\
path{fill:none;stroke:#999}.run{stroke-dasharray:4 3}";

/// How many characters of a reason stand in a box; all of it is its tooltip.
const SHOWN: usize = 36;

struct Box {
    column: usize,
    row: usize,
}

/// Returns the picture of a plan.
pub fn drawing(plan: &Plan) -> String {
    let places = places(plan);
    let widths = widths(plan, &places);
    let x = |column: usize| MARGIN + widths[..column].iter().map(|width| width + BETWEEN).sum::<usize>();
    let y = |row: usize| MARGIN + row * (HEIGHT + GAP);
    let rows = places.values().map(|place| place.row + 1).max().unwrap_or(0);
    let (width, height) = (x(widths.len()).saturating_sub(BETWEEN) + MARGIN, y(rows).saturating_sub(GAP) + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n"
    );
    for planned in &plan.packages {
        let to = &places[&planned.cpv];
        for (needed, class) in lines(plan, planned) {
            let from = &places[needed];
            let (x1, y1) = (x(from.column) + widths[from.column], y(from.row) + HEIGHT / 2);
            let (x2, y2) = (x(to.column), y(to.row) + HEIGHT / 2);
            let bend = BETWEEN / 2;
            let _ = writeln!(
                svg,
                "<path class=\"{class}\" d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\"/>",
                x1 + bend,
                x2.saturating_sub(bend)
            );
        }
    }
    for planned in &plan.packages {
        let (place, why) = (&places[&planned.cpv], planned.action.to_string());
        let class = match planned.action {
            Action::Build(_) => "build",
            Action::Reuse(_) => "reuse",
            Action::Share(_) => "share",
        };
        let (x, y) = (x(place.column), y(place.row));
        let (name, title) = (escaped(&planned.cpv.to_string()), escaped(&why));
        let _ = writeln!(
            svg,
            "<g class=\"{class}\"><title>{name}: {title}</title><rect x=\"{x}\" y=\"{y}\" width=\"{}\" \
             height=\"{HEIGHT}\"/><text x=\"{1}\" y=\"{2}\">{name}</text><text class=\"why\" x=\"{1}\" y=\"{3}\">{4}</text></g>",
            widths[place.column],
            x + CHARACTER,
            y + 17,
            y + 33,
            escaped(&shortened(&why))
        );
    }
    svg + "</svg>\n"
}

/// Returns what a package is drawn to need: what it is built with, and else what it needs to run.
fn lines<'a>(plan: &'a Plan, planned: &'a Planned) -> Vec<(&'a Cpv, &'static str)> {
    let roots: BTreeMap<&Cpv, &Planned> = plan.packages.iter().map(|other| (&other.cpv, other)).collect();
    let implied = |needed: &Cpv| {
        let others = planned.needs.iter().filter(|other| *other != needed).filter_map(|other| roots.get(other));
        others.into_iter().any(|other| other.needs.contains(needed) || other.runtime.contains(needed))
    };
    let build = planned.needs.iter().filter(|needed| !implied(needed)).map(|needed| (needed, "build"));
    // Those of a cycle come later; a line to the left says nothing.
    let run = planned.runtime.iter().filter(|needed| !planned.needs.contains(needed) && before(plan, needed, planned));
    build.chain(run.map(|needed| (needed, "run"))).filter(|(needed, _)| roots.contains_key(needed)).collect()
}

fn before(plan: &Plan, needed: &Cpv, planned: &Planned) -> bool {
    plan.packages.iter().take_while(|other| other.cpv != planned.cpv).any(|other| other.cpv == *needed)
}

fn places(plan: &Plan) -> BTreeMap<Cpv, Box> {
    let mut columns: Vec<Vec<&Cpv>> = Vec::new();
    let mut of: BTreeMap<&Cpv, usize> = BTreeMap::new();
    let mut near: BTreeMap<&Cpv, BTreeSet<&Cpv>> = BTreeMap::new();
    for planned in &plan.packages {
        let lines = lines(plan, planned);
        let column = lines.iter().filter_map(|(needed, _)| of.get(needed)).map(|column| column + 1).max().unwrap_or(0);
        of.insert(&planned.cpv, column);
        if columns.len() <= column {
            columns.resize_with(column + 1, Vec::new);
        }
        columns[column].push(&planned.cpv);
        for (needed, _) in lines {
            near.entry(needed).or_default().insert(&planned.cpv);
            near.entry(&planned.cpv).or_default().insert(needed);
        }
    }
    let rows = |columns: &[Vec<&Cpv>]| -> BTreeMap<Cpv, usize> {
        columns.iter().flat_map(|column| column.iter().enumerate().map(|(row, cpv)| ((*cpv).clone(), row))).collect()
    };
    for _ in 0..SWEEPS {
        for column in 0..columns.len() {
            let now = rows(&columns);
            // The mean row of its neighbours, in hundredths.
            columns[column].sort_by_key(|cpv| {
                let rows: Vec<usize> = near.get(cpv).into_iter().flatten().map(|other| now[*other]).collect();
                if rows.is_empty() { now[*cpv] * 100 } else { rows.iter().sum::<usize>() * 100 / rows.len() }
            });
        }
    }
    let now = rows(&columns);
    of.into_iter().map(|(cpv, column)| (cpv.clone(), Box { column, row: now[cpv] })).collect()
}

fn widths(plan: &Plan, places: &BTreeMap<Cpv, Box>) -> Vec<usize> {
    let mut widths = vec![0; places.values().map(|place| place.column + 1).max().unwrap_or(0)];
    for planned in &plan.packages {
        let characters = planned.cpv.to_string().len().max(shortened(&planned.action.to_string()).chars().count());
        let width = &mut widths[places[&planned.cpv].column];
        *width = (*width).max((characters + 2) * CHARACTER);
    }
    widths
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_string();
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}

/// Returns text as XML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::resolution::Kind;
    use crate::plan::fixture::resolution;
    use crate::plan::{Graph, Stock};

    fn plan() -> Plan {
        let edges = [
            ("lib", "gen", &[Kind::Build][..]),
            ("app", "lib", &[Kind::Build, Kind::Run]),
            ("app", "gen", &[Kind::Build]),
            ("app", "data", &[Kind::Run]),
        ];
        let resolution = resolution("gen data lib app", &edges);
        let graph = Graph::new(&resolution).unwrap();
        Plan::new(&resolution, &graph, BTreeMap::new(), &Stock::default(), &BTreeSet::new()).unwrap()
    }

    fn column(places: &BTreeMap<Cpv, Box>, name: &str) -> usize {
        places[&format!("c/{name}-1").parse::<Cpv>().unwrap()].column
    }

    #[test]
    fn what_is_needed_stands_left_of_what_needs_it() {
        let places = places(&plan());
        assert_eq!(["gen", "data", "lib", "app"].map(|name| column(&places, name)), [0, 0, 1, 2]);
        assert_ne!(places[&"c/gen-1".parse().unwrap()].row, places[&"c/data-1".parse().unwrap()].row);
    }

    #[test]
    fn lines_that_follow_from_others_are_left_out() {
        let plan = plan();
        let app = plan.packages.last().unwrap();
        let drawn: Vec<_> = lines(&plan, app).into_iter().map(|(cpv, class)| (cpv.to_string(), class)).collect();
        assert_eq!(drawn, [("c/lib-1".to_string(), "build"), ("c/data-1".to_string(), "run")]);
    }

    #[test]
    fn a_picture_has_every_package_and_every_line_and_no_foreign_markup() {
        let mut plan = plan();
        let reason = crate::plan::Reason::Dependencies(vec!["c/lib-1".parse().unwrap()]);
        plan.packages[3].action = Action::Build(reason);
        let svg = drawing(&plan);
        assert_eq!((svg.matches("<rect ").count(), svg.matches("<path ").count()), (4, 3), "{svg}");
        assert!(svg.contains("<title>c/app-1: `c/lib-1` is built again</title>"), "{svg}");
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        plan.packages.clear();
        assert!(drawing(&plan).starts_with("<svg "));
    }
}
