//! Whether a configuration can work on Lambda: what is fine for `up` on one machine may be nowhere there.

use std::net::IpAddr;

use reqwest::Url;
use sentinel_config::{Loaded, Settings};

/// What cannot work there, each with what to write instead.
pub(super) fn problems(loaded: &Loaded) -> Vec<String> {
    let settings = &loaded.settings;
    let mut found = vec![];
    for server in &settings.servers {
        let name = &server.name;
        if !server.command.is_empty() {
            found.push(format!(
                "mcp-servers: {name} is a program, which Lambda does not have: run it as a service of its own, and write `server-url: https://…` in place of `command`"
            ));
        }
        if server.url.as_ref().is_some_and(is_this_machine) {
            found.push(format!(
                "mcp-servers: {name} is on this machine, which is another one on Lambda: write the https address by which the worker reaches it (SubnetIds and SecurityGroupIds put it into your network), or remove the server"
            ));
        }
    }
    for watcher in settings.watchers.iter().filter(|watcher| is_this_machine(&watcher.endpoint)) {
        found.push(format!(
            "watchers: {} is on this machine, which is another one on Lambda: write the address by which the watcher reaches it (SubnetIds and SecurityGroupIds put it into your network)",
            watcher.name
        ));
    }
    for service in settings.models.services().filter(|service| is_this_machine(&service.base_url)) {
        found.push(format!(
            "{}: base-url is on this machine, which is another one on Lambda: write the address by which the worker reaches the model",
            service.name
        ));
    }
    if !takes_webhooks(loaded) {
        found.push(
            "ingest: nobody may post webhooks: write `bearer: [\"${secret:$SENTINEL_INGEST_SECRET}\"]` for the token that the stack makes, or say `allow-anonymous: true`".to_owned(),
        );
    }
    found
}

/// A credential that is yet to be read from the secret store is one.
fn takes_webhooks(loaded: &Loaded) -> bool {
    let Settings { ingest, unread_secrets, .. } = &loaded.settings;
    ingest.allow_anonymous
        || ingest.has_credentials()
        || unread_secrets.iter().any(|unread| unread.key.starts_with("ingest."))
}

fn is_this_machine(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Models that Amazon Bedrock is asked for, with the region that their service's address names.
pub(super) fn bedrock(settings: &Settings) -> Vec<(String, String)> {
    let models = sentinel_worker::models_of(settings);
    let region = |url: &Url| {
        let rest = url.host_str()?.strip_prefix("bedrock-runtime.")?;
        Some(rest.split('.').next()?.to_owned())
    };
    let asked = models.into_iter().filter_map(|model| {
        let service = settings.models.service(&model)?;
        Some((model.name, region(&service.base_url)?))
    });
    asked.collect()
}
