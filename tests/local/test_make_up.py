"""The templates and ports that `make up` refuses before it starts anything, each with a clear message."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import settings
from infra.local.lifecycle import lint, stacks
from infra.local.settings import CommandError

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = """
Resources:
  Topic: {Type: AWS::SNS::Topic}
Outputs:
  TopicArn: {Value: !Ref Topic}
"""
POSTS = """
Parameters:
  TopicArn: {Type: String}
  LogLevel: {Type: String, Default: info}
Resources:
  PostsGet:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ../target/lambda/posts-get/bootstrap.zip}
"""
TEMPLATE = """
Parameters:
  LogLevel: {Type: String, Default: info}
Resources:
  Platform:
    Type: AWS::CloudFormation::Stack
    Properties: {TemplateURL: infra/platform.yaml}
  Posts:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: infra/posts.yaml
      Parameters:
        TopicArn: !GetAtt Platform.Outputs.TopicArn
        LogLevel: !Ref LogLevel
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a valid root template and two valid stacks."""
    monkeypatch.setattr(stacks, "ROOT", tmp_path)
    monkeypatch.setattr(stacks, "ROOT_TEMPLATE", tmp_path / "template.yaml")
    monkeypatch.setattr(stacks, "ARTIFACTS", tmp_path / "target" / "lambda")
    (tmp_path / "infra").mkdir()
    for name, text in {"template": TEMPLATE, "infra/platform": PLATFORM, "infra/posts": POSTS}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def error_message():
    with pytest.raises(CommandError) as error:
        stacks.check_uploads(stacks.read(), ["posts-get"])
    return str(error.value)


def test_valid_templates_are_accepted(repository):
    read = stacks.read()
    stacks.check_uploads(read, ["posts-get"])
    assert [(stack.name, sorted(stack.depends_on)) for stack in read] == [
        ("madang-platform", []),
        ("madang-posts", ["Platform"]),
    ]


@pytest.mark.parametrize(
    ("template", "text", "words"),
    [
        # Errors in the YAML have a line and a column.
        (
            "infra/posts",
            "Resources:\n  A: {Type: B}\n C: D\n",
            "infra/posts.yaml:3:2 is not YAML: while parsing a block",
        ),
        ("infra/posts", "Resources:\n\tA: B\n", "infra/posts.yaml:2:1 is not YAML: while scanning for the next token"),
        ("template", "Resources: [\n", "template.yaml:2:1 is not YAML: while parsing a flow node"),
        ("infra/posts", "", "infra/posts.yaml is empty: it needs `Resources`."),
        ("infra/posts", "# nothing yet\n", "infra/posts.yaml is empty: it needs `Resources`."),
        ("infra/posts", "text\n", "infra/posts.yaml is not a template: it needs `Resources`."),
        ("infra/posts", "Parameters: {}\n", "infra/posts.yaml has no `Resources`: there is nothing to deploy."),
        ("infra/posts", "Resources:\n", "infra/posts.yaml has no `Resources`: there is nothing to deploy."),
        ("infra/posts", "Resources: {A: {}}\n", "infra/posts.yaml: the resource A has no `Type`."),
        ("infra/posts", "Resources: {A: {Type: B}}\nOutputs: []\n", "`Outputs` has to be a mapping."),
    ],
)
def test_an_invalid_template_is_refused_with_its_file_and_line(repository, template, text, words):
    (repository / f"{template}.yaml").write_text(text)
    assert words in error_message()


@pytest.mark.parametrize(
    ("template", "old", "new", "words"),
    [
        ("template", "infra/posts.yaml", "infra/post.yaml", "infra/post.yaml is missing."),
        ("template", "TemplateURL: infra/posts.yaml", "Timeout: 1", "Posts names no template. Add the property"),
        (
            "template",
            "Outputs.TopicArn",
            "Outputs.Topic",
            "the parameter TopicArn of Posts is !GetAtt Platform.Outputs.Topic, but the template of Platform has no",
        ),
        ("template", "Platform.Outputs", "Platfrom.Outputs", "Posts depends on Platfrom, which is no stack."),
        ("template", "!Ref LogLevel", "!Ref LogLeve", "LogLevel of Posts is !Ref LogLeve, which is not a parameter of"),
        ("template", "!Ref LogLevel", "!Sub x", "LogLevel of Posts is {'Fn::Sub': 'x'}, which `make up` does not"),
        (
            "template",
            "LogLevel: !Ref",
            "LogLvel: !Ref",
            "template.yaml passes LogLvel to Posts, but infra/posts.yaml declares no such parameter.",
        ),
        (
            "infra/posts",
            "  LogLevel: {Type: String, Default: info}\n",
            "  LogLevel: {Type: String}\n  Missing: {Type: String}\n",
            "infra/posts.yaml needs the parameter Missing, which template.yaml does not pass to Posts.",
        ),
        (
            "template",
            "LogLevel: {Type: String, Default: info}",
            "LogLevel: {Type: String}",
            "template.yaml: the parameter LogLevel needs a default, which `make up` uses.",
        ),
        (
            "template",
            "infra/platform.yaml}",
            "infra/platform.yaml}\n    DependsOn: Posts",
            "the stacks depend on each other in a cycle: ",
        ),
        (
            "infra/posts",
            "posts-get/",
            "posts-gte/",
            "infra/posts.yaml: PostsGet has the CodeUri ../target/lambda/posts-gte/bootstrap.zip, but no crate in "
            "functions/ has a binary called posts-gte.",
        ),
        (
            "infra/posts",
            "../target/lambda/posts-get/bootstrap.zip",
            "saga.json",
            "infra/posts.yaml: PostsGet has the CodeUri saga.json, but infra/saga.json does not exist.",
        ),
    ],
)
def test_inconsistent_templates_are_refused_with_the_names_that_do_not_match(repository, template, old, new, words):
    file = repository / f"{template}.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert words in error_message()


@pytest.mark.parametrize("text", ["4566x", "0", "-1", "70000", "65535", "1023", "4566.0", "٤٥٦٦", "1" * 50, " 4566"])
def test_an_invalid_port_is_refused(text):
    with pytest.raises(CommandError, match=r"Use a port from 1024 to 65534"):
        settings.port(text)


def test_a_port_is_accepted_if_the_next_one_exists():
    assert [settings.port(text) for text in ("1024", "4566", "65534")] == [1024, 4566, 65534]


def test_a_command_with_an_invalid_port_prints_only_the_error():
    command = [sys.executable, "-m", "infra.local", "up"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MADANG_PORT": "4566x"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("MADANG_PORT is “4566x”. Use a port from 1024 to 65534, for example MADANG_PORT=4566.\n")


FUNCTION = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Bus: {Type: String, Default: bus}
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
  PostsGet:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Handler: bootstrap
      CodeUri: ../target/lambda/posts-get/bootstrap.zip
      Environment:
        Variables:
          TABLE: !Ref Table
      Policies:
        - Statement:
            - Effect: Allow
              Action: dynamodb:GetItem
              Resource: !GetAtt Table.Arn
            - Effect: Allow
              Action: events:PutEvents
              Resource: !Sub arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/${Bus}
Outputs:
  TableArn: {Value: !GetAtt Table.Arn}
"""


