//! The body of an answer, up to a bound: a server must not fill the memory.

use reqwest::Response;

use crate::HttpError;

/// Reads an answer's body.
///
/// # Errors
/// [`HttpError::TooLarge`] where it has more than `most` bytes, and whatever happens to the connection on the way.
pub async fn read_body(mut answer: Response, most: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| HttpError::from(&e))? {
        if body.len().saturating_add(chunk.len()) > most {
            return Err(HttpError::TooLarge { most });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
