//! Settings that daemons for lab images share: where images come from, which are wanted, and which runtime has them.

mod policy;
mod registry;
mod runtime;

pub use policy::{PolicyArguments, TagArguments};
pub use registry::{CredentialsArguments, RegistryArguments, Source, SourceArguments};
pub use runtime::{DiskArguments, RuntimeArguments, unclear_runtime};
