//! Lab images: tags, policies, references, registry client, catalogue, runtimes.
