//! What an `aws` source takes in the pipeline file, and what its instances are managed with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::{BilledBy, Budget, Quotas};
use super::wanted::{self, GROUPS, Metric, SettleBy};
use crate::model::{Secret, Span, Table};
use crate::suggest::closest;

/// Measures and manages the instances and volumes of AWS accounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The accounts and how to sign in to each; the one that the environment signs in to, if left out.
    pub accounts: Vec<Account>,
    /// Regions to look into; all that the account may use, if left out.
    pub regions: Vec<String>,
    /// Regions to leave out.
    pub exclude_regions: Vec<String>,
    /// The region that is asked which others there are, and that roles are taken on in; if left out the first of `regions`,
    /// else the environment's, else `us-east-1`.
    pub home_region: Option<String>,
    /// Addresses to use in place of AWS's own, as of interface endpoints in a VPC.
    pub endpoints: Endpoints,
    /// Longest time of one request.
    pub request_timeout: Span,
    /// Finest time between two values; as fine as a resource has them, if left out.
    pub resolution: Option<Span>,
    /// Groups of built-in metrics that are asked for.
    pub groups: Vec<String>,
    /// Filters of DescribeInstances, as `"tag:env": [prod]`: only these instances are measured.
    pub filters: BTreeMap<String, Vec<String>>,
    /// Tags of instances that become columns `tag_<name>`.
    pub tags: Vec<String>,
    /// Metrics beside the built-in ones.
    pub metrics: Vec<Metric>,
    /// How often it is looked which instances there are; that is not billed.
    pub inventory_every: Span,
    /// How often metrics of namespaces without an inventory are listed.
    pub list_every: Span,
    /// How it is told that a value will not change any more.
    pub settle_by: SettleBy,
    /// How AWS is taken to count statistics.
    pub billed_by: BilledBy,
    /// What may be spent.
    pub budget: Option<Budget>,
    /// Part of the account's quotas that is used, 0 to 1.
    pub quota_share: f64,
    /// The account's quotas, where AWS has raised them.
    pub quotas: Quotas,
}

/// One account and how to sign in to it. With nothing but a name it is the SDK's default chain: environment, shared
/// configuration, web identity, container, instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// Name for people.
    pub name: Option<String>,
    /// The account's id, 12 digits. Where it is left out, it is that of the last role, or AWS is asked.
    pub id: Option<String>,
    /// A profile of the shared configuration files; it may sign in by SSO.
    pub profile: Option<String>,
    /// An access key, with `secret_access_key`.
    pub access_key_id: Option<String>,
    /// The secret part of the access key.
    pub secret_access_key: Option<Secret>,
    /// The session that a temporary access key belongs to.
    pub session_token: Option<Secret>,
    /// A role that is taken on with a token of another identity provider, as in Kubernetes.
    pub web_identity: Option<WebIdentity>,
    /// Roles that are taken on one after the other, each with the rights of the one before.
    pub roles: Vec<Role>,
    /// Regions of this account, in place of the source's.
    pub regions: Option<Vec<String>>,
    /// It is a monitoring account of CloudWatch: what the accounts linked to it have is measured as well.
    pub linked_accounts: bool,
}

/// A role that is taken on with a token in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebIdentity {
    /// The file with the token; read again whenever it is needed.
    pub token_file: PathBuf,
    /// ARN of the role.
    pub role: String,
}

/// A role to be taken on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// ARN of the role.
    pub arn: String,
    /// What the role's trust policy asks for beside the identity.
    #[serde(default)]
    pub external_id: Option<Secret>,
    /// Name of the session in the account's trail.
    #[serde(default = "session_name")]
    pub session_name: String,
}

/// Addresses in place of AWS's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Address of EC2.
    pub ec2: Option<String>,
    /// Address of CloudWatch.
    pub cloudwatch: Option<String>,
    /// Address of the Security Token Service.
    pub sts: Option<String>,
    /// Address of the Price List.
    pub pricing: Option<String>,
}

impl Endpoints {
    fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { ec2, cloudwatch, sts, pricing } = self;
        let all = [("ec2", ec2), ("cloudwatch", cloudwatch), ("sts", sts), ("pricing", pricing)];
        all.into_iter().filter_map(|(name, address)| Some((name, address.as_deref()?)))
    }
}

fn session_name() -> String {
    "barograph".into()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            regions: Vec::new(),
            exclude_regions: Vec::new(),
            home_region: None,
            endpoints: Endpoints::default(),
            request_timeout: Span::seconds(20),
            resolution: None,
            groups: vec!["basic".into()],
            filters: BTreeMap::new(),
            tags: Vec::new(),
            metrics: Vec::new(),
            inventory_every: Span::seconds(300),
            list_every: Span::seconds(1_800),
            settle_by: SettleBy::default(),
            billed_by: BilledBy::default(),
            budget: None,
            quota_share: 0.8,
            quotas: Quotas::default(),
        }
    }
}

