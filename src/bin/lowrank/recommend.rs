//! `lowrank recommend`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use lowrank::ingest::{Input, read_ids};
use lowrank::kernel::Candidate;
use lowrank::matrix::Side;
use lowrank::memory::Bytes;
use lowrank::model::{Held, Model, Record};
use lowrank::progress::{Progress, Unit};
use lowrank::recommend::{
    Exclude, Ids, RecommendationFormat, RecommendationText, Recommender, Search, UserTop,
};
use lowrank::store::{AtomicFile, Store};
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::filters::{FilterArgs, Known, no_id, too_long};
use crate::new_users::NewUsers;
use crate::outputs::expect_apart;
use crate::session::{Session, aligned, counted, grouped};
use crate::table::{Lean, Table};

/// The best items for users: exact, over all items.
///
/// Without --users, for everybody. To --out they are streamed in the store's order, without it a table for each of a few users
/// is shown.
#[derive(Debug, Args)]
pub struct RecommendArgs {
    /// The model to recommend from
    model: PathBuf,
    /// The store that tells what users have rated
    store: Option<PathBuf>,
    /// Items for each user [default: 10, or all there are]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Where to: .csv, or .jsonl for one JSON object a line; - is standard output, as CSV
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Users by id with commas between them, or a file with one id a line
    #[arg(long, value_name = "LIST-OR-FILE", conflicts_with = "fold_in")]
    users: Option<String>,
    /// Recommend to the users of this file of ratings, whom the model need not know: each one's row is solved for from them
    #[arg(long, value_name = "FILE")]
    fold_in: Option<PathBuf>,
    /// Which of the items that a user has rated are left out
    #[arg(long, value_enum, default_value_t = ExcludeArg::All)]
    exclude: ExcludeArg,
    /// Score every item, rather than those alone that a bound does not rule out: slower, for the same lists
    #[arg(long)]
    exhaustive: bool,
    #[command(flatten)]
    filters: FilterArgs,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExcludeArg {
    /// All, held out or not
    All,
    /// Those of the training part
    Train,
    /// None
    None,
}

#[derive(Default, Serialize)]
struct Outcome {
    users: u64,
    recommendations: u64,
    users_without: u64,
    users_without_own: u64,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: RecommendArgs, session: &Session) -> Result<()> {
    let asked = args.users.as_ref().map(Path::new);
    let [items, categories, deny, pairs] = args.filters.files();
    expect_apart(
        args.force,
        &[args.out.as_deref()],
        &[
            asked,
            args.fold_in.as_deref(),
            items,
            categories,
            deny,
            pairs,
        ],
    )?;
    let began = Instant::now();
    if args.out.as_deref() == Some(Path::new("-")) {
        session.give_stdout_to_data()?;
    }
    let asked = args.top.map(|top| top as usize);
    let top = asked.unwrap_or(10);
    let mut plan = session.plan();
    let record = Record::read(&args.model)?;
    if let Some(top) = asked.filter(|&top| top > record.shape.items) {
        return Err(too_long(top, record.shape.items));
    }
    let store = match &args.store {
        Some(path) => Some(Store::open_within(path, 0)?),
        None => None,
    };
    let store = store.as_ref();
    let exclude = match args.exclude {
        ExcludeArg::All => Exclude::All,
        ExcludeArg::Train => Exclude::Train,
        ExcludeArg::None => Exclude::Nothing,
    };
    if let Some(store) = store {
        plan.hold("shards in use", exclude.memory(store));
        plan.hold("numbers of users and items", record.matching(store));
    }
    let search = match args.exhaustive {
        true => Search::Exhaustive,
        false => Search::Screened,
    };
    let searching = Recommender::memory(
        record.shape.items,
        record.options.rank,
        args.filters.found(top),
        search,
        session.threads.count(),
    );
    plan.hold("items made ready to search, and lists", searching);
    // Who is folded in has a row of their own, and no other user's is looked at.
    let ways = match args.fold_in {
        Some(_) => {
            NewUsers::plan(&mut plan, &record, session)?;
            &[Held::Items][..]
        }
        None => &[Held::Everything, Held::Items],
    };
    let held = Held::plan(&mut plan, &args.model, ways)?;
    let model = Model::open_with(&args.model, held)?;
    let new_users = match &args.fold_in {
        Some(path) => Some(NewUsers::fold_in(path, &model, store, &mut plan, session)?),
        None => None,
    };
    let room = plan.rest(0)?;
    let (recommender, ids) = match &new_users {
        Some(users) => {
            let folded_in = &users.folded_in;
            let recommender = Recommender::to_folded_in(&model, folded_in, top, exclude, search);
            (recommender, Ids::List(&users.ids))
        }
        None => {
            let dictionary = match store {
                Some(store) => store.users(),
                None => model.dictionary(Side::Users),
            };
            let recommender = Recommender::new(&model, store, top, exclude, search)?;
            (recommender, Ids::Dictionary(dictionary))
        }
    };
    let find = |id: &str| ids.find(id);
    let known = Known {
        model: &model,
        store,
        room,
    };
    let recommender = args
        .filters
        .apply(recommender, known, asked, find, session)?;
    let users: Option<Vec<u32>> = match (&args.users, &new_users) {
        (Some(list), _) => {
            let mut users = wanted(list, ids, room, session)?;
            if args.out.is_some() {
                // In the store's order, so that what is read of it and of the model is read once.
                users.sort_unstable();
            }
            Some(users)
        }
        // A few new users are shown as a few known ones are.
        (None, Some(users)) if args.out.is_none() => Some((0..users.ids.len() as u32).collect()),
        (None, _) => None,
    };
    let Some(out) = &args.out else {
        let Some(users) = users else {
            let what = "everybody's recommendations need a place";
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("give --out FILE.csv, --out - for standard output, or --users ID"));
        };
        return tables(&recommender, users, &model, ids, session);
    };
    let mut job = Job {
        recommender: &recommender,
        users,
        ids,
        model: &model,
        session,
        outcome: Outcome::default(),
    };
    if out == Path::new("-") {
        job.write(&mut io::stdout(), RecommendationFormat::Csv)?;
        return Ok(());
    }
    let mut file = AtomicFile::create(out, args.force)?;
    job.write(&mut file, RecommendationFormat::of(out))
        .map_err(|e| e.path(out))?;
    file.commit()?;
    let mut outcome = job.outcome;
    outcome.seconds = began.elapsed().as_secs_f64();
    let mut lines = vec![
        (
            "recommendations",
            format!("{} in {}", grouped(outcome.recommendations), out.display()),
        ),
        ("users", grouped(outcome.users)),
    ];
    if outcome.users_without > 0 {
        let without = counted(outcome.users_without, "user");
        lines.push((
            "without any",
            format!("{without} to whom nothing can be recommended"),
        ));
    }
    let rate = outcome.users as f64 / outcome.seconds;
    lines.push((
        "time",
        format!("{:.2} s, {} users/s", outcome.seconds, grouped(rate as u64)),
    ));
    session.print(&outcome, aligned(&lines))
}

