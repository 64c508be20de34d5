//! Characters that change how the text around them is shown: the one list of them, for the log, the terminal and the sinks.

/// Whether `c` could forge a line, turn the direction of writing or drive a terminal: control characters, separators of
/// lines and paragraphs, and the marks of bidirectional text (Unicode Standard Annex 9, "Directional Formatting
/// Characters"). All of them are below U+10000.
pub fn changes_the_display(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
