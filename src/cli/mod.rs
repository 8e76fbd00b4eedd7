//! cli
mod output;
pub mod query;
pub mod screen;
pub mod status;
pub mod tables;
/// x
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
