//! `Places`: the country of an address and where that is, out of a database in the format of `MaxMind` that
//! the operator names.
//!
//! Two layouts are read: that of `GeoLite2` and `GeoIP2` (`country.names.en`, `location`), and the flat one
//! of ip-location-db (`country_code`, `latitude`, `longitude`). The file is held in memory as a whole,
//! twice while it is read again. A file that cannot be used leaves the one before in place.

use std::fs::{self, File};
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
use crate::intel::is_special;

/// Bytes of a file at most: all of it is held in memory.
const FILE_MAX: u64 = 512 << 20;

/// Where an address is, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeoLocation {
    /// English name of the country, or its code where that is not known; "" for none.
    pub country: String,
    /// Degrees, -90 to 90.
    pub latitude: Option<f64>,
    /// Degrees, -180 to 180.
    pub longitude: Option<f64>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum GeoIpError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not fit into memory.
    #[error("{}: has {bytes} bytes; at most {FILE_MAX} are read", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is something else.
    #[error("{}: is not a database in MaxMind's format ({detail})", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What the parser says.
        detail: String,
    },
}

/// Tells a file from the one that replaced it: device, inode, size, time of its last change.
type Stamp = (u64, u64, u64, i64, i64);

/// The database that is in use.
#[derive(Debug)]
pub struct GeoIpDatabase {
    path: PathBuf,
    reader: ArcSwapOption<Reader<Vec<u8>>>,
    /// The file that was read last, used or not.
    tried: Mutex<Option<Stamp>>,
    error: Mutex<Option<String>>,
}

