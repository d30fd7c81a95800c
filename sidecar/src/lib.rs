//! What every Labhands daemon shares.
