//! HTTP request to intake to response.