impl GeoIpDatabase {
    /// The database at `path`, not read yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            reader: ArcSwapOption::empty(),
            tried: Mutex::new(None),
            error: Mutex::new(None),
        }
    }

    /// Reads the file if it is another than before; says so in the log. It may wait for the disk.
    pub fn refresh(&self) {
        match self.read_changed() {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(path = %self.path.display(), "geo.database read");
                self.set_error(None);
            }
            Err(error) => {
                let error = chain(&error);
                if self.error().as_deref() != Some(&error) {
                    let keeps_old = self.reader.load().is_some();
                    tracing::error!(keeps_old, %error, "geo.database cannot be used");
                }
                self.set_error(Some(error));
            }
        }
    }

    /// Why the file is not used, if so.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn read_changed(&self) -> Result<bool, GeoIpError> {
        let failed = |source| GeoIpError::Read { path: self.path.clone(), source };
        let meta = fs::metadata(&self.path).map_err(failed)?;
        let stamp = (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if *tried == Some(stamp) {
            return Ok(false);
        }
        *tried = Some(stamp);
        drop(tried);
        if meta.len() > FILE_MAX {
            return Err(GeoIpError::TooLarge { path: self.path.clone(), bytes: meta.len() });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
        let file = File::open(&self.path).map_err(failed)?;
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let reader = Reader::from_source(bytes).map_err(|error| {
            let (path, detail) = (self.path.clone(), error.to_string());
            GeoIpError::Format { path, detail }
        })?;
        self.reader.store(Some(reader.into()));
        Ok(true)
    }

    /// Where `address` is. Private and special addresses are nowhere, whatever the database says.
    pub fn get(&self, address: IpAddr) -> GeoLocation {
        let address = address.to_canonical();
        let reader = self.reader.load();
        let Some(reader) = reader.as_ref().filter(|_| !is_special(address)) else {
            return GeoLocation::default();
        };
        // An IPv6 address in a database of IPv4 alone is not found, nor is one in a broken branch.
        let Ok(found) = reader.lookup(address) else { return GeoLocation::default() };
        let degrees = |nested: &[PathElement<'_>], flat: &[PathElement<'_>], most: f64| {
            let value: f64 = field(&found, nested).or_else(|| field(&found, flat))?;
            (-most..=most).contains(&value).then_some(value)
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

/// A field, if the record has it and in this type.
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

    fn place(geoip: &GeoIpDatabase, address: &str) -> (String, Option<f64>, Option<f64>) {
        let place = geoip.get(address.parse().unwrap());
        (place.country, place.latitude, place.longitude)
    }

    fn country(name: &str) -> (String, Option<f64>, Option<f64>) {
        (name.to_owned(), None, None)
    }

    #[test]
    fn both_layouts_give_country_and_coordinates() {
        let city = GeoIpDatabase::new(&fixture("city.mmdb"));
        assert_eq!(place(&city, "203.0.113.7"), country(""), "not read yet");
        city.refresh();
        assert_eq!(city.error(), None);
        let redmond = ("United States".to_owned(), Some(47.68), Some(-122.12));
        assert_eq!(place(&city, "203.0.113.7"), redmond);
        assert_eq!(place(&city, "::ffff:203.0.113.7"), redmond);
        assert_eq!(place(&city, "2001:db8::7"), ("Germany".to_owned(), Some(50.11), Some(8.68)));
        assert_eq!(place(&city, "198.51.100.7"), country("The Netherlands"));
        assert_eq!(place(&city, "192.0.2.7"), country("Nowhere"), "no such latitude");
        for nowhere in ["8.8.8.8", "10.1.2.3", "::1"] {
            assert_eq!(place(&city, nowhere), country(""), "{nowhere}");
        }
        let flat = GeoIpDatabase::new(&fixture("flat.mmdb"));
        flat.refresh();
        assert_eq!(place(&flat, "203.0.113.7"), country("Canada"));
        assert_eq!(place(&flat, "2001:db8::7"), country("Japan"));
        assert_eq!(place(&flat, "198.51.100.7"), country("ZZ"), "no name for it");
        assert_eq!(place(&flat, "192.0.2.7"), ("Australia".to_owned(), Some(-33.86), Some(151.2)));
    }

    #[test]
    fn a_replaced_file_is_read_and_a_bad_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("places.mmdb");
        let geoip = GeoIpDatabase::new(&path);
        let replace = |bytes: &[u8]| {
            let new = folder.path().join("new");
            fs::write(&new, bytes).unwrap();
            fs::rename(new, &path).unwrap();
            geoip.refresh();
        };
        geoip.refresh();
        let error = geoip.error().unwrap();
        assert!(error.ends_with("places.mmdb: No such file or directory (os error 2)"), "{error}");
        let city = fs::read(fixture("city.mmdb")).unwrap();
        replace(&city);
        assert_eq!(
            (geoip.error(), place(&geoip, "198.51.100.7").0.as_str()),
            (None, "The Netherlands")
        );
        for bad in [b"<html>".as_slice(), &city[..city.len() / 2], b""] {
            replace(bad);
            let error = geoip.error().unwrap();
            assert!(
                error.contains("places.mmdb: is not a database in MaxMind's format ("),
                "{error}"
            );
            // It is not read again, and said until it is replaced.
            geoip.refresh();
            assert_eq!(geoip.error(), Some(error));
            assert_eq!(place(&geoip, "198.51.100.7").0, "The Netherlands");
        }
        replace(&fs::read(fixture("flat.mmdb")).unwrap());
        assert_eq!((geoip.error(), place(&geoip, "203.0.113.7").0.as_str()), (None, "Canada"));
    }

    proptest! {
        #[test]
        fn a_damaged_database_gives_a_place_or_none(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        ) {
            let mut bytes = fs::read(fixture("city.mmdb")).unwrap();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let geoip = GeoIpDatabase::new(Path::new("damaged"));
            if let Ok(reader) = Reader::from_source(bytes) {
                geoip.reader.store(Some(reader.into()));
                for address in ["203.0.113.7", "2001:db8::7", "8.8.8.8", "fe80::1"] {
                    let place = geoip.get(address.parse().unwrap());
                    prop_assert!(place.latitude.is_none_or(|it| it.abs() <= 90.0));
                }
            }
        }
    }
}
