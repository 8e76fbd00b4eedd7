//! cli
mod output;
pub mod query;
pub mod tables;
/// x
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
