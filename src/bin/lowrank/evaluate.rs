//! `lowrank evaluate`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lowrank::evaluate::{
    Activity, Errors, Figure, METRICS, Measure, Metric, Protocol, Ranking, Sample,
    folded_in_errors, folded_in_ranking, metric, ranking, rating_errors,
};
use lowrank::model::{Held, Model, Record};
use lowrank::solver::{Learns, method};
use lowrank::store::{Part, Store};
use lowrank::{Ratings, Result};
use serde_json::{Map, Value, json};

use crate::args::choices;
use crate::new_users::NewUsers;
use crate::session::{Session, aligned, counted, grouped};
use crate::table::{Lean, Table};

/// Measure the predictions and the recommendations of a model.
///
/// Ids are what counts: the store may be another than the model was trained on. A user or item that the model does not
/// know gets what is known: the mean and the other side's bias. A user of whom the model learnt no item is recommended what anybody
/// would be, and counts with that. Recommendations are the best among all items but those that
/// the user has in the training part; means over users come with their 95 % intervals, and for each quarter of the users by
/// activity.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// The model to measure
    model: PathBuf,
    /// The store with the ratings to compare with
    store: PathBuf,
    /// The part of the store to measure on
    #[arg(long, value_enum, default_value_t = PartArg::Test)]
    on: PartArg,
    /// What to measure [default: rmse,mae, or recall,ndcg of a model that does not learn ratings]
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = metric_names(),
        hide_possible_values = true,
        value_name = "LIST",
        long_help = metric_help()
    )]
    metrics: Vec<String>,
    /// How many recommendations count: one number or several, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "10", value_parser = clap::value_parser!(u32).range(1..), value_name = "LIST")]
    at: Vec<u32>,
    /// For recommendations: only items that are rated so or higher are worth finding [default: all]
    #[arg(long, value_name = "RATING", allow_negative_numbers = true)]
    positive_at: Option<f32>,
    /// For recommendations: rank what is to be found among N items that the user has not rated, drawn for each user, rather
    /// than among all. The figures cannot be compared with those of full rankings, nor order models reliably
    #[arg(long, value_name = "N", conflicts_with = "fold_in")]
    sampled: Option<usize>,
    /// The seed of those draws
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sampled")]
    sample_seed: u64,
    /// Take predictions as they are, rather than clipped to the scale of the ratings
    #[arg(long)]
    no_clip: bool,
    /// Measure on users who are folded in by the ratings of this file, and no others
    #[arg(long, value_name = "FILE")]
    fold_in: Option<PathBuf>,
}

/// A part of a store, as options name it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PartArg {
    Train,
    Validation,
    Test,
}

fn metric_names() -> Vec<&'static str> {
    METRICS.iter().map(|metric| metric.name).collect()
}

fn metric_help() -> String {
    let all = METRICS.iter().map(|metric| (metric.name, metric.summary));
    let what = "What to measure, with commas between [default: rmse,mae, or recall,ndcg of a model that does not learn ratings]";
    choices(what, all)
}

/// The metrics that were asked for, or those that suit the model.
pub fn chosen(names: &[String], solver: &str) -> Result<Vec<&'static Metric>> {
    let learns = method(solver).map_or(Learns::Ratings, |method| method.learns);
    match (names, learns) {
        ([], Learns::Ratings) => ["rmse", "mae"].map(metric).into_iter().collect(),
        ([], _) => ["recall", "ndcg"].map(metric).into_iter().collect(),
        (names, _) => names.iter().map(|name| metric(name)).collect(),
    }
}

/// Cut-offs in ascending order, each once.
pub fn cut_offs(at: &[u32]) -> Vec<usize> {
    let mut cut_offs: Vec<usize> = at.iter().map(|&k| k as usize).collect();
    cut_offs.sort_unstable();
    cut_offs.dedup();
    cut_offs
}

