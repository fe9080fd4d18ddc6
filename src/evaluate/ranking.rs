//! What a model's recommendations find of what was held out, among all items and for all users, in one stream.
//!
//! Lists come from the same scoring as `recommend`, a group of users at a time, and leave out what the user had in the
//! training part alone: what was held out, in any part, is there to be found. Of each list only the ranks of its hits are
//! looked at; means and variances are gathered user by user, in the store's order, so that the figures do not depend on
//! threads. Memory: what recommending takes, a number for each user, and one for each item.

use super::sampled::{Sample, Sampled};
use super::{List, Measure, Metric, held_out};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::Candidate;
use crate::matrix::{Ratings, RowScratch, Shape, Side};
use crate::model::Model;
use crate::recommend::{Exclude, FoldedIn, Recommender, Search, UserTop};
use crate::solver::Parameters;
use crate::store::{IdMap, Part, Store, UserRows};

/// What to measure, and on what.
#[derive(Debug, Clone)]
pub struct Protocol<'a> {
    /// Metrics of lists.
    pub metrics: &'a [&'static Metric],
    /// How many recommendations count, ascending.
    pub cut_offs: &'a [usize],
    /// The part that is to be found.
    pub part: Part,
    /// The least rating that makes an item worth finding; every rating does without it.
    pub positive_at: Option<f32>,
    /// What the items to be found are ranked among; all others, if that is not given.
    pub sample: Option<Sample>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Users with something to be found.
    pub users: u64,
    /// Those of them of whom the model learnt no item: they count with the list that anybody would get.
    pub without_own: u64,
    /// Items that were to be found, over all users.
    pub relevant: u64,
    /// Those of them that the model does not know, and that could not be found.
    pub unknown: u64,
    /// Every metric at every cut-off, over all users.
    pub figures: Vec<Figure>,
    /// The same for each quarter of the users, those with the fewest training ratings first.
    pub by_activity: Vec<Activity>,
}

/// A metric at a cut-off.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Which metric.
    pub metric: &'static Metric,
    /// At which cut-off.
    pub cut_off: usize,
    /// Its value: for a metric of lists, the mean over users.
    pub value: f64,
    /// Half of the 95 % interval of a mean over more users than one.
    pub margin: Option<f64>,
}

impl Figure {
    /// The metric and its cut-off, as in `ndcg@10`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.metric.name, self.cut_off)
    }
}

/// Users that are about as active.
#[derive(Debug, Clone)]
pub struct Activity {
    /// The fewest and the most training ratings that one of them has.
    pub ratings: (u32, u32),
    /// How many users.
    pub users: u64,
    /// Every metric at every cut-off, over these users.
    pub figures: Vec<Figure>,
}

/// Measures the lists that a model recommends to the users of a store. Runs on the thread pool it is called in.
///
/// # Errors
/// If the store has nothing to be found in this part, a cut-off is none or larger than the number of items, or ratings
/// cannot be read.
pub fn ranking(model: &Model, store: &Store, protocol: &Protocol<'_>) -> Result<Ranking> {
    let search = Search::default();
    let exclude = protocol.exclude();
    let items = IdMap::new(store.items(), model.dictionary(Side::Items))?;
    let lists = match protocol.sample {
        Some(sample) => Lists::Sampled(Sampled::new(sample, model, store, protocol.top())?),
        None => {
            let top = protocol.top();
            Lists::Full(Recommender::new(model, Some(store), top, exclude, search)?)
        }
    };
    measure(lists, Some, store, items, protocol)
}

/// As [`ranking`], of parameters that number rows as the store does.
pub(crate) fn of_parameters(
    parameters: &Parameters,
    store: &Store,
    protocol: &Protocol<'_>,
) -> Result<Ranking> {
    let exclude = protocol.exclude().parts();
    let recommender = Recommender::of_store(parameters, store, protocol.top(), exclude)?;
    measure(Lists::Full(recommender), Some, store, IdMap::Same, protocol)
}

/// As [`ranking`], of users who were folded in, and no others: `row` gives the row of a user of the store, if that one was.
/// What they were folded in by is left out of their lists.
///
/// # Errors
/// As [`ranking`].
pub fn folded_in_ranking(
    model: &Model,
    store: &Store,
    protocol: &Protocol<'_>,
    folded_in: &FoldedIn,
    row: impl Fn(u32) -> Option<u32>,
) -> Result<Ranking> {
    let (exclude, search) = (Exclude::Train, Search::default());
    let recommender = Recommender::to_folded_in(model, folded_in, protocol.top(), exclude, search);
    let items = IdMap::new(store.items(), model.dictionary(Side::Items))?;
    measure(Lists::Full(recommender), row, store, items, protocol)
}

