//! The protocols on the wire: [`rpc`] is ONC RPC (records, messages, XDR), with a limit for every size; on it [`nfs3`]
//! and [`nfs4`], each with the few calls that a probe needs.

/// Defines the statuses of a protocol, each with its number and its name in the RFC: a constant, and how it is shown.
macro_rules! statuses {
    ($(#[$about:meta])* $protocol:literal $prefix:literal; $($(#[$doc:meta])* $number:literal $name:ident)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Status(pub u32);

        #[expect(missing_docs, reason = "a probe does not distinguish all of them")]
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($number);)*
        }

        const NAMES: &[(u32, &str)] = &[$(($number, stringify!($name))),*];

        impl std::fmt::Display for Status {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match NAMES.iter().find(|(number, _)| *number == self.0) {
                    Some((_, name)) => write!(f, "{}{name}", $prefix),
                    None => write!(f, "{} status {}, which no RFC defines", $protocol, self.0),
                }
            }
        }
    };
}

pub mod nfs3;
pub mod nfs4;
pub mod rpc;
