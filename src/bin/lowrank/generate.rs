//! `lowrank generate`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lowrank::Result;
use lowrank::progress::{Progress, Unit};
use lowrank::store::AtomicFile;
use lowrank::synthetic::{PRESETS, Preset, Recipe, Summary, Synthetic};

use crate::args::choices;
use crate::bars::Bars;
use crate::session::{Session, aligned, grouped};

/// Make ratings of the shape of MovieLens, of any size.
///
/// A few users and items have most of the ratings, people rate what they like, and behind the ratings are planted factors
/// and noise: so the best RMSE that any model can reach is known, and told at the end. The same options give the same
/// bytes on any machine and number of threads. The text is CSV with the header userId,movieId,rating,timestamp.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The data set to resemble
    #[arg(long, value_name = "NAME", default_value = PRESETS[0].name, value_parser = names(), hide_possible_values = true, help = help())]
    preset: String,
    /// Everything random hangs on this
    #[arg(long, value_name = "N", default_value_t = Recipe::default().seed)]
    seed: u64,
    /// Number of users [default: the preset's]
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    /// Number of items [default: the preset's]
    #[arg(long, value_name = "N")]
    items: Option<u32>,
    /// Number of ratings [default: the preset's]
    #[arg(long, value_name = "N")]
    ratings: Option<u64>,
    /// Where the ratings go; - is standard output
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}

fn help() -> String {
    let all = PRESETS.iter().map(|preset| (preset.name, preset.summary));
    choices("The data set to resemble", all)
}

/// Runs the command.
pub fn run(args: GenerateArgs, session: &Session) -> Result<()> {
    let to_stdout = args.out == Path::new("-");
    if to_stdout {
        session.give_stdout_to_data()?;
    }
    let preset = Preset::named(&args.preset)?.recipe;
    let recipe = Recipe {
        users: args.users.unwrap_or(preset.users),
        items: args.items.unwrap_or(preset.items),
        ratings: args.ratings.unwrap_or(preset.ratings),
        seed: args.seed,
        ..preset
    };
    let mut plan = session.plan();
    plan.hold("users, items and ratings in flight", recipe.memory());
    plan.rest(0)?;
    if to_stdout {
        let summary = write(recipe, io::stdout(), Path::new("<stdout>"), session)?;
        session.say(text(&summary, &args.out).trim_end());
        return Ok(());
    }
    let mut file = AtomicFile::create(&args.out, args.force)?;
    let summary = write(recipe, &mut file, &args.out, session)?;
    file.commit()?;
    session.print(&summary, text(&summary, &args.out))
}

fn write(
    recipe: Recipe,
    out: impl Write + Send,
    path: &Path,
    session: &Session,
) -> Result<Summary> {
    let bars = &session.bars;
    session.threads.run(|| {
        let synthetic = Synthetic::new(recipe)?;
        bars.begin("generating", Some(recipe.ratings), Unit::Ratings);
        let summary = synthetic
            .write(Counted { out, bars })
            .map_err(|e| e.path(path))?;
        bars.end();
        Ok(summary)
    })
}

/// Tells the progress bar of every line that is written.
struct Counted<'a, W> {
    out: W,
    bars: &'a Bars,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let lines = bytes[..written].iter().filter(|&&byte| byte == b'\n');
        self.bars.advance(lines.count() as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn text(summary: &Summary, path: &Path) -> String {
    let items = match summary.unrated_items {
        0 => grouped(summary.items.into()),
        unrated => format!(
            "{}, {} of them without a rating",
            grouped(summary.items.into()),
            grouped(unrated.into())
        ),
    };
    let place = match path == Path::new("-") {
        true => String::new(),
        false => format!(" in {}", path.display()),
    };
    aligned(&[
        ("ratings", grouped(summary.ratings) + &place),
        ("users", grouped(summary.users.into())),
        ("items", items),
        (
            "of a user",
            format!(
                "{} to {} ratings, median {}",
                grouped(summary.least_per_user.into()),
                grouped(summary.most_per_user.into()),
                grouped(summary.median_per_user.into())
            ),
        ),
        (
            "of an item",
            format!(
                "up to {} ratings, median {}",
                grouped(summary.most_per_item.into()),
                grouped(summary.median_per_item.into())
            ),
        ),
        ("mean", format!("{:.4}", summary.mean)),
        (
            "rmse",
            format!(
                "{:.4} by the mean, {:.4} by biases alone, {:.4} at best: the rest is noise",
                summary.standard_deviation, summary.biases_rmse, summary.oracle_rmse
            ),
        ),
    ])
}
