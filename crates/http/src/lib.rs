//! The one HTTP client: roots loaded once, addresses checked and pinned, no redirects, no proxy but the configured one.
//!
//! Everything that leaves Sentinel by HTTP goes through [`HttpClient`]. Where it may go is the operator's
//! [`AddressPolicy`]: https, and never a private address, except for hosts that the configuration names.

mod address;
mod body;
mod characters;
mod client;
mod error;
mod proxy;
mod redirect;
mod retry_after;

pub use address::AddressPolicy;
pub use body::read_body;
pub use characters::whole_characters;
pub use client::HttpClient;
pub use error::HttpError;
pub use proxy::Proxy;
pub use redirect::Redirected;
pub use reqwest::dns;
pub use retry_after::retry_after;
pub use url::{Url, form_urlencoded};