impl Config {
    /// The accounts; the default chain's own where none is named.
    pub fn all_accounts(&self) -> Vec<Account> {
        if self.accounts.is_empty() { vec![Account::default()] } else { self.accounts.clone() }
    }

    /// The regions of an account that the file names; `None` if they are to be found out.
    pub fn named_regions<'a>(&'a self, account: &'a Account) -> Option<&'a [String]> {
        let named = account.regions.as_deref().unwrap_or(&self.regions);
        (!named.is_empty()).then_some(named)
    }

    /// What is wrong with it: key and reason; what would be right comes behind a semicolon. No value of a key that may be
    /// secret is repeated.
    pub fn wrong(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for account in &self.accounts {
            wrong.extend(account.wrong().map(|reason| ("accounts", reason)));
        }
        let mut ids = BTreeMap::new();
        for id in self.accounts.iter().filter_map(Account::known_id) {
            *ids.entry(id).or_insert(0) += 1;
        }
        if let Some((id, _)) = ids.iter().find(|(_, count)| **count > 1) {
            wrong.push(("accounts", format!("account {id} is named twice; leave one of them out")));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.accounts.iter().map(Account::label).find(|name| !names.insert(*name)) {
            wrong.push(("accounts", format!("two accounts are called {twice}; give each a name of its own")));
        }
        for (name, address) in self.endpoints.all() {
            let host = address.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme));
            if !host.is_some_and(|(_, host)| !host.is_empty() && !host.contains(char::is_whitespace)) {
                wrong.push((
                    "endpoints",
                    format!("{name} is no address; write for example https://vpce-1.example"),
                ));
            }
        }
        if self.filters.iter().any(|(name, values)| name.is_empty() || values.is_empty()) {
            wrong.push((
                "filters",
                "each needs a name and values; write for example \"tag:env\": [prod]".into(),
            ));
        }
        let regions = self.accounts.iter().filter_map(|account| account.regions.as_ref()).flatten();
        for region in regions.chain(&self.regions).chain(&self.exclude_regions).chain(&self.home_region) {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if region.is_empty() || !region.chars().all(good) {
                wrong.push(("regions", format!("{region:?} is no region; write for example eu-west-1")));
            }
        }
        wrong.extend(self.wrong_telemetry());
        wrong
    }

    fn wrong_telemetry(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for group in self.groups.iter().filter(|group| !GROUPS.contains(&group.as_str())) {
            let meant = closest(group, GROUPS).map_or_else(
                || format!("there are {}", GROUPS.join(", ")),
                |meant| format!("did you mean {meant}?"),
            );
            wrong.push(("groups", format!("there is no group {group:?}; {meant}")));
        }
        let metrics = wanted::wrong(&self.metrics, &self.groups, self.settle_by, self.resolution);
        wrong.extend(metrics.into_iter().map(|reason| ("metrics", reason)));
        wrong.extend(wanted::twice(&self.tags, Self::column).map(|reason| ("tags", reason)));
        if let Some(bad) = self.tags.iter().find(|tag| !Table::is_name(&Self::column(tag))) {
            wrong.push(("tags", format!("{bad:?} makes no name of a column; leave it out")));
        }
        if self.resolution.is_some_and(|finest| finest.0.as_secs() < 60 || finest.0.as_secs() % 60 != 0) {
            wrong.push(("resolution", "it must be whole minutes; write for example 1m or 5m".into()));
        }
        wrong.extend(self.budget.and_then(|budget| budget.wrong()).map(|reason| ("budget", reason)));
        if !(self.quota_share > 0.0 && self.quota_share <= 1.0) {
            wrong.push(("quota_share", "it must be above 0 and at most 1; write for example 0.8".into()));
        }
        let Quotas { get_metric_data, list_metrics, recent_datapoints, old_datapoints, describe } =
            self.quotas;
        let quotas = [get_metric_data, list_metrics, recent_datapoints, old_datapoints, describe];
        if !quotas.iter().all(|quota| quota.is_finite() && *quota > 0.0) {
            wrong.push(("quotas", "each must be above 0; leave out what AWS has not raised".into()));
        }
        wrong
    }

    /// The tables that its metrics make beside those that are built in.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        wanted::tables(&self.metrics).into_iter().flatten().map(|(_, table)| table).collect()
    }

    /// The column of a tag of instances.
    pub(super) fn column(tag: &str) -> String {
        let good = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        format!("tag_{}", tag.chars().map(good).collect::<String>())
    }
}

