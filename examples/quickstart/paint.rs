//! Colour, where somebody looks at a terminal.

use std::{env, io::IsTerminal};

#[derive(Clone, Copy)]
pub enum Colour {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

#[derive(Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// On for a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn for_stdout() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint { on: wanted && std::io::stdout().is_terminal() }
    }

    pub fn colour(self, colour: Colour, text: &str) -> String {
        if self.on { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }

    /// A count in a column of this width, coloured where it is not zero.
    pub fn unless_zero(self, colour: Colour, count: usize, width: usize) -> String {
        let text = format!("{count:>width$}");
        if count == 0 { text } else { self.colour(colour, &text) }
    }
}
