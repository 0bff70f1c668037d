//! `GeoIpDatabase`: country and coordinates of an address, from a database that the operator names,
//! in [MaxMind's format](https://maxmind.github.io/MaxMind-DB/).
//!
//! Two layouts are supported: that of `GeoLite2` and `GeoIP2` (`country.names.en`, `location`), and
//! the flat one of ip-location-db (`country_code`, `latitude`, `longitude`). The whole file is in
//! memory, twice during a reload. If a new file cannot be used, the previous one stays in use.

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use maxminddb::{LookupResult, PathElement, Reader, path};
use serde::Deserialize;

use super::country_names;
use crate::base::error_chain::chain;
use crate::base::regular_file;
use crate::intel::is_special;

/// Maximum size of a file, bytes: all of it is in memory.
const FILE_MAX: u64 = 512 << 20;

/// Location of an address, as far as known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeoLocation {
    /// English name of the country, or its code if the name is unknown; "" for none.
    pub country: String,
    /// Latitude in degrees, -90 to 90.
    pub latitude: Option<f64>,
    /// Longitude in degrees, -180 to 180.
    pub longitude: Option<f64>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GeoIpError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is larger than the maximum.
    #[error("{}: has {bytes} bytes; at most {FILE_MAX} are read", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file.
        bytes: u64,
    },
    /// The file is not a database.
    #[error("{}: is not a database in MaxMind's format ({detail})", path.display())]
    Format {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        detail: String,
    },
}

/// Identity of a file, by which a replacement is detected: device, inode, size, time of the last
/// change.
type FileIdentity = (u64, u64, u64, i64, i64);

/// The current database.
#[derive(Debug)]
pub struct GeoIpDatabase {
    path: PathBuf,
    reader: ArcSwapOption<Reader<Vec<u8>>>,
    /// The file that was read last, even if it could not be used.
    tried: Mutex<Option<FileIdentity>>,
    error: Mutex<Option<String>>,
}

impl GeoIpDatabase {
    /// The database at `path`, which is not read yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            reader: ArcSwapOption::empty(),
            tried: Mutex::new(None),
            error: Mutex::new(None),
        }
    }

    /// Reads the file if it was replaced, and logs it. May block on the disk.
    pub fn refresh(&self) {
        match self.read_changed() {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(path = %self.path.display(), "geoip.database read");
                self.set_error(None);
            }
            Err(error) => {
                let error = chain(&error);
                if self.error().as_deref() != Some(&error) {
                    let keeps_old = self.reader.load().is_some();
                    tracing::error!(keeps_old, %error, "geoip.database cannot be used");
                }
                self.set_error(Some(error));
            }
        }
    }

    /// Why the file cannot be used, if so.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn read_changed(&self) -> Result<bool, GeoIpError> {
        let failed = |source| GeoIpError::Read { path: self.path.clone(), source };
        let meta = fs::metadata(&self.path).map_err(failed)?;
        let identity = (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if *tried == Some(identity) {
            return Ok(false);
        }
        *tried = Some(identity);
        drop(tried);
        if meta.len() > FILE_MAX {
            return Err(GeoIpError::TooLarge { path: self.path.clone(), bytes: meta.len() });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
        let file = regular_file::open_trusted(&self.path).map_err(failed)?;
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let reader = Reader::from_source(bytes).map_err(|error| {
            let (path, detail) = (self.path.clone(), error.to_string());
            GeoIpError::Format { path, detail }
        })?;
        self.reader.store(Some(reader.into()));
        Ok(true)
    }

    /// Location of `address`. Private and special addresses have none, whatever the database
    /// contains.
    pub fn get(&self, address: IpAddr) -> GeoLocation {
        let address = address.to_canonical();
        let reader = self.reader.load();
        let Some(reader) = reader.as_ref().filter(|_| !is_special(address)) else {
            return GeoLocation::default();
        };
        // The lookup fails for an IPv6 address in an IPv4 database, and in a corrupt branch of the
        // tree.
        let Ok(found) = reader.lookup(address) else { return GeoLocation::default() };
        let degrees = |nested: &[PathElement<'_>], flat: &[PathElement<'_>], max: f64| {
            let value: f64 = field(&found, nested).or_else(|| field(&found, flat))?;
            (-max..=max).contains(&value).then_some(value)
        };
        let latitude = degrees(&path!["location", "latitude"], &path!["latitude"], 90.0);
        let longitude = degrees(&path!["location", "longitude"], &path!["longitude"], 180.0);
        let both = latitude.is_some() && longitude.is_some();
        GeoLocation {
            country: country(&found),
            latitude: latitude.filter(|_| both),
            longitude: longitude.filter(|_| both),
        }
    }
}

