//! Lab images: tags, policies, references, registry client, catalogue, runtimes.

pub mod catalogue;
pub mod policy;
pub mod reference;
pub mod runtime;
pub mod tag;
