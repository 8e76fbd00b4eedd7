//! What keeps a network from being deleted.

use super::*;

#[tokio::test]
async fn what_uses_a_network_is_named_whatever_it_is() {
    let ec2 = ToldEc2::start(|action, asked| {
        let item = |fields: &str| format!("<item>{fields}</item>");
        Ok(match action {
            "DescribeNetworkInterfaces" if asked.contains_key("NextToken") => format!(
                "<networkInterfaceSet>{}</networkInterfaceSet>",
                item(
                    "<networkInterfaceId>eni-2</networkInterfaceId><description>a load balancer</description>"
                )
            ),
            "DescribeNetworkInterfaces" => format!(
                "<networkInterfaceSet>{}</networkInterfaceSet><nextToken>more</nextToken>",
                item(
                    "<networkInterfaceId>eni-1</networkInterfaceId><attachment><instanceId>i-1</instanceId></attachment>"
                )
            ),
            "DescribeInstances" => return Err("UnauthorizedOperation"),
            "DescribeNatGateways" => {
                format!("<natGatewaySet>{}</natGatewaySet>", item("<natGatewayId>nat-1</natGatewayId>"))
            }
            "DescribeSubnets" => "<subnetSet/>".into(),
            "DescribeInternetGateways" => format!(
                "<internetGatewaySet>{}</internetGatewaySet>",
                item("<internetGatewayId>igw-1</internetGatewayId>")
            ),
            "DescribeEgressOnlyInternetGateways" => {
                let gateway = |id: &str, vpc: &str| {
                    item(&format!(
                        "<egressOnlyInternetGatewayId>{id}</egressOnlyInternetGatewayId><attachmentSet><item>\
                         <vpcId>{vpc}</vpcId></item></attachmentSet>"
                    ))
                };
                let all = [gateway("eigw-1", "vpc-1"), gateway("eigw-2", "vpc-2")].concat();
                format!("<egressOnlyInternetGatewaySet>{all}</egressOnlyInternetGatewaySet>")
            }
            "DescribeVpnGateways" => {
                format!("<vpnGatewaySet>{}</vpnGatewaySet>", item("<vpnGatewayId>vgw-1</vpnGatewayId>"))
            }
            "DescribeVpcEndpoints" => {
                format!("<vpcEndpointSet>{}</vpcEndpointSet>", item("<vpcEndpointId>vpce-1</vpcEndpointId>"))
            }
            "DescribeSecurityGroups" => {
                let group = |id: &str, name: &str| {
                    item(&format!("<groupId>{id}</groupId><groupName>{name}</groupName>"))
                };
                let all = [group("sg-1", "default"), group("sg-2", "web")].concat();
                format!("<securityGroupInfo>{all}</securityGroupInfo>")
            }
            "DescribeRouteTables" => {
                let table = |id: &str, main: &str| {
                    item(&format!(
                        "<routeTableId>{id}</routeTableId><associationSet><item><main>{main}</main></item></associationSet>"
                    ))
                };
                format!(
                    "<routeTableSet>{}</routeTableSet>",
                    [table("rtb-1", "true"), table("rtb-2", "false")].concat()
                )
            }
            "DescribeNetworkAcls" => {
                let list = |id: &str, default: &str| {
                    item(&format!("<networkAclId>{id}</networkAclId><default>{default}</default>"))
                };
                format!(
                    "<networkAclSet>{}</networkAclSet>",
                    [list("acl-1", "true"), list("acl-2", "false")].concat()
                )
            }
            "DescribeVpcPeeringConnections" if asked["Filter.1.Name"].starts_with("accepter") => format!(
                "<vpcPeeringConnectionSet>{}</vpcPeeringConnectionSet>",
                item("<vpcPeeringConnectionId>pcx-1</vpcPeeringConnectionId>")
            ),
            "DescribeVpcPeeringConnections" => "<vpcPeeringConnectionSet/>".into(),
            "DescribeVpcs" => format!(
                "<vpcSet>{}</vpcSet>",
                item("<vpcId>vpc-1</vpcId><tagSet><item><key>Name</key><value>lab</value></item></tagSet>")
            ),
            _ => return Err("InvalidAction"),
        })
    });
    let managed = managed(&ec2).await;
    let network = managed.client.scope().id(REGION, Kind::Network, "vpc-1").into();
    let error = prepare(&managed, &Action::DeleteNetwork { network }, None, None).await.unwrap_err();
    let said = error.chain();
    for used in [
        "lab (vpc-1)",
        "instance i-1",
        "interface eni-2, \"a load balancer\"",
        "NAT gateway nat-1",
        "internet gateway igw-1",
        "egress-only gateway eigw-1",
        "VPN gateway vgw-1",
        "endpoint vpce-1",
        "security group web (sg-2)",
        "route table rtb-2",
        "network ACL acl-2",
        "peering pcx-1",
    ] {
        assert!(said.contains(used), "{used}: {said}");
    }
    for other in ["eigw-2", "sg-1", "rtb-1", "acl-1", "eni-1"] {
        assert!(!said.contains(other), "{other}: {said}");
    }
    assert!(ec2.calls("DeleteVpc").is_empty());
}
