//! What every broker goes through.
