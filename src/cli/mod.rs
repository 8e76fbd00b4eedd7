//! cli
pub mod logging;
pub mod run;
pub mod screen;
pub mod status;
/// x
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
