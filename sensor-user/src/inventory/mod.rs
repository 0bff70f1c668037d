//! Inventory of this host: rows of Microsoft's `VMComputer` table, with Azure's instance metadata.
//!
//! All files are read under a root path, so that a test can provide another machine. A file that is
//! missing or malformed leaves its columns empty. [`InventoryRefresh`] emits a row at startup, one per
//! hour, and one after the first response of Azure.

mod azure;
mod computer;
mod error;
mod files;
mod imds;
mod network;
mod platform;
mod refresh;

pub use azure::SharedAzure;
pub use computer::Host;
pub use error::ImdsError;
pub use imds::{AzureConfig, IMDS_URL, Imds, ImdsMode, ImdsRetryPolicy};
pub use network::{InterfaceAddress, interface_addresses};
pub use platform::is_azure;
pub use refresh::InventoryRefresh;