/// Where lists come from.
enum Lists<'a> {
    /// The best of all items.
    Full(Recommender<'a>),
    /// The best of a sample.
    Sampled(Sampled<'a>),
}

impl Lists<'_> {
    /// How many items the model has.
    fn catalogue(&self) -> usize {
        match self {
            Lists::Full(recommender) => recommender.items(),
            Lists::Sampled(sampled) => sampled.catalogue(),
        }
    }
}

/// Measures lists; `number` gives the number that they know a user of the store by, if they do.
fn measure(
    mut lists: Lists<'_>,
    number: impl Fn(u32) -> Option<u32>,
    store: &Store,
    items: IdMap,
    protocol: &Protocol<'_>,
) -> Result<Ranking> {
    let catalogue = lists.catalogue();
    protocol.check(catalogue)?;
    let rows = held_out(store, protocol.part)?;
    let least = protocol.positive_at.unwrap_or(f32::NEG_INFINITY);
    let mut relevant = Relevant::new(rows, &items, least);
    // Each user by the number in the store, and by the recommender's.
    let users: Vec<(u32, u32)> = relevant
        .users()?
        .into_iter()
        .filter_map(|user| Some((user, number(user)?)))
        .collect();
    if users.is_empty() {
        let what = "nothing was held out that is rated highly enough to be found";
        return Err(Error::new(ErrorKind::BadOption, what)
            .path(store.path())
            .remedy("give a lower --positive-at"));
    }
    let activity = store.rating_counts(Side::Users)?;
    let quarters = Quarters::new(users.iter().map(|&(user, _)| activity[user as usize]));
    let surprise = surprise(&items, store, catalogue)?;
    let mut all = Group::new(protocol, catalogue);
    let mut groups = [(); QUARTERS].map(|()| Group::new(protocol, catalogue));
    let (mut hits, mut bits) = (Vec::new(), Vec::new());
    let (mut from, mut last, mut without_own) = (0, 0, 0);
    let mut next = users.iter().map(|&(user, _)| user);
    let mut take = |tops: Vec<UserTop>| {
        for (top, user) in tops.iter().zip(&mut next) {
            relevant.read(user)?;
            hits.clear();
            let ranked = (1..).zip(&top.items);
            hits.extend(ranked.filter_map(|(rank, c)| relevant.has(c.item).then_some(rank)));
            bits.clear();
            bits.extend(top.items.iter().map(|c| surprise[c.item as usize]));
            let of_user = OfUser {
                items: &top.items,
                hits: &hits,
                surprise: &bits,
                relevant: relevant.count(),
                activity: activity[user as usize],
            };
            without_own += u64::from(!top.own);
            all.add(&of_user);
            groups[quarters.of(of_user.activity)].add(&of_user);
            last = user;
        }
        relevant.rows.release(from as usize..last as usize);
        from = last;
        Ok(())
    };
    match &mut lists {
        Lists::Full(recommender) => {
            let numbers = users.iter().map(|&(_, number)| number);
            recommender.recommend(numbers, Ok, &mut take)?;
        }
        Lists::Sampled(sampled) => {
            let mut to_find = Relevant::new(rows, &items, least);
            for &(user, _) in &users {
                to_find.read(user)?;
                take(vec![sampled.list(user, &to_find)?])?;
            }
        }
    }
    relevant.rows.release(from as usize..usize::MAX);
    let groups = groups.into_iter().filter(|group| group.users > 0);
    Ok(Ranking {
        users: all.users,
        without_own,
        relevant: all.relevant,
        unknown: relevant.unknown,
        figures: all.figures(),
        by_activity: groups
            .map(|group| Activity {
                ratings: group.ratings,
                users: group.users,
                figures: group.figures(),
            })
            .collect(),
    })
}

