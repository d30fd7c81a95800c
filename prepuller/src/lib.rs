//! Prepuller.
