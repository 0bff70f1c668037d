//! One screen of `netsensor status`.
