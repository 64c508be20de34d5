//! The Responses API (`POST /responses`). Its answers are read as raw JSON: async-openai's typed output item has no
//! catch-all, and one item of a kind that it does not know would lose a paid answer.

pub(crate) mod answer;
pub(crate) mod request;