fn country(found: &LookupResult<'_, Vec<u8>>) -> String {
    if let Some(name) = field::<&str>(found, &path!["country", "names", "en"]) {
        return name.to_owned();
    }
    let code = field::<&str>(found, &path!["country", "iso_code"])
        .or_else(|| field::<&str>(found, &path!["country_code"]))
        .unwrap_or_default();
    country_names::name(code).unwrap_or(code).to_owned()
}

/// Field of a record; `None` if it is absent, or of another type.
fn field<'d, T: Deserialize<'d>>(
    found: &LookupResult<'d, Vec<u8>>,
    path: &[PathElement<'_>],
) -> Option<T> {
    found.decode_path(path).ok().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/geo").join(name)
    }

    fn location(geoip: &GeoIpDatabase, address: &str) -> (String, Option<f64>, Option<f64>) {
        let location = geoip.get(address.parse().unwrap());
        (location.country, location.latitude, location.longitude)
    }

    fn country(name: &str) -> (String, Option<f64>, Option<f64>) {
        (name.to_owned(), None, None)
    }

    #[test]
    fn both_layouts_give_country_and_coordinates() {
        let city = GeoIpDatabase::new(&fixture("city.mmdb"));
        assert_eq!(location(&city, "203.0.113.7"), country(""), "not read yet");
        city.refresh();
        assert_eq!(city.error(), None);
        let redmond = ("United States".to_owned(), Some(47.68), Some(-122.12));
        assert_eq!(location(&city, "203.0.113.7"), redmond);
        assert_eq!(location(&city, "::ffff:203.0.113.7"), redmond);
        assert_eq!(location(&city, "2001:db8::7"), ("Germany".to_owned(), Some(50.11), Some(8.68)));
        assert_eq!(location(&city, "198.51.100.7"), country("The Netherlands"));
        assert_eq!(location(&city, "192.0.2.7"), country("Nowhere"), "no such latitude");
        for unknown in ["8.8.8.8", "10.1.2.3", "::1"] {
            assert_eq!(location(&city, unknown), country(""), "{unknown}");
        }
        let flat = GeoIpDatabase::new(&fixture("flat.mmdb"));
        flat.refresh();
        assert_eq!(location(&flat, "203.0.113.7"), country("Canada"));
        assert_eq!(location(&flat, "2001:db8::7"), country("Japan"));
        assert_eq!(location(&flat, "198.51.100.7"), country("ZZ"), "no name for it");
        assert_eq!(
            location(&flat, "192.0.2.7"),
            ("Australia".to_owned(), Some(-33.86), Some(151.2))
        );
    }

    #[test]
    fn a_replaced_file_is_read_and_a_bad_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("geoip.mmdb");
        let geoip = GeoIpDatabase::new(&path);
        let replace = |bytes: &[u8]| {
            let new = folder.path().join("new");
            fs::write(&new, bytes).unwrap();
            fs::rename(new, &path).unwrap();
            geoip.refresh();
        };
        geoip.refresh();
        let error = geoip.error().unwrap();
        assert!(error.ends_with("geoip.mmdb: No such file or directory (os error 2)"), "{error}");
        let city = fs::read(fixture("city.mmdb")).unwrap();
        replace(&city);
        assert_eq!(
            (geoip.error(), location(&geoip, "198.51.100.7").0.as_str()),
            (None, "The Netherlands")
        );
        for bad in [b"<html>".as_slice(), &city[..city.len() / 2], b""] {
            replace(bad);
            let error = geoip.error().unwrap();
            assert!(
                error.contains("geoip.mmdb: is not a database in MaxMind's format ("),
                "{error}"
            );
            // It is not read again, and the error stays until it is replaced.
            geoip.refresh();
            assert_eq!(geoip.error(), Some(error));
            assert_eq!(location(&geoip, "198.51.100.7").0, "The Netherlands");
        }
        replace(&fs::read(fixture("flat.mmdb")).unwrap());
        assert_eq!((geoip.error(), location(&geoip, "203.0.113.7").0.as_str()), (None, "Canada"));
    }

    proptest! {
        #[test]
        fn a_damaged_database_results_in_a_location_or_none(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        ) {
            let mut bytes = fs::read(fixture("city.mmdb")).unwrap();
            for (index, byte) in damage {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            let geoip = GeoIpDatabase::new(Path::new("damaged"));
            if let Ok(reader) = Reader::from_source(bytes) {
                geoip.reader.store(Some(reader.into()));
                for address in ["203.0.113.7", "2001:db8::7", "8.8.8.8", "fe80::1"] {
                    let location = geoip.get(address.parse().unwrap());
                    prop_assert!(location.latitude.is_none_or(|it| it.abs() <= 90.0));
                }
            }
        }
    }
}
