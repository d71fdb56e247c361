//! Compresses what the function serves, once, so that no request has to.

#![allow(clippy::expect_used, reason = "a build stops if its input is not as expected")]

use std::{
    env, fs,
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::{CompressionMethod, ZipArchive};

/// The viewer's files that the page needs, with its licence.
const VIEWER: [&str; 5] =
    ["dist/swagger-ui-bundle.js", "dist/swagger-ui.css", "dist/favicon-32x32.png", "LICENSE", "NOTICE"];
/// Our own files.
const OURS: [&str; 4] =
    ["../../infra/openapi.json", "../../infra/openapi-3.0.json", "page/page.css", "page/page.js"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo says where"));
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("a zip");
    let first = archive.file_names().next().expect("a folder").expect("a name");
    let root = first.split('/').next().expect("its name").to_owned();
    for name in VIEWER {
        let index = archive.index_for_name(&format!("{root}/{name}")).expect(name);
        let mut entry = archive.by_index_raw(index).expect(name);
        let mut raw = Vec::new();
        entry.read_to_end(&mut raw).expect(name);
        let compressed = match entry.compression() {
            CompressionMethod::Stored => gzip(&raw),
            // A zip entry is a gzip file without head and tail, so it need not be compressed again.
            CompressionMethod::Deflated => {
                let size = u32::try_from(entry.size()).expect("a small file");
                let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
                [&head[..], &raw, &entry.crc32().to_le_bytes(), &size.to_le_bytes()].concat()
            }
            other => panic!("{name} is compressed by {other}"),
        };
        write(&out, name, &compressed);
    }
    for name in OURS {
        println!("cargo::rerun-if-changed={name}");
        write(&out, name, &gzip(&fs::read(name).expect(name)));
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=SWAGGER_UI={root}");
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn write(out: &Path, name: &str, content: &[u8]) {
    let name = Path::new(name).file_name().expect("a name").to_str().expect("plain letters");
    fs::write(out.join(format!("{name}.gz")), content).expect("the build's folder is writable");
}
