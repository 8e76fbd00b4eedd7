//! Signing in: one [`Session`] for each account, with one client for each service and region, made once and shared, so that
//! credentials are fetched once and not for each call.
//!
//! The SDK tries nothing again here: retries, budgets and deadlines are layers around us. That also keeps clear of the
//! SDK's own retry quota, which all accounts of a region would share.

use std::collections::HashMap;
use std::sync::Arc;

use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::config::Region;
use aws_sdk_ec2::types::Filter;
use parking_lot::Mutex;

use super::config::{Account, Config, Endpoints};
use super::error::{Answered, failed};
use crate::{ErrorKind, Result};

/// Asked which regions there are where neither the file nor the environment names a region.
const HOME: &str = "us-east-1";
/// The Price List answers in few regions; which one is asked does not matter for what it knows.
const PRICING: &str = "us-east-1";

/// An account that is signed in to; cloning shares it.
#[derive(Clone)]
pub(super) struct Session(Arc<Inner>);

struct Inner {
    id: String,
    home: Region,
    sdk: SdkConfig,
    endpoints: Endpoints,
    named_regions: Option<Vec<String>>,
    exclude_regions: Vec<String>,
    ec2: Mutex<HashMap<String, aws_sdk_ec2::Client>>,
    cloudwatch: Mutex<HashMap<String, aws_sdk_cloudwatch::Client>>,
}

/// A region as the account has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    /// Whether the account has opted in to it, or needs not to.
    pub(super) enabled: bool,
}

impl Session {
    /// Signs in to an account of `config`. AWS is asked who we are only if the file does not say.
    ///
    /// # Errors
    /// [`ErrorKind::Auth`] if no credentials can be had or AWS does not accept them.
    pub(super) async fn sign_in(config: &Config, account: &Account) -> Result<Self> {
        if let Some(identity) = &account.web_identity
            && let Err(error) = tokio::fs::metadata(&identity.token_file).await
        {
            let reason = format!("the token file {} cannot be read: {error}", identity.token_file.display());
            return Err(failed(ErrorKind::Auth, "sign in to", account.label(), reason));
        }
        let sdk = credentials(config, account).await;
        let home = sdk.region().cloned().unwrap_or(Region::from_static(HOME));
        let endpoints = config.endpoints.clone();
        let id = match account.assumed_id() {
            Some(id) => id.to_owned(),
            None => signed_in_to(&sdk, &endpoints, account).await?,
        };
        Ok(Self(Arc::new(Inner {
            id,
            home,
            sdk,
            endpoints,
            named_regions: config.named_regions(account).map(<[_]>::to_vec),
            exclude_regions: config.exclude_regions.clone(),
            ec2: Mutex::default(),
            cloudwatch: Mutex::default(),
        })))
    }

    /// The account's id, 12 digits.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// The only region that the file names, where things are made that nobody named a region for.
    pub(super) fn only_region(&self) -> Option<&str> {
        match self.0.named_regions.as_deref() {
            Some([only]) => Some(only),
            _ => None,
        }
    }

    /// The regions that the file names, without those that it excludes.
    pub(super) fn named_regions(&self) -> Option<Vec<String>> {
        let named = self.0.named_regions.as_ref()?;
        Some(named.iter().filter(|region| !self.excludes(region)).cloned().collect())
    }

    /// Whether the file excludes a region.
    pub(super) fn excludes(&self, region: &str) -> bool {
        self.0.exclude_regions.iter().any(|excluded| excluded == region)
    }

    /// EC2 in a region.
    pub(super) fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        let mut clients = self.0.ec2.lock();
        clients
            .entry(region.to_owned())
            .or_insert_with(|| {
                let builder = aws_sdk_ec2::config::Builder::from(&self.0.sdk);
                let mut builder = builder.region(Region::new(region.to_owned()));
                if let Some(endpoint) = &self.0.endpoints.ec2 {
                    builder = builder.endpoint_url(endpoint);
                }
                aws_sdk_ec2::Client::from_conf(builder.build())
            })
            .clone()
    }

    /// CloudWatch in a region.
    pub(super) fn cloudwatch(&self, region: &str) -> aws_sdk_cloudwatch::Client {
        let mut clients = self.0.cloudwatch.lock();
        clients
            .entry(region.to_owned())
            .or_insert_with(|| {
                let builder = aws_sdk_cloudwatch::config::Builder::from(&self.0.sdk);
                let mut builder = builder.region(Region::new(region.to_owned()));
                if let Some(endpoint) = &self.0.endpoints.cloudwatch {
                    builder = builder.endpoint_url(endpoint);
                }
                aws_sdk_cloudwatch::Client::from_conf(builder.build())
            })
            .clone()
    }

    /// The Price List, which knows all regions.
    pub(super) fn pricing(&self) -> aws_sdk_pricing::Client {
        let builder =
            aws_sdk_pricing::config::Builder::from(&self.0.sdk).region(Region::from_static(PRICING));
        let builder = match &self.0.endpoints.pricing {
            Some(endpoint) => builder.endpoint_url(endpoint),
            None => builder,
        };
        aws_sdk_pricing::Client::from_conf(builder.build())
    }

    /// The regions to look into: those that the file names, else all that the account may use; never the excluded ones.
    ///
    /// # Errors
    /// Those of `DescribeRegions`.
    pub(super) async fn regions(&self) -> Result<Vec<String>> {
        let mut regions = match self.named_regions() {
            Some(named) => named,
            None => {
                let all = self.all_regions().await?.into_iter();
                let usable = all.filter(|region| region.enabled && !self.excludes(&region.name));
                usable.map(|region| region.name).collect()
            }
        };
        regions.sort_unstable();
        regions.dedup();
        Ok(regions)
    }

    /// All regions that there are for this account, also those that it has not opted in to.
    ///
    /// # Errors
    /// Those of `DescribeRegions`.
    pub(super) async fn all_regions(&self) -> Result<Vec<Found>> {
        let answer = self.ec2(self.0.home.as_ref()).describe_regions().all_regions(true).send().await;
        let answer = answer.answered("list the regions of", self.id())?;
        let found = answer.regions.unwrap_or_default().into_iter().filter_map(|region| {
            let enabled = region.opt_in_status.as_deref() != Some("not-opted-in");
            Some(Found { name: region.region_name?, enabled })
        });
        Ok(found.collect())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.0.id).finish_non_exhaustive()
    }
}

