//! Inventory: what this host is, as rows of Microsoft's `VMComputer`, and what Azure says of it.
//!
//! All of it is read under a root path, so that a test can plant another machine; a file that is
//! missing or makes no sense leaves its columns empty. [`keep`] makes the rows: one at the start,
//! one an hour, and one when Azure has answered for the first time.

mod azure;
mod computer;
mod error;
mod files;
mod imds;
mod network;
mod platform;
pub mod refresh;

pub use azure::SharedAzure;
pub use computer::Host;
pub use error::ImdsError;
pub use imds::{AzureConfig, IMDS_URL, Imds, ImdsMode, ImdsPace};
pub use network::{Interface, interfaces};
pub use platform::is_azure;
pub use refresh::keep;
