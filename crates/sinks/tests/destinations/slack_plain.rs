//! What Slack is asked not to do with texts from outside.

use sentinel_core::incident::{Event, State};
use sentinel_core::ports::Sink as _;
use sentinel_sinks::{Slack, SlackSettings};
use sentinel_testkit::slack::SlackServer;

use crate::support::{http, telling};

#[tokio::test]
async fn no_message_is_parsed_linked_or_unfurled() {
    let server = SlackServer::start("xoxb-1", &["oncall"], []).await;
    let settings = SlackSettings {
        api: server.api().parse().unwrap(),
        token: "xoxb-1".into(),
        channel: "oncall".into(),
    };
    let sink = Slack::new(settings, http());
    let mut parent = None;
    let told = [
        (Event::Started, State::Running),
        (Event::Findings, State::Done),
        (Event::Updated, State::Done),
        (Event::Resolved, State::Done),
    ];
    for (event, state) in told {
        parent = sink
            .tell(&sentinel_core::ports::Telling { parent, ..telling(event, state) })
            .await
            .unwrap()
            .remote;
    }
    let written: Vec<_> =
        server.calls().into_iter().filter(|(_, body)| body.get("blocks").is_some()).collect();
    assert!(written.len() >= told.len(), "{written:#?}");
    for (method, body) in written {
        assert_eq!(
            body["parse"], "none",
            "{method}: names and addresses in it would become mentions and links"
        );
        assert_eq!(body["link_names"], false, "{method}");
        for unfurls in ["unfurl_links", "unfurl_media"] {
            assert_eq!(body[unfurls], false, "{method}: {unfurls}");
        }
    }
}