/// The account that the credentials are of, which has to be the one that the file says: what is read is told of, and what
/// is made is paid for, under that name.
async fn signed_in_to(sdk: &SdkConfig, endpoints: &Endpoints, account: &Account) -> Result<String> {
    // Nothing else is asked in this way, so that no quota of retries is shared.
    let mut builder = aws_sdk_sts::config::Builder::from(sdk).retry_config(RetryConfig::standard());
    if let Some(endpoint) = &endpoints.sts {
        builder = builder.endpoint_url(endpoint);
    }
    let sts = aws_sdk_sts::Client::from_conf(builder.build());
    let answer = sts.get_caller_identity().send().await.answered("sign in to", account.label())?;
    let refused = |kind, reason: String| failed(kind, "sign in to", account.label(), reason);
    let id = answer
        .account
        .ok_or_else(|| refused(ErrorKind::Unavailable, "AWS did not say which account it is".into()))?;
    match &account.id {
        Some(expected) if *expected != id => {
            let reason = format!("the credentials are those of account {id}, and the file says {expected}");
            Err(refused(ErrorKind::Denied, reason))
        }
        _ => Ok(id),
    }
}

/// The credentials of an account, as the way in and then the roles, each taken on with the rights of the one before.
async fn credentials(config: &Config, account: &Account) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.request_timeout.0.min(std::time::Duration::from_secs(5)))
        .operation_attempt_timeout(config.request_timeout.0)
        .operation_timeout(config.request_timeout.0)
        .build();
    // What the file says comes first: the environment of a machine outside AWS is asked over the network, in vain.
    let named = config.named_regions(account).and_then(|named| named.first().cloned());
    let home = config.home_region.clone().or(named).map(Region::new);
    let home = RegionProviderChain::first_try(home).or_default_provider();
    let region = home.or_else(Region::from_static(HOME)).region().await;
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.clone());
    if let Ok(name) = AppName::new("barograph") {
        loader = loader.app_name(name);
    }
    if let Some(profile) = &account.profile {
        // The default chain would take keys that the environment has before a profile that the file names.
        let provider = ProviderConfig::default()
            .with_region(region.clone())
            .with_retry_config(RetryConfig::standard())
            .with_timeout_config(timeouts.clone());
        let provider =
            ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let (Some(id), Some(secret)) = (&account.access_key_id, &account.secret_access_key) {
        let token = account.session_token.as_ref().map(|token| token.expose().to_owned());
        loader = loader.credentials_provider(Credentials::new(id, secret.expose(), token, None, "file"));
    }
    let mut sdk = loader.load().await;
    if let Some(identity) = &account.web_identity {
        let provider = WebIdentityTokenCredentialsProvider::builder()
            .configure(&ProviderConfig::default().with_region(region).with_timeout_config(timeouts))
            .static_configuration(StaticConfiguration {
                web_identity_token_file: identity.token_file.clone(),
                role_arn: identity.role.clone(),
                session_name: "barograph".into(),
            })
            .build();
        sdk = with(sdk, SharedCredentialsProvider::new(provider));
    }
    for role in &account.roles {
        let Some(before) = sdk.credentials_provider() else { continue };
        let through = match &config.endpoints.sts {
            Some(endpoint) => sdk.clone().into_builder().endpoint_url(endpoint).build(),
            None => sdk.clone(),
        };
        let mut builder =
            AssumeRoleProvider::builder(&role.arn).session_name(&role.session_name).configure(&through);
        if let Some(id) = &role.external_id {
            builder = builder.external_id(id.expose());
        }
        let provider = builder.build_from_provider(before).await;
        sdk = with(sdk, SharedCredentialsProvider::new(provider));
    }
    sdk
}

fn with(sdk: SdkConfig, provider: SharedCredentialsProvider) -> SdkConfig {
    sdk.into_builder().credentials_provider(provider).build()
}

/// A filter of the `Describe` calls.
pub(super) fn filter(name: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().map(Into::into).collect())).build()
}
