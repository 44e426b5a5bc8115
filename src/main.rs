//! The program: everything is in the library.

fn main() -> std::process::ExitCode {
    sprocket::cli::run()
}