impl Protocol<'_> {
    /// Checks that there are lists as long as the cut-offs, for a model with so many items.
    ///
    /// # Errors
    /// If a cut-off is none or longer than a list can be, or nothing is drawn for a sample.
    pub fn check(&self, items: usize) -> Result<()> {
        let bad = |what: String, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
        };
        let longest = match self.sample {
            Some(Sample { items: 0, .. }) => {
                return bad(
                    "no items are drawn to rank the held-out ones among".into(),
                    "draw some, or leave out --sampled to rank among all items",
                );
            }
            Some(sample) => items.min(sample.items + 1),
            None => items,
        };
        match self.cut_offs.iter().find(|&&k| k == 0 || k > longest) {
            Some(cut_off) => bad(
                format!("there is no list of {cut_off} items: there are {longest} to be listed"),
                "give another cut-off, with --at or behind the @ of the metric",
            ),
            None => Ok(()),
        }
    }

    /// Memory that measuring takes beside the model, in bytes: of a store of this shape, and of a model with so many items.
    pub fn memory(&self, shape: Shape, items: usize, rank: usize, threads: usize) -> u64 {
        let by_user = 2 * size_of::<u32>() * shape.users;
        let listed = (QUARTERS + 1) * self.cut_offs.len();
        let by_item = (size_of::<f64>() + listed) * items + size_of::<u32>() * shape.items;
        let lists = Recommender::memory(items, rank, self.top(), Search::default(), threads);
        (by_user + by_item) as u64 + lists
    }

    /// What is left out of lists: what was trained on, unless that is what is to be found.
    fn exclude(&self) -> Exclude {
        match self.part {
            Part::Train => Exclude::Nothing,
            Part::Validation | Part::Test => Exclude::Train,
        }
    }

    /// The longest list that is looked at.
    fn top(&self) -> usize {
        self.cut_offs.iter().copied().max().unwrap_or(0)
    }
}

/// What is to be found of one user at a time.
pub(super) struct Relevant<'a> {
    rows: UserRows<'a>,
    items: &'a IdMap,
    least: f32,
    scratch: RowScratch,
    /// The user's items by their rows in the model, ascending; those that it does not know last.
    found: Vec<u32>,
    /// How many of all those read the model does not know.
    unknown: u64,
}

impl<'a> Relevant<'a> {
    fn new(rows: UserRows<'a>, items: &'a IdMap, least: f32) -> Relevant<'a> {
        Relevant {
            rows,
            items,
            least,
            scratch: RowScratch::default(),
            found: Vec::new(),
            unknown: 0,
        }
    }

    /// The user's items by their rows in the model, which knows them.
    pub(super) fn known(&self) -> impl Iterator<Item = u32> {
        self.found
            .iter()
            .copied()
            .take_while(|&item| item != u32::MAX)
    }

    /// The users who have something to be found.
    fn users(&self) -> Result<Vec<u32>> {
        let mut users = Vec::new();
        let mut scratch = RowScratch::default();
        for index in 0..self.rows.blocks(Side::Users) {
            let block = self.rows.block(Side::Users, index)?;
            for i in 0..block.rows() {
                let row = block.row(i, &mut scratch);
                if row.values.iter().any(|&rating| rating >= self.least) {
                    users.push((block.first_row() + i) as u32);
                }
            }
            self.rows.done_with(Side::Users, index);
        }
        Ok(users)
    }

    fn read(&mut self, user: u32) -> Result<()> {
        let (block, row) = self.rows.find(user as usize)?;
        let row = block.row(row, &mut self.scratch);
        self.found.clear();
        for (&item, &rating) in row.cols.iter().zip(row.values) {
            if rating >= self.least {
                self.found.push(self.items.get(item).unwrap_or(u32::MAX));
            }
        }
        self.found.sort_unstable();
        let unknown = self
            .found
            .iter()
            .rev()
            .take_while(|&&item| item == u32::MAX);
        self.unknown += unknown.count() as u64;
        Ok(())
    }

    fn has(&self, item: u32) -> bool {
        self.found.binary_search(&item).is_ok()
    }

    fn count(&self) -> usize {
        self.found.len()
    }
}

/// The surprise of each of the model's items, in bits: how rarely a user of the store has it in the training part. What
/// nobody has surprises as much as what one user has.
fn surprise(items: &IdMap, store: &Store, catalogue: usize) -> Result<Vec<f64>> {
    let users = store.shape().users as f64;
    let mut surprise = vec![libm::log2(users); catalogue];
    for (item, count) in (0..).zip(store.rating_counts(Side::Items)?) {
        if let Some(row) = items.get(item) {
            surprise[row as usize] = libm::log2(users / f64::from(count.max(1)));
        }
    }
    Ok(surprise)
}

/// Groups of users by activity.
const QUARTERS: usize = 4;

/// Where the quarters of the users begin; those who are as active are in the same.
struct Quarters([u32; QUARTERS - 1]);

