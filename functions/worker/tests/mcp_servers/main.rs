//! What MCP servers do in practice, and what becomes of it: of their list of tools, of a call, and, where the model's own
//! service calls them, of what it shows. One table, which this prints:
//!
//! ```sh
//! cargo nextest run -p sentinel-worker -E 'test(behaviours)' --no-capture
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test part that cannot do its work fails the test"
)]
#![expect(clippy::print_stdout, reason = "it prints a table")]

mod connections;
mod contents;
mod support;

use std::time::Duration;

use futures::future::join_all;

use connections::{handshakes, programs, redirects, sessions};
use contents::{odd_lists, odd_outputs, odd_streams};
use support::*;

#[tokio::test]
async fn the_table_of_server_behaviours() {
    let mut table = Table(Vec::new());
    sessions(&mut table).await;
    handshakes(&mut table).await;
    odd_lists(&mut table).await;
    odd_outputs(&mut table).await;
    odd_streams(&mut table).await;
    redirects(&mut table).await;
    programs(&mut table).await;
    let wrong = table.print();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server that is replaced, again and again, while it is in use.
#[tokio::test]
async fn callers_of_a_server_that_goes_away_for_a_moment_all_have_their_answer() {
    let server = builder().start().await;
    let servers = at(&server.url(), LONG);
    let (_, before) = both(&servers).await;
    assert_eq!(before, SAID);
    for _ in 0..3 {
        server.go_away().await;
        let back = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.come_back().await;
        };
        let (all, ()) = futures::join!(join_all((0..4).map(|_| both(&servers))), back);
        assert!(all.iter().all(|(list, call)| list == GOOD && call == SAID), "{all:?}");
    }
}
