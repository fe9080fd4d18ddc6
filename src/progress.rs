//! How long work tells how far it is.

/// What progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of text or files.
    Bytes,
    /// Ratings gone over.
    Ratings,
    /// Users served.
    Users,
}

/// Is told how far a piece of work is. All methods may be called from any thread.
pub trait Progress: Sync {
    /// A stage begins; `total` is its size where that is known.
    fn begin(&self, _stage: &str, _total: Option<u64>, _unit: Unit) {}

    /// So much more is done.
    fn advance(&self, _amount: u64) {}

    /// The stage is over.
    fn end(&self) {}
}

/// Watches nothing.
impl Progress for () {}