impl Account {
    /// The account's id where it is known without asking: written down, or that of the last role.
    pub fn known_id(&self) -> Option<&str> {
        self.id.as_deref().or_else(|| self.assumed_id())
    }

    /// The id of the account whose role is taken on last; whoever has that role is in that account.
    pub(super) fn assumed_id(&self) -> Option<&str> {
        let role = self.roles.last().map(|role| &role.arn);
        let role = role.or(self.web_identity.as_ref().map(|identity| &identity.role));
        role.and_then(|arn| arn.split(':').nth(4)).filter(|id| is_account(id))
    }

    /// What the account is called in logs: its name, id or profile.
    pub fn label(&self) -> &str {
        let names = [self.name.as_deref(), self.known_id(), self.profile.as_deref()];
        names.into_iter().flatten().next().unwrap_or("the environment's account")
    }

    fn wrong(&self) -> Option<String> {
        let label = self.label();
        let ways = [self.profile.is_some(), self.access_key_id.is_some(), self.web_identity.is_some()];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Some(format!(
                "{label} signs in in more than one way; keep one of profile, access_key_id and web_identity"
            ));
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Some(format!(
                "{label} has half an access key; write access_key_id and secret_access_key"
            ));
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            return Some(format!(
                "{label} has a session_token alone; write the access key that it belongs to"
            ));
        }
        if self.id.as_deref().is_some_and(|id| !is_account(id)) {
            return Some(format!("the id of {label} is not 12 digits; write for example 123456789012"));
        }
        let roles = self.roles.iter().map(|role| &role.arn);
        let mut arns = roles.chain(self.web_identity.as_ref().map(|identity| &identity.role));
        if !arns.all(|arn| is_role(arn)) {
            let example = "arn:aws:iam::123456789012:role/barograph";
            return Some(format!("a role of {label} is no ARN of a role; write for example {example}"));
        }
        if let (Some(id), Some(assumed)) = (self.id.as_deref(), self.assumed_id())
            && id != assumed
        {
            return Some(format!(
                "the id of {label} is {id}, and its last role is of {assumed}; leave one out"
            ));
        }
        let session = |name: &str| {
            (2..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
        };
        if !self.roles.iter().all(|role| session(&role.session_name)) {
            return Some(format!(
                "a session_name of {label} is not 2 to 64 of A-Z a-z 0-9 _ + = , . @ -; shorten it"
            ));
        }
        if self.name.as_deref().is_some_and(|name| name.is_empty() || name.contains('/')) {
            return Some(format!(
                "the name {label:?} has a slash or nothing in it; write for example production"
            ));
        }
        None
    }
}

fn is_account(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    matches!(parts[..], ["arn", partition, "iam", "", account, role]
        if !partition.is_empty() && is_account(account) && role.starts_with("role/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(arn: &str) -> Role {
        Role { arn: arn.into(), external_id: None, session_name: session_name() }
    }

    #[test]
    fn an_account_is_known_by_its_last_role() {
        let roles = vec![role("arn:aws:iam::111111111111:role/a"), role("arn:aws:iam::222222222222:role/b")];
        let account = Account { roles, ..Account::default() };
        assert_eq!(account.known_id(), Some("222222222222"));
        assert_eq!(Account { id: Some("333333333333".into()), ..account }.known_id(), Some("333333333333"));
        assert_eq!(Account::default().known_id(), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let account = Account::default;
        let secret = || Some(Secret::new("s3cret"));
        let key = || Some("AKIA".to_owned());
        for (bad, word) in [
            (Account { access_key_id: key(), ..account() }, "half an access key"),
            (Account { session_token: secret(), ..account() }, "session_token alone"),
            (
                Account {
                    profile: Some("p".into()),
                    access_key_id: key(),
                    secret_access_key: secret(),
                    ..account()
                },
                "more than one way",
            ),
            (Account { id: Some("12".into()), ..account() }, "12 digits"),
            (Account { roles: vec![role("arn:aws:iam::1:user/x")], ..account() }, "no ARN of a role"),
        ] {
            let wrong = Config { accounts: vec![bad], ..Config::default() }.wrong();
            assert!(wrong.iter().any(|(_, reason)| reason.contains(word)), "{word}: {wrong:?}");
            assert!(!format!("{wrong:?}").contains("s3cret"));
        }
        let twice = vec![Account { id: Some("111111111111".into()), ..account() }; 2];
        assert!(Config { accounts: twice, ..Config::default() }.wrong()[0].1.contains("named twice"));
        let regions = Config { regions: vec!["EU West".into()], ..Config::default() };
        assert!(regions.wrong()[0].1.contains("is no region"));
        assert_eq!(Config { regions: vec!["eu-west-1".into()], ..Config::default() }.wrong(), []);
    }
}
