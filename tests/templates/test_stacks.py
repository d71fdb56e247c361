"""The root template, the stacks on their own and samconfig.toml agree on parameters, outputs and files."""

import pytest
from stacks import ROOT, ROOT_TEMPLATE, SERVICES, STACKS, label, read, target

from infra.local.lifecycle import stacks as local

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT_STACK = read(ROOT_TEMPLATE)
NESTED = {
    (ROOT / resource["Properties"]["TemplateURL"]).stem: resource
    for resource in ROOT_STACK["Resources"].values()
    if resource["Type"] == "AWS::CloudFormation::Stack"
}
CONFIG = {
    environment: commands["deploy"]["parameters"]
    for environment, commands in tomllib.loads((ROOT / "samconfig.toml").read_text()).items()
    if environment != "version"
}


def overrides(environment):
    return dict(pair.split("=", 1) for pair in CONFIG[environment].get("parameter_overrides", []))


def passed_to(stack):
    return NESTED[stack]["Properties"].get("Parameters", {})


def test_the_root_template_has_every_stack():
    assert set(NESTED) == set(STACKS)
    assert len(NESTED) == len(ROOT_STACK["Resources"])


@pytest.mark.parametrize("stack", STACKS.values(), ids=label)
def test_the_root_template_passes_every_parameter_that_is_not_read_from_ssm(stack):
    passed = passed_to(stack.name)
    from_ssm = {name for name, declared in stack.parameters.items() if declared["Type"].startswith("AWS::SSM::")}
    assert set(passed) == set(stack.parameters) - from_ssm
    for name, value in passed.items():
        assert value == {"Ref": name}, "a parameter has to have the same name in the root template"
        assert ROOT_STACK["Parameters"][name]["Default"] == stack.parameters[name]["Default"], name
        for rule in ("AllowedValues", "MinValue", "MaxValue"):
            assert ROOT_STACK["Parameters"][name].get(rule) == stack.parameters[name].get(rule), f"{name}: {rule}"


def test_every_parameter_of_the_root_template_is_passed_on():
    passed = {name for nested in NESTED for name in passed_to(nested)}
    assert passed == set(ROOT_STACK["Parameters"])


@pytest.mark.parametrize("stack", STACKS.values(), ids=label)
def test_a_parameter_has_a_default_and_a_description(stack):
    for name, declared in stack.parameters.items():
        assert "Default" in declared, name
        assert declared["Description"].endswith("."), name


@pytest.mark.parametrize("stack", [*SERVICES.values(), STACKS["observability"]], ids=label)
def test_a_service_depends_on_the_platform_and_reads_only_parameters_that_it_publishes(stack):
    published = {p["Name"] for p in STACKS["platform"].of_type("AWS::SSM::Parameter").values()}
    required = {p["Default"] for p in stack.parameters.values() if p["Type"] == "AWS::SSM::Parameter::Value<String>"}
    assert required and required <= published
    assert NESTED[stack.name]["DependsOn"] == "Platform"


def test_every_output_of_the_platform_is_also_a_parameter():
    platform = STACKS["platform"]
    values = [output["Value"] for output in platform.template["Outputs"].values()]
    published = [parameter["Value"] for parameter in platform.of_type("AWS::SSM::Parameter").values()]
    assert sorted(map(str, values)) == sorted(map(str, published))


def test_every_output_of_a_stack_is_also_an_output_of_the_root_template():
    expected = {
        name: (stack.name.title().replace("-", ""), f"Outputs.{name}", output["Description"])
        for stack in STACKS.values()
        for name, output in stack.template.get("Outputs", {}).items()
    }
    found = {
        name: (*as_attribute(output["Value"]), output["Description"]) for name, output in ROOT_STACK["Outputs"].items()
    }
    assert found == expected


def as_attribute(value):
    """The two parts of a GetAtt in either of its forms."""
    attribute = value["Fn::GetAtt"]
    return tuple(attribute) if isinstance(attribute, list) else tuple(attribute.split(".", 1))


@pytest.mark.parametrize("stack", STACKS.values(), ids=label)
def test_make_up_deploys_the_same_stack_with_the_same_parameters(stack):
    [here] = [candidate for candidate in local.read() if candidate.template.stem == stack.name]
    assert here.parameters == passed_to(stack.name)
    assert set(local.resolve(here, {})) == set(here.parameters)
    assert here.name == CONFIG[stack.name]["stack_name"]


@pytest.mark.parametrize("environment", CONFIG)
def test_an_environment_deploys_an_existing_template_with_the_necessary_capabilities(environment):
    config = CONFIG[environment]
    expected = ROOT_TEMPLATE if environment in ("default", "dev", "prod") else ROOT / "infra" / f"{environment}.yaml"
    assert ROOT / config["template_file"] == expected
    assert expected.is_file()
    assert config["capabilities"] == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    assert config["resolve_s3"] is True


def test_there_is_an_environment_for_each_stack_and_for_the_root_template():
    assert set(CONFIG) == {"default", "dev", "prod"} | set(STACKS)
    assert CONFIG["default"] == CONFIG["dev"]


def test_production_is_protected_and_a_deployment_has_to_be_confirmed():
    assert CONFIG["prod"]["confirm_changeset"] is True
    production = overrides("prod")
    assert set(production) <= set(ROOT_STACK["Parameters"])
    assert (production["DeletionProtection"], production["PointInTimeRecovery"]) == ("true", "true")


def test_the_user_pool_survives_the_deletion_of_its_stack_and_can_be_protected():
    platform = STACKS["platform"]
    pool = platform.resources["UserPool"]
    assert pool["DeletionPolicy"] in ("Retain", "RetainExceptOnCreate")
    assert pool["UpdateReplacePolicy"] == "Retain"
    assert pool["Properties"]["DeletionProtection"] == {"Fn::If": ["ProtectFromDeletion", "ACTIVE", "INACTIVE"]}
    assert target(platform.resources["AdminGroup"]["Properties"]["UserPoolId"]) == "UserPool"
