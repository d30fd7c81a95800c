//! Lab images: tags, policies, references, registry client, catalogue, runtimes.

pub mod reference;
pub mod runtime;
pub mod tag;