/// Runs the command.
pub fn run(args: EvaluateArgs, session: &Session) -> Result<()> {
    let record = Record::read(&args.model)?;
    let metrics = chosen(&args.metrics, &record.options.solver)?;
    let cut_offs = cut_offs(&args.at);
    let part = match args.on {
        PartArg::Train => Part::Train,
        PartArg::Validation => Part::Validation,
        PartArg::Test => Part::Test,
    };
    let protocol = Protocol {
        metrics: &metrics,
        cut_offs: &cut_offs,
        part,
        positive_at: args.positive_at,
        sample: args.sampled.map(|items| Sample {
            items,
            seed: args.sample_seed,
        }),
    };
    let of_ratings = |metric: &&'static Metric| matches!(metric.measure, Measure::Ratings(_));
    let rates = metrics.iter().any(of_ratings);
    let ranks = !metrics.iter().all(of_ratings);

    if ranks {
        protocol.check(record.shape.items)?;
    }
    let mut plan = session.plan();
    let store = Store::open_within(&args.store, 0)?;
    let read = [Some(part), ranks.then_some(Part::Train)];
    let read = read
        .into_iter()
        .flatten()
        .filter_map(|part| store.part(part));
    plan.hold("shards in use", read.map(|rows| rows.memory()).sum());
    plan.hold("numbers of users and items", record.matching(&store));
    if ranks {
        let (items, rank) = (record.shape.items, record.options.rank);
        let threads = session.threads.count();
        let lists = protocol.memory(store.shape(), items, rank, threads);
        plan.hold("packed items and lists", lists);
    }
    if args.fold_in.is_some() {
        NewUsers::plan(&mut plan, &record, session)?;
    }
    let ways = [Held::Everything, Held::Items];
    let held = Held::plan(&mut plan, &args.model, &ways)?;
    let model = Model::open_with(&args.model, held)?;
    let folded_in = match &args.fold_in {
        Some(path) => Some(NewUsers::fold_in(
            path,
            &model,
            Some(&store),
            &mut plan,
            session,
        )?),
        None => None,
    };
    let rows = match &folded_in {
        Some(users) => users.rows(store.users())?,
        None => Vec::new(),
    };
    let row = |user: u32| rows[user as usize];
    if ranks && let Some(items) = args.sampled {
        session.say(format!(
            "warning: ranked among {items} sampled items: such figures cannot be compared with full rankings, and may order \
             models the other way round (Krichene and Rendle, KDD 2020)"
        ));
    }
    let mut report = Report::default();
    report.result.insert("sampled".into(), json!(args.sampled));
    if rates {
        let clip = !args.no_clip;
        let errors = session.threads.run(|| match &folded_in {
            Some(users) => folded_in_errors(&model, &store, part, clip, &users.folded_in, row),
            None => rating_errors(&model, &store, part, clip),
        })?;
        report.errors(&metrics, &errors, part);
    }
    if ranks {
        let ranking = session.threads.run(|| match &folded_in {
            Some(users) => folded_in_ranking(&model, &store, &protocol, &users.folded_in, row),
            None => ranking(&model, &store, &protocol),
        })?;
        if ranking.without_own > 0 {
            session.say(format!(
                "note: {} of whom the model learnt no item, who get what anybody would",
                counted(ranking.without_own, "user")
            ));
        }
        report.ranking(&ranking, part);
    }
    session.print(&report.result, report.text)
}

/// What was measured, as it is printed.
#[derive(Default)]
struct Report {
    result: Map<String, Value>,
    text: String,
}

