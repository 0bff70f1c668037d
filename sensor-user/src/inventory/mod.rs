//! Inventory: what this host is, as rows of Microsoft's `VMComputer`, and what Azure says of it.
//!
//! All of it is read under a root path, so that a test can plant another machine; a file that is
//! missing or makes no sense leaves its columns empty. [`keep`] makes the rows: one at the start,
//! one an hour, and one when Azure has answered for the first time.

mod azure;
mod computer;
mod files;
mod imds;
mod keep;
mod network;
mod platform;

pub use azure::{Azure, Resource, SharedAzure};
pub use computer::{ComputerRow, Host};
pub use imds::{AzureConfig, IMDS_URL, Imds, ImdsError, ImdsMode, ImdsPace};
pub use keep::keep;
pub use network::{Interface, interfaces};
pub use platform::is_azure;
