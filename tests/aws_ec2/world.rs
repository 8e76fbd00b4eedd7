//! An EC2 with one instance, and with what goes wrong.

use std::collections::BTreeSet;

use super::WEB;
use super::told_ec2::{Answer, Asked};

/// One instance, and what goes wrong with it.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) state: &'static str,
    pub(super) reason: &'static str,
    pub(super) kind: String,
    pub(super) hibernation: bool,
    /// How often it is not found before EC2 knows of it.
    pub(super) unknown: usize,
    /// The token that it was made with.
    pub(super) token: Option<String>,
    /// A type that there is no room for.
    pub(super) full: &'static str,
    /// It hears no request to stop.
    pub(super) deaf: bool,
    /// What may not be done: an action, or what one says.
    pub(super) denied: &'static str,
    /// How often is throttled.
    pub(super) throttled: usize,
    /// A type whose instances stop as soon as they are started.
    pub(super) stillborn: &'static str,
    /// What EC2 refuses to do to it: `TerminateInstances`, `StopInstances`.
    pub(super) guarded: BTreeSet<&'static str>,
    /// The devices that it was made with.
    pub(super) devices: Vec<String>,
}

impl World {
    pub(super) fn running() -> Self {
        Self { state: "running", kind: "t3.micro".into(), ..Self::default() }
    }

    fn instance(&self) -> String {
        let (state, reason, kind, hibernation) = (self.state, self.reason, &self.kind, self.hibernation);
        // The image brings a disk of its own, whose name comes after all others.
        let devices = self.devices.iter().map(String::as_str).chain(["/dev/sdz"]);
        let disk = |device: &str| {
            let volume = device.trim_start_matches("/dev/");
            format!(
                "<item><deviceName>{device}</deviceName><ebs><volumeId>vol-{volume}</volumeId></ebs></item>"
            )
        };
        let disks: String = devices.map(disk).collect();
        format!(
            "<item><instanceId>{WEB}</instanceId><imageId>ami-1</imageId><instanceState><code>0</code><name>{state}</name>\
             </instanceState><stateReason><code>{reason}</code><message>{reason}</message></stateReason>\
             <instanceType>{kind}</instanceType><architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType>\
             <blockDeviceMapping>{disks}</blockDeviceMapping><hibernationOptions><configured>{hibernation}</configured></hibernationOptions>\
             <tagSet><item><key>Name</key><value>web</value></item></tagSet></item>"
        )
    }

    pub(super) fn answer(&mut self, action: &str, asked: &Asked) -> Answer {
        if self.throttled > 0 {
            self.throttled -= 1;
            return Err("RequestLimitExceeded");
        }
        if self.denied == action || asked.contains_key(self.denied) {
            return Err("UnauthorizedOperation");
        }
        if asked.get("DryRun").is_some_and(|dry| dry == "true") {
            return Err("DryRunOperation");
        }
        match action {
            "DescribeInstances" => {
                let named = asked.contains_key("InstanceId.1");
                if named && (self.unknown > 0 || asked["InstanceId.1"] != WEB) {
                    self.unknown = self.unknown.saturating_sub(1);
                    return Err("InvalidInstanceID.NotFound");
                }
                // Tags of what was just made are seen later.
                let seen = named && !self.state.is_empty();
                let found = if seen { self.instance() } else { String::new() };
                if self.state == "pending" && self.kind == self.stillborn {
                    (self.state, self.reason) = ("stopped", "Server.InsufficientInstanceCapacity");
                } else if self.state == "pending" && named {
                    self.state = "running";
                }
                let set = format!("<item><instancesSet>{found}</instancesSet></item>");
                Ok(format!("<reservationSet>{}</reservationSet>", if seen { set } else { String::new() }))
            }
            "DescribeInstanceTypes" => {
                let one = |name: &str| {
                    format!(
                        "<item><instanceType>{name}</instanceType><processorInfo><supportedArchitectures><item>x86_64</item>\
                         </supportedArchitectures></processorInfo><vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo>\
                         <memoryInfo><sizeInMiB>1024</sizeInMiB></memoryInfo><hibernationSupported>true</hibernationSupported>\
                         </item>"
                    )
                };
                let names = asked.iter().filter(|(name, _)| name.starts_with("Filter.1.Value."));
                let all: String = names.map(|(_, name)| one(name)).collect();
                Ok(format!("<instanceTypeSet>{all}</instanceTypeSet>"))
            }
            "DescribeImages" => {
                Ok("<imagesSet><item><imageId>ami-1</imageId><architecture>x86_64</architecture>\
                 <rootDeviceName>/dev/xvda</rootDeviceName></item></imagesSet>"
                    .into())
            }
            "DescribeSubnets" => {
                Ok("<subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId></item></subnetSet>"
                    .into())
            }
            "RunInstances" => {
                let token = asked["ClientToken"].clone();
                if self.token.get_or_insert_with(|| token.clone()) != &token {
                    return Err("IdempotentParameterMismatch");
                }
                if self.state.is_empty() {
                    self.state = "pending";
                    self.kind = asked["InstanceType"].clone();
                    let device = |(name, value): (&String, &String)| {
                        name.ends_with(".DeviceName").then(|| value.clone())
                    };
                    self.devices = asked.iter().filter_map(device).collect();
                }
                Ok(format!("<instancesSet>{}</instancesSet>", self.instance()))
            }
            "StartInstances" if self.kind == self.full => Err("InsufficientInstanceCapacity"),
            "StartInstances" if self.kind == self.stillborn => {
                self.state = "pending";
                Ok(String::new())
            }
            "StopInstances" | "TerminateInstances" if self.guarded.contains(action) => {
                Err("OperationNotPermitted")
            }
            "TerminateInstances" => {
                self.state = "terminated";
                Ok(String::new())
            }
            "DescribeInstanceAttribute" => {
                let is = |action| self.guarded.contains(action);
                Ok(match asked["Attribute"].as_str() {
                    "disableApiTermination" => {
                        let set = is("TerminateInstances");
                        format!("<disableApiTermination><value>{set}</value></disableApiTermination>")
                    }
                    _ => format!("<disableApiStop><value>{}</value></disableApiStop>", is("StopInstances")),
                })
            }
            "StartInstances" => {
                (self.state, self.reason) = ("running", "");
                Ok(String::new())
            }
            "StopInstances" => {
                let is = |name: &str| asked.get(name).is_some_and(|value| value == "true");
                self.state = if self.deaf && !is("Force") { "stopping" } else { "stopped" };
                self.reason = if is("Hibernate") {
                    "Client.UserInitiatedHibernate"
                } else {
                    "Client.UserInitiatedShutdown"
                };
                Ok(String::new())
            }
            "ModifyInstanceAttribute" => {
                if let Some(kind) = asked.get("InstanceType.Value") {
                    self.kind.clone_from(kind);
                }
                let mut guard = |value: &str, action: &'static str| match asked.get(value).map(String::as_str)
                {
                    Some("true") => drop(self.guarded.insert(action)),
                    Some(_) => drop(self.guarded.remove(action)),
                    None => {}
                };
                guard("DisableApiTermination.Value", "TerminateInstances");
                guard("DisableApiStop.Value", "StopInstances");
                Ok(String::new())
            }
            "ModifyVolume" => Err("VolumeModificationRateExceeded"),
            "DescribeVolumes" => {
                Ok("<volumeSet><item><volumeId>vol-1</volumeId><size>1</size></item></volumeSet>".into())
            }
            _ => Ok(String::new()),
        }
    }
}