impl Report {
    fn errors(&mut self, metrics: &[&'static Metric], errors: &Errors, part: Part) {
        let mut lines = Vec::new();
        for metric in metrics {
            if let Measure::Ratings(value) = metric.measure {
                self.result
                    .insert(metric.name.to_owned(), json!(value(errors)));
                lines.push((metric.name, format!("{:.6}", value(errors))));
            }
        }
        self.result.insert("ratings".into(), json!(errors.ratings));
        self.result.insert("unknown".into(), json!(errors.unknown));
        let of = format!("{} of the {part} part", counted(errors.ratings, "rating"));
        lines.push(("over", of));
        if errors.unknown > 0 {
            let unknown = format!(
                "{} of a user or item that the model does not know",
                grouped(errors.unknown)
            );
            lines.push(("unknown", unknown));
        }
        self.text += &aligned(&lines);
    }

    fn ranking(&mut self, ranking: &Ranking, part: Part) {
        let figures = ranking.figures.iter().map(|f| (f.name(), json!(f.value)));
        self.result.extend(figures);
        let activity = |group: &Activity| {
            let figures = group.figures.iter().map(|f| (f.name(), json!(f.value)));
            let intervals = ("intervals".to_owned(), intervals(&group.figures));
            let mut group: Map<_, _> = [
                ("training_ratings", json!(group.ratings)),
                ("users", json!(group.users)),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
            group.extend(figures.chain([intervals]));
            Value::Object(group)
        };
        let groups: Vec<Value> = ranking.by_activity.iter().map(activity).collect();
        self.result.extend([
            ("intervals".to_owned(), intervals(&ranking.figures)),
            ("by_activity".to_owned(), Value::Array(groups)),
            ("users".to_owned(), json!(ranking.users)),
            ("users_without_own".to_owned(), json!(ranking.without_own)),
            ("relevant".to_owned(), json!(ranking.relevant)),
            ("unknown_relevant".to_owned(), json!(ranking.unknown)),
        ]);
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += &table(ranking);
        let mut lines = vec![(
            "over",
            format!(
                "{} of the {part} part, of {}",
                counted(ranking.relevant, "item"),
                counted(ranking.users, "user")
            ),
        )];
        if ranking.without_own > 0 {
            let users = counted(ranking.without_own, "user");
            let what = "of whom the model learnt no item, counted with what anybody would get";
            lines.push(("without own", format!("{users} {what}")));
        }
        if ranking.unknown > 0 {
            let unknown = counted(ranking.unknown, "item");
            lines.push(("unknown", format!("{unknown} that the model does not know")));
        }
        for (group, name) in ranking.by_activity.iter().zip(GROUPS) {
            let (least, most) = group.ratings;
            let users = counted(group.users, "user");
            lines.push((
                name,
                format!("{users} with {least} to {most} training ratings"),
            ));
        }
        self.text += &aligned(&lines);
    }
}

/// The 95 % intervals of figures that are means, by name.
fn intervals(figures: &[Figure]) -> Value {
    let interval = |figure: &Figure| {
        let margin = figure.margin?;
        let ends = json!([figure.value - margin, figure.value + margin]);
        Some((figure.name(), ends))
    };
    Value::Object(figures.iter().filter_map(interval).collect())
}

/// Names of the groups of users, the least active first.
const GROUPS: [&str; 4] = ["group 1", "group 2", "group 3", "group 4"];

/// A line for each metric: over all users, and over each group of them, with half of the 95 % interval behind.
fn table(ranking: &Ranking) -> String {
    let [first, second, third, fourth] = GROUPS.map(|name| (name, Lean::Right));
    let mut table = Table::new([
        ("metric", Lean::Left),
        ("value", Lean::Right),
        ("+- (95 %)", Lean::Right),
        first,
        second,
        third,
        fourth,
    ]);
    for (at, figure) in ranking.figures.iter().enumerate() {
        let of_group = |group: usize| match ranking.by_activity.get(group) {
            Some(group) => {
                let Figure { value, margin, .. } = group.figures[at];
                margin.map_or(format!("{value:.4}"), |margin| {
                    format!("{value:.4} +- {margin:.4}")
                })
            }
            None => String::new(),
        };
        table.push([
            figure.name(),
            format!("{:.6}", figure.value),
            figure
                .margin
                .map_or(String::new(), |margin| format!("{margin:.6}")),
            of_group(0),
            of_group(1),
            of_group(2),
            of_group(3),
        ]);
    }
    table.text()
}
