"""EC2: launch templates."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud, from_tag_list, to_tag_list
from lab.providers.aws.ec2 import Ec2Type
from lab.providers.aws.rules import known, matches
from lab.providers.errors import Failure
from lab.providers.naming import Naming

_RECORDED: Final = {
    "capacityReservationSpecification": {
        "capacityReservationPreference": "CapacityReservationPreference",
        "capacityReservationTarget": "CapacityReservationTarget",
    },
    "monitoring": {"enabled": "Enabled"},
    "metadataOptions": {
        "httpEndpoint": "HttpEndpoint",
        "httpTokens": "HttpTokens",
        "httpPutResponseHopLimit": "HttpPutResponseHopLimit",
        "httpProtocolIpv6": "HttpProtocolIpv6",
        "instanceMetadataTags": "InstanceMetadataTags",
    },
}
_SCALARS: Final = {
    "imageId": "ImageId",
    "instanceType": "InstanceType",
    "keyName": "KeyName",
    "userData": "UserData",
    "ebsOptimized": "EbsOptimized",
    "vpcSecurityGroupIds": "SecurityGroupIds",
}
_DISK: Final = {
    "volumeSize": "VolumeSize",
    "volumeType": "VolumeType",
    "encrypted": "Encrypted",
    "iops": "Iops",
    "throughput": "Throughput",
    "kmsKeyId": "KmsKeyId",
    "deleteOnTermination": "DeleteOnTermination",
}


class LaunchTemplate(Ec2Type):
    """How nodes are launched; each change is a new version."""

    type_name = "aws:ec2/launchTemplate:LaunchTemplate"
    describe = ("describe_launch_templates", "LaunchTemplateIds", "LaunchTemplates")
    naming = Naming(longest=125, instead=("namePrefix",))
    replace_on = ("name", "namePrefix", "region")
    in_place = (
        *_SCALARS,
        *(f"{name}.{field}" for name, fields in _RECORDED.items() for field in fields),
        *_RECORDED,
        "blockDeviceMappings",
        "tagSpecifications",
        "description",
        "defaultVersion",
        "updateDefaultVersion",
    )
    blank: ClassVar = {
        "namePrefix": "",
        "metadataOptions": {
            "httpEndpoint": "",
            "httpTokens": "",
            "httpPutResponseHopLimit": 0,
            "httpProtocolIpv6": "",
            "instanceMetadataTags": "",
        },
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "name", r"[a-zA-Z0-9().\-/_]{3,125}", "template names have 3 to 125 such characters")
        options = inputs.get("metadataOptions")
        tokens = options.get("httpTokens") if isinstance(options, dict) else None
        if known(tokens) and tokens not in {"optional", "required"}:
            path = "metadataOptions.httpTokens"
            yield Failure(path, f"{path} is {tokens!r}; allowed are optional, required: choose one of them")
        data = inputs.get("userData")
        if known(data):
            try:
                base64.b64decode(str(data), validate=True)
            except binascii.Error:
                yield Failure("userData", "userData is not base64; the API takes it encoded: use base64.b64encode")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        answer = cloud.client("ec2").create_launch_template(
            LaunchTemplateName=inputs["name"],
            VersionDescription=inputs.get("description") or "",
            LaunchTemplateData=_data(inputs),
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": to_tag_list(tags)}],
        )
        identity: str = answer["LaunchTemplate"]["LaunchTemplateId"]
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        return found and {
            "arn": cloud.arn("ec2", f"launch-template/{identity}"),
            "name": found["LaunchTemplateName"],
            "defaultVersion": int(found["DefaultVersionNumber"]),
            "latestVersion": int(found["LatestVersionNumber"]),
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        client = cloud.client("ec2")
        if _data(old) != _data(new) or old.get("description") != new.get("description"):
            client.create_launch_template_version(
                LaunchTemplateId=identity,
                VersionDescription=new.get("description") or "",
                LaunchTemplateData=_data(new),
            )
        latest = int((self.live(cloud, identity) or {})["LatestVersionNumber"])
        wanted = latest if new.get("updateDefaultVersion") else new.get("defaultVersion")
        if wanted is not None:
            client.modify_launch_template(LaunchTemplateId=identity, DefaultVersion=str(wanted))

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_launch_template(LaunchTemplateId=identity)


def _data(inputs: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {wire: inputs[name] for name, wire in _SCALARS.items() if inputs.get(name)}
    if "EbsOptimized" in data:
        data["EbsOptimized"] = data["EbsOptimized"] == "true"
    for name, fields in _RECORDED.items():
        given = inputs.get(name)
        if given:
            data[name[0].upper() + name[1:]] = {wire: given[key] for key, wire in fields.items() if key in given}
    disks = []
    for disk in inputs.get("blockDeviceMappings") or []:
        ebs = disk.get("ebs") or {}
        wire_ebs = {wire: _flag(ebs[key]) for key, wire in _DISK.items() if ebs.get(key) is not None}
        disks.append({"DeviceName": disk.get("deviceName") or "/dev/xvda", "Ebs": wire_ebs})
    if disks:
        data["BlockDeviceMappings"] = disks
    specifications = [
        {"ResourceType": item["resourceType"], "Tags": to_tag_list(item.get("tags") or {})}
        for item in inputs.get("tagSpecifications") or []
    ]
    if specifications:
        data["TagSpecifications"] = specifications
    return data


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


TYPES: Final = (LaunchTemplate,)
