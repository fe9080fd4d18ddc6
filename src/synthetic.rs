//! Synthetic ratings of the shape of MovieLens, streamed.
