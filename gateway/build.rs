//! Lists the files of the built web client for `src/web.rs`, or one page in their place.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const PLACEHOLDER: &str = "web/placeholder.html";

fn main() {
    #[expect(clippy::disallowed_methods, reason = "how Cargo talks to build scripts")]
    let from_cargo = |name: &str| PathBuf::from(env::var_os(name).unwrap_or_default());
    let here = from_cargo("CARGO_MANIFEST_DIR");
    let dist = here.join("../client-web/dist");
    // Cargo runs this again at each build while the folder is missing; an empty one is harmless.
    if here.join("../client-web").is_dir() {
        let _ = fs::create_dir_all(&dist);
    }
    println!("cargo:rerun-if-changed={}", dist.display());
    println!("cargo:rerun-if-changed={PLACEHOLDER}");

    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        walk(&dist, &dist, &mut files);
    } else {
        files.push(("/index.html".to_owned(), here.join(PLACEHOLDER)));
    }
    files.sort();
    let list: String = files.iter().map(|(path, file)| line(path, file)).collect();
    let source = format!("static ASSETS: &[Asset] = &[\n{list}];\n");
    fs::write(from_cargo("OUT_DIR").join("assets.rs"), source).expect("Cargo's output folder is writable");
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.path();
        if file.is_dir() {
            walk(root, &file, files);
        } else if let Ok(relative) = file.strip_prefix(root) {
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            files.push((format!("/{}", parts.join("/")), file));
        }
    }
}

fn line(path: &str, file: &Path) -> String {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    format!("    Asset {{ path: {path:?}, kind: {:?}, bytes: include_bytes!({file:?}) }},\n", kind(&file))
}

fn kind(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
