//! The addresses that a watcher asks, from what the configuration says.

use sentinel_config::WatcherKind;
use url::Url;

/// The addresses of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Addresses {
    /// Where the alerts are.
    pub(crate) alerts: Url,
    /// Where the server says when it was started.
    pub(crate) status: Url,
}

/// People write a server's address with and without its API's path, with and without a slash at the end; some stand
/// behind a prefix. All of these mean the same: `http://p:9090`, `http://p:9090/`, `http://p:9090/api/v1`,
/// `http://p:9090/api/v1/alerts`. A query stays as it is.
pub(crate) fn addresses(kind: WatcherKind, endpoint: &Url) -> Addresses {
    let written = endpoint.path().trim_end_matches('/');
    let written = written.strip_suffix("/alerts").unwrap_or(written).trim_end_matches('/');
    let prefix = ["/api/v1", "/api/v2", "/api"]
        .iter()
        .find_map(|api| written.strip_suffix(api))
        .unwrap_or(written)
        .trim_end_matches('/');
    let at = |path: &str| {
        let mut url = endpoint.clone();
        url.set_path(&format!("{prefix}{path}"));
        url.set_fragment(None);
        url
    };
    match kind {
        WatcherKind::Prometheus => {
            Addresses { alerts: at("/api/v1/alerts"), status: at("/api/v1/status/runtimeinfo") }
        }
        WatcherKind::Alertmanager => Addresses { alerts: at("/api/v2/alerts"), status: at("/api/v2/status") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts(kind: WatcherKind, endpoint: &str) -> String {
        addresses(kind, &Url::parse(endpoint).unwrap()).alerts.to_string()
    }

    #[test]
    fn every_way_to_write_a_server_means_its_alerts() {
        for tail in ["", "/", "/api/v1", "/api/v1/", "/api/v1/alerts", "/api/v1/alerts/", "/api"] {
            let endpoint = format!("http://prom:9090{tail}");
            assert_eq!(
                alerts(WatcherKind::Prometheus, &endpoint),
                "http://prom:9090/api/v1/alerts",
                "{tail}"
            );
            let endpoint = format!("https://host/behind/am{tail}");
            assert_eq!(
                alerts(WatcherKind::Alertmanager, &endpoint),
                "https://host/behind/am/api/v2/alerts",
                "{tail}"
            );
        }
    }

    #[test]
    fn a_query_stays() {
        let given = "https://host/prometheus/api/v1/?key=k#top";
        assert_eq!(alerts(WatcherKind::Prometheus, given), "https://host/prometheus/api/v1/alerts?key=k");
    }
}
