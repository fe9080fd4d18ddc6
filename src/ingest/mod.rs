//! Text and archives into ratings.