/// Users whose ids are in memory while their recommendations are written.
const IDS: usize = 1 << 16;

/// Recommendations on their way to a file.
struct Job<'a> {
    recommender: &'a Recommender<'a>,
    users: Option<Vec<u32>>,
    ids: Ids<'a>,
    model: &'a Model,
    session: &'a Session,
    outcome: Outcome,
}

impl Job<'_> {
    fn write(&mut self, out: &mut (dyn Write + Send), format: RecommendationFormat) -> Result<()> {
        let text = RecommendationText::new(format, self.ids, self.model);
        out.write_all(text.header().as_bytes())?;
        let users: Box<dyn Iterator<Item = u32> + Send> = match self.users.take() {
            Some(users) => Box::new(users.into_iter()),
            None => Box::new(0..self.recommender.users() as u32),
        };
        self.outcome.users = users.size_hint().0 as u64;
        let bars = &self.session.bars;
        bars.begin("recommending", Some(self.outcome.users), Unit::Users);
        let prepare = |tops: Vec<UserTop>| {
            let lines = text.lines(&tops)?;
            let lengths = tops.iter().map(|top| top.items.len() as u64);
            Ok((lengths.collect::<Vec<_>>(), without_own(&tops), lines))
        };
        let mut since_release = 0;
        self.session.threads.run(|| {
            self.recommender
                .recommend(users, prepare, |(lengths, without_own, lines)| {
                    since_release += lengths.len();
                    if since_release >= IDS {
                        self.ids.release();
                        since_release = 0;
                    }
                    self.outcome.recommendations += lengths.iter().sum::<u64>();
                    self.outcome.users_without_own += without_own;
                    let without = lengths.iter().filter(|&&length| length == 0);
                    self.outcome.users_without += without.count() as u64;
                    bars.advance(lengths.len() as u64);
                    Ok(out.write_all(&lines)?)
                })
        })?;
        bars.end();
        tell_without_own(self.outcome.users_without_own, self.ids, self.session);
        Ok(out.flush()?)
    }
}

