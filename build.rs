//! Finds the system's libav through pkg-config, compiles the C shim, binds it.
//!
//! When a library is missing or too old the build stops with one message that names the package to
//! install. `make setup` installs them all.

use std::env;
use std::path::PathBuf;

/// Library, oldest version that works (FFmpeg 5.1), package on Debian, package on Fedora.
const LIBRARIES: [(&str, &str, &str, &str); 6] = [
    ("libavutil", "57.28", "libavutil-dev", "libavutil-free-devel"),
    ("libavcodec", "59.37", "libavcodec-dev", "libavcodec-free-devel"),
    ("libavformat", "59.27", "libavformat-dev", "libavformat-free-devel"),
    ("libavfilter", "8.44", "libavfilter-dev", "libavfilter-free-devel"),
    ("libswscale", "6.7", "libswscale-dev", "libswscale-free-devel"),
    ("libswresample", "4.7", "libswresample-dev", "libswresample-free-devel"),
];

fn main() {
    println!("cargo:rerun-if-changed=ffi/shim.c");
    println!("cargo:rerun-if-changed=ffi/shim.h");
    let includes = match find_libav() {
        Ok(includes) => includes,
        Err(message) => {
            eprintln!("\n{message}\n");
            std::process::exit(1);
        }
    };
    compile_shim(&includes);
    bind_shim(&includes);
}

fn find_libav() -> Result<Vec<PathBuf>, String> {
    let mut includes = Vec::new();
    let mut faults = Vec::new();
    for (name, oldest, debian, fedora) in LIBRARIES {
        match pkg_config::Config::new().atleast_version(oldest).probe(name) {
            Ok(library) => includes.extend(library.include_paths),
            Err(pkg_config::Error::Command { .. }) => return Err(no_pkg_config()),
            Err(_) => faults.push((name, oldest, debian, fedora)),
        }
    }
    if faults.is_empty() { Ok(includes) } else { Err(explain(&faults)) }
}

fn explain(faults: &[(&str, &str, &str, &str)]) -> String {
    let mut message =
        String::from("sprocket needs the development files of FFmpeg 5.1 or newer. Missing or too old:\n");
    for (name, oldest, ..) in faults {
        let found = match pkg_config::Config::new().cargo_metadata(false).probe(name) {
            Ok(library) => format!("found {}", library.version),
            Err(_) => "not found".into(),
        };
        message += &format!("  {name} >= {oldest} ({found})\n");
    }
    let debian: Vec<_> = faults.iter().map(|f| f.2).collect();
    let fedora: Vec<_> = faults.iter().map(|f| f.3).collect();
    message += &format!("On Debian or Ubuntu:  sudo apt-get install {}\n", debian.join(" "));
    message += &format!("On Fedora:            sudo dnf install {}\n", fedora.join(" "));
    message
        + "(with RPM Fusion's full FFmpeg: sudo dnf install ffmpeg-devel). `make setup` does this for you."
}

fn no_pkg_config() -> String {
    "sprocket finds libav through pkg-config, which is not installed.\n\
     On Debian or Ubuntu:  sudo apt-get install pkg-config\n\
     On Fedora:            sudo dnf install pkgconf-pkg-config"
        .into()
}

fn compile_shim(includes: &[PathBuf]) {
    cc::Build::new().file("ffi/shim.c").includes(includes).std("c11").warnings(true).compile("sprocket_shim");
}

fn bind_shim(includes: &[PathBuf]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("shim.rs");
    bindgen::Builder::default()
        .header("ffi/shim.h")
        .clang_args(includes.iter().map(|p| format!("-I{}", p.display())))
        .allowlist_item("sprocket_.*")
        .layout_tests(false)
        .generate()
        .expect("bindgen reads ffi/shim.h")
        .write_to_file(out)
        .expect("OUT_DIR is writable");
}
