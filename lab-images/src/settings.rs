//! Settings that daemons around lab images share: where images are, which are wanted, and what runs them.

mod policy;
mod registry;
mod runtime;

pub use policy::{PolicyArguments, TagArguments};
pub use registry::{CredentialsArguments, RegistryArguments, Source, SourceArguments};
pub use runtime::{DiskArguments, RuntimeArguments, unclear_runtime};