/// How many of these lists are what anybody would get.
fn without_own(tops: &[UserTop]) -> u64 {
    tops.iter().filter(|top| !top.own).count() as u64
}

/// Says so of users whom the model could know; of new ones it is said when they are folded in.
fn tell_without_own(users: u64, ids: Ids<'_>, session: &Session) {
    if users > 0 && matches!(ids, Ids::Dictionary(_)) {
        session.say(format!(
            "note: {} of whom the model learnt no item, who get what anybody would",
            counted(users, "user")
        ));
    }
}

/// Bytes that a user takes in a list that grows.
const USER_BYTES: u64 = 12;

/// The rows of the users that were asked for, by a list of ids or a file of them, within so many bytes.
fn wanted(list: &str, known: Ids<'_>, room: u64, session: &Session) -> Result<Vec<u32>> {
    let row = |id: &str| {
        known
            .find(id)?
            .ok_or_else(|| Error::new(ErrorKind::UnknownId, format!("there is no user {id:?}")))
    };
    let path = Path::new(list);
    if !path.is_file() {
        return list.split(',').map(|id| row(id.trim())).collect();
    }
    let mut rows = Vec::new();
    read_ids(&Input::from(path), session.plan().budget(), |line, id| {
        rows.push(row(id).map_err(|e| e.path(path).line(line))?);
        if USER_BYTES * rows.len() as u64 > room {
            let what = format!("these users take more than {} of memory", Bytes(room));
            return Err(Error::new(ErrorKind::OverBudget, what)
                .path(path)
                .remedy("raise --memory, or recommend to them part by part"));
        }
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(no_id(path, "user"));
    }
    known.release();
    Ok(rows)
}

/// A table for each of a few users.
fn tables(
    recommender: &Recommender<'_>,
    users: Vec<u32>,
    model: &Model,
    ids: Ids<'_>,
    session: &Session,
) -> Result<()> {
    #[derive(Serialize)]
    struct User<'a> {
        user: &'a str,
        items: Vec<Item<'a>>,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        rank: usize,
        item: &'a str,
        score: f32,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    }
    let items = model.dictionary(Side::Items);
    let mut tops = Vec::new();
    session.threads.run(|| {
        recommender.recommend(users.into_iter(), Ok, |group| {
            tops.extend(group);
            Ok(())
        })
    })?;
    tell_without_own(without_own(&tops), ids, session);
    let (mut result, mut text) = (Vec::new(), String::new());
    for top in &tops {
        let user = ids.id(top.user)?;
        let of_rank = |(rank, candidate): (usize, &Candidate)| {
            Ok(Item {
                rank,
                item: items.id(candidate.item as usize)?,
                score: candidate.score,
                title: items.title(candidate.item as usize)?,
            })
        };
        let recommended: Vec<Item<'_>> =
            (1..).zip(&top.items).map(of_rank).collect::<Result<_>>()?;
        let mut table = Table::new([
            ("rank", Lean::Right),
            ("score", Lean::Right),
            ("item", Lean::Left),
            ("title", Lean::Left),
        ]);
        for line in &recommended {
            table.push([
                line.rank.to_string(),
                format!("{:.4}", line.score),
                line.item.to_owned(),
                line.title.unwrap_or_default().to_owned(),
            ]);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text += &match recommended.is_empty() {
            true => format!("nothing can be recommended to user {user}\n"),
            false => format!("for user {user}\n{}", table.text()),
        };
        result.push(User {
            user,
            items: recommended,
        });
    }
    session.print(&result, text)
}
