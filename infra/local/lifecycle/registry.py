"""Shows which instances of each service are registered in Cloud Map, where callers look them up."""

from typing import Any

from infra.local.progress import console
from infra.local.settings import client

NAMESPACE = "madang"


def show() -> None:
    console.print("\nRegistered services")
    for service, instances in sorted(read().items()):
        for name, attributes in sorted(instances.items()):
            function = attributes.get("function_arn", "").rsplit(":", 1)[-1]
            line = f"  {service:<15}{name:<10}{attributes.get('url', ''):<52}{function}"
            console.print(line.rstrip(), markup=False)


def read() -> dict[str, dict[str, dict[str, str]]]:
    """The attributes of the registered instances, by service name and instance id."""
    cloud_map = client("servicediscovery")
    found = {}
    for page in cloud_map.get_paginator("list_services").paginate(Filters=[_of_the_namespace(cloud_map)]):
        for service in page["Services"]:
            pages = cloud_map.get_paginator("list_instances").paginate(ServiceId=service["Id"])
            instances = [instance for page in pages for instance in page["Instances"]]
            found[service["Name"]] = {instance["Id"]: instance["Attributes"] for instance in instances}
    return found


def namespace(cloud_map: Any) -> str:
    """The id of the services' namespace."""
    pages = cloud_map.get_paginator("list_namespaces").paginate()
    [found] = [each["Id"] for page in pages for each in page["Namespaces"] if each["Name"] == NAMESPACE]
    return found


def _of_the_namespace(cloud_map: Any) -> dict[str, Any]:
    return {"Name": "NAMESPACE_ID", "Values": [namespace(cloud_map)], "Condition": "EQ"}
