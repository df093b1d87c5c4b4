//! todo
pub(crate) fn run(_: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}
