//! What is wrong with a card's parts, found when they are compiled.

/// Which part of a card a problem is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Its prompt.
    Prompt,
    /// Its n-th evidence call, from 0.
    Evidence(usize),
    /// Its n-th checklist rule, from 0.
    Rule(usize),
    /// Its n-th policy rule, from 0.
    Policy(usize),
    /// An example of its n-th policy rule: the m-th of those that have to be allowed, from 0.
    Allowed(usize, usize),
    /// The same of those that have to be denied.
    Denied(usize, usize),
}

/// Something in a card that does not compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompileProblem {
    /// Where in the card.
    pub part: Part,
    /// The line within that part's text, from 1, where it is known.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}