def findings(repository, old, new):
    assert old in FUNCTION
    template = repository / "infra" / "posts.yaml"
    template.write_text(FUNCTION.replace(old, new, 1))
    return lint.findings(template)


def test_a_template_without_dangling_references_has_no_findings(repository):
    assert findings(repository, "Table", "Table") == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "!Ref Table",
            "!Ref Tabel",
            "20: PostsGet: !Ref Tabel refers to something that does not exist; did you mean Table?",
        ),
        # In the policies of a function, which cfn-lint checks only after SAM has turned them into a role.
        ("!GetAtt Table.Arn", "!GetAtt Tabel.Arn", "25: PostsGet: !GetAtt Tabel.Arn refers to something"),
        ("!GetAtt Table.Arn", "!GetAtt Table.Arm", "25: PostsGet: !GetAtt Table.Arm refers to something"),
        ("${Bus}", "${Buss}", "event-bus/${Buss} refers to something that does not exist; did you mean Bus?"),
        ("Value: !GetAtt Table.Arn", "Value: !GetAtt Table.Arm", "30: TableArn: "),
        ("Type: AWS::Serverless::Function", "Type: AWS::Serverless::Function\n    DependsOn: Tabel", "Tabel"),
        ("Handler: bootstrap", "Hander: bootstrap", "PostsGet"),
        ("  Table:\n", "  PostsGet: {}\n  Table:\n", "Duplicate found 'PostsGet'"),
    ],
)
def test_a_dangling_reference_is_reported_with_its_file_line_and_resource(repository, old, new, words):
    lines = findings(repository, old, new)
    assert lines and all(line.startswith("infra/posts.yaml") for line in lines)
    assert any(words in line for line in lines), lines


def test_a_template_is_linted_again_only_if_it_has_changed(repository, monkeypatch):
    linted = []
    monkeypatch.setattr(lint, "CACHE", repository / "linted.json")
    monkeypatch.setattr(lint, "findings", lambda template: linted.append(template.name) or [])
    templates = [repository / "infra" / "platform.yaml", repository / "infra" / "posts.yaml"]
    assert [lint.check(templates), lint.check(templates)] == [2, 0]
    templates[1].write_text(POSTS + "\n")
    assert lint.check(templates) == 1
    assert linted == ["platform.yaml", "posts.yaml", "posts.yaml"]


def test_a_template_with_findings_is_refused_every_time(repository, monkeypatch):
    monkeypatch.setattr(lint, "CACHE", repository / "linted.json")
    monkeypatch.setattr(lint, "findings", lambda template: [f"{template.name}: wrong"])
    for _ in range(2):
        with pytest.raises(CommandError, match=r"posts.yaml: wrong\nNothing was deployed."):
            lint.check([repository / "infra" / "posts.yaml"])
