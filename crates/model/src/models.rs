//! All models that can be asked: each service by its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::{FIRST_SERVICE, ModelId};
use sentinel_http::HttpClient;
use sentinel_investigation::ports::{Api, Model, ModelError, TurnRequest, TurnResponse};

use crate::hosted::HostedSpec;
use crate::service::{Service, ServiceSettings};

/// The services of the configuration, by their names.
#[derive(Debug)]
pub struct Services(BTreeMap<String, Service>);

impl Services {
    /// The services as `settings` describe them, called through `http`. The first of the configuration calls the `hosted`
    /// servers, where it speaks the Responses API. Fails where an address may not be called or a key cannot be a header.
    /// Nothing is loaded or called yet.
    pub fn new(
        settings: Vec<ServiceSettings>,
        mut hosted: Vec<HostedSpec>,
        http: &Arc<HttpClient>,
    ) -> Result<Self, ModelError> {
        let services = settings.into_iter().map(|settings| {
            let hosts = settings.name == FIRST_SERVICE && settings.api == Api::Responses;
            let hosted = if hosts { std::mem::take(&mut hosted) } else { Vec::new() };
            Ok((settings.name.clone(), Service::new(settings, hosted, Arc::clone(http))?))
        });
        Ok(Self(services.collect::<Result<_, ModelError>>()?))
    }
}

#[async_trait]
impl Model for Services {
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError> {
        let ModelId { service, .. } = &request.model;
        match self.0.get(service) {
            Some(service) => service.respond(request, within).await,
            None => Err(ModelError::Refused(format!("there is no service {service} that can be asked"))),
        }
    }

    fn hosts(&self, model: &ModelId, server: &str) -> Option<String> {
        self.0.get(&model.service)?.hosts(server)
    }

    fn left_alone(&self) -> Vec<(ModelId, bool)> {
        let of = |(service, asked): (&String, &Service)| {
            let service = service.clone();
            let id = move |(name, left_alone)| (ModelId { service: service.clone(), name }, left_alone);
            asked.left_alone().into_iter().map(id).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}