impl Quarters {
    fn new(activity: impl Iterator<Item = u32>) -> Quarters {
        let mut sorted: Vec<u32> = activity.collect();
        sorted.sort_unstable();
        Quarters(std::array::from_fn(|at| {
            sorted[(at + 1) * sorted.len() / QUARTERS]
        }))
    }

    fn of(&self, activity: u32) -> usize {
        self.0.iter().filter(|&&start| activity >= start).count()
    }
}

/// One user's list, and what was to be found.
struct OfUser<'a> {
    items: &'a [Candidate],
    hits: &'a [usize],
    surprise: &'a [f64],
    relevant: usize,
    activity: u32,
}

impl OfUser<'_> {
    /// The list down to a cut-off.
    fn list(&self, cut_off: usize) -> List<'_> {
        List {
            hits: &self.hits[..self.hits.partition_point(|&rank| rank <= cut_off)],
            relevant: self.relevant,
            cut_off,
            surprise: &self.surprise[..self.surprise.len().min(cut_off)],
        }
    }
}

/// What is gathered over users.
struct Group {
    users: u64,
    relevant: u64,
    ratings: (u32, u32),
    tallies: Vec<(&'static Metric, usize, Tally)>,
}

enum Tally {
    Mean(fn(&List<'_>) -> f64, Mean),
    /// Which items are in somebody's list.
    Listed(Vec<bool>),
}

impl Group {
    fn new(protocol: &Protocol<'_>, catalogue: usize) -> Group {
        let each = |&metric: &&'static Metric| {
            protocol.cut_offs.iter().filter_map(move |&cut_off| {
                let tally = match metric.measure {
                    Measure::Lists(of_list) => Tally::Mean(of_list, Mean::default()),
                    Measure::Coverage => Tally::Listed(vec![false; catalogue]),
                    Measure::Ratings(_) => return None,
                };
                Some((metric, cut_off, tally))
            })
        };
        Group {
            users: 0,
            relevant: 0,
            ratings: (u32::MAX, 0),
            tallies: protocol.metrics.iter().flat_map(each).collect(),
        }
    }

    fn add(&mut self, user: &OfUser<'_>) {
        self.users += 1;
        self.relevant += user.relevant as u64;
        self.ratings.0 = self.ratings.0.min(user.activity);
        self.ratings.1 = self.ratings.1.max(user.activity);
        for (_, cut_off, tally) in &mut self.tallies {
            match tally {
                Tally::Mean(of_list, mean) => mean.add(of_list(&user.list(*cut_off))),
                Tally::Listed(listed) => {
                    for candidate in user.items.iter().take(*cut_off) {
                        listed[candidate.item as usize] = true;
                    }
                }
            }
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |(metric, cut_off, tally): &(&'static Metric, usize, Tally)| {
            let (value, margin) = match tally {
                Tally::Mean(_, mean) => (mean.mean, mean.margin()),
                Tally::Listed(listed) => {
                    let count = listed.iter().filter(|&&listed| listed).count();
                    (count as f64 / listed.len() as f64, None)
                }
            };
            Figure {
                metric,
                cut_off: *cut_off,
                value,
                margin,
            }
        };
        self.tallies.iter().map(figure).collect()
    }
}

/// A mean and the squares of what differs from it, one number after another (Welford: Note on a method for calculating
/// corrected sums of squares and products, Technometrics 1962).
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Mean {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        let before = x - self.mean;
        self.mean += before / self.count;
        self.squares += before * (x - self.mean);
    }

    /// Half of the 95 % interval of the mean.
    fn margin(&self) -> Option<f64> {
        let variance = self.squares / (self.count - 1.0);
        (self.count > 1.0).then(|| 1.96 * (variance / self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_the_margins_of_the_textbook() {
        let mut mean = Mean::default();
        mean.add(2.0);
        assert_eq!((mean.mean, mean.margin()), (2.0, None));
        for x in [4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            mean.add(x);
        }
        // Squares of 32 over 7 degrees of freedom.
        assert_eq!(mean.mean, 5.0);
        let expected = 1.96 * (32.0_f64 / 7.0 / 8.0).sqrt();
        assert!((mean.margin().unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn quarters_keep_equals_together() {
        let quarters = Quarters::new([5, 1, 1, 1, 9, 7, 3, 2].into_iter());
        let of = [1, 2, 3, 5, 7, 9].map(|activity| quarters.of(activity));
        assert_eq!(of, [1, 1, 2, 2, 3, 3]);
        assert_eq!(Quarters::new([4].into_iter()).of(4), 3);
    }
}
