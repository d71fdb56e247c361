//! The served files, compressed at build time.

use std::{fmt::Write, io::Read};

use flate2::read::GzDecoder;
use kernel::problem::Problem;

/// A file.
#[derive(Debug)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content, compressed by gzip.
    pub gzip: &'static [u8],
}

macro_rules! file {
    ($name:literal, $media_type:literal) => {
        File {
            name: $name,
            media_type: $media_type,
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
        }
    };
}

/// The API's description.
pub static OPENAPI: File = file!("openapi.json", "application/json");

/// The same as OpenAPI 3.0.
pub static OPENAPI_3_0: File = file!("openapi-3.0.json", "application/json");

/// The files of the page: the viewer, Swagger UI, with its licence, and our own.
pub static FILES: [File; 7] = [
    file!("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    file!("swagger-ui.css", "text/css; charset=utf-8"),
    file!("favicon-32x32.png", "image/png"),
    file!("LICENSE", "text/plain; charset=utf-8"),
    file!("NOTICE", "text/plain; charset=utf-8"),
    file!("page.js", "text/javascript; charset=utf-8"),
    file!("page.css", "text/css; charset=utf-8"),
];

impl File {
    /// The file of the page with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FILES.iter().find(|file| file.name == name)
    }

    /// The file's version: its checksum and size, the last bytes of a gzip file (RFC 1952, section 2.3.1).
    pub fn version(&self) -> String {
        let tail = &self.gzip[self.gzip.len() - 8..];
        tail.iter().fold(String::new(), |mut version, byte| {
            // Writing to a string does not fail.
            _ = write!(version, "{byte:02x}");
            version
        })
    }

    /// The uncompressed content, for clients that do not accept gzip.
    pub fn plain(&self) -> Result<Vec<u8>, Problem> {
        let mut content = Vec::new();
        GzDecoder::new(self.gzip).read_to_end(&mut content).map_err(Problem::internal)?;
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_can_be_decompressed_and_is_smaller_compressed() {
        for file in FILES.iter().chain([&OPENAPI, &OPENAPI_3_0]) {
            let plain = file.plain().unwrap();
            assert!(!plain.is_empty(), "{}", file.name);
            let saves = file.gzip.len() < plain.len();
            assert!(saves || plain.len() < 1000, "{}: {}", file.name, plain.len());
        }
    }

    #[test]
    fn each_description_is_the_committed_one() {
        assert!(OPENAPI.plain().unwrap() == include_bytes!("../../../infra/openapi.json"));
        assert!(OPENAPI_3_0.plain().unwrap() == include_bytes!("../../../infra/openapi-3.0.json"));
    }

    #[test]
    fn every_file_has_a_version_of_its_own() {
        let mut versions: Vec<String> = FILES.iter().map(File::version).collect();
        versions.sort();
        versions.dedup();
        assert_eq!(versions.len(), FILES.len());
        assert!(versions.iter().all(|version| version.len() == 16), "{versions:?}");
    }

    #[test]
    fn the_viewer_comes_with_its_licence() {
        let licence = File::named("LICENSE").unwrap().plain().unwrap();
        assert!(String::from_utf8(licence).unwrap().contains("Apache License"));
    }
}
