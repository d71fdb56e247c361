"""Where things are and how the local cloud is reached."""

import os
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
STATE = LOCAL / "state"
ARTIFACTS = ROOT / "target" / "lambda"
OUTPUTS = LOCAL / "outputs.json"
LOGS = LOCAL / "logs"
TRACE_FILE = LOCAL / "traces" / "spans.sqlite3"
CLOUD_LOG = LOCAL / "ministack.log"
SAM = LOCAL / "sam" / "bin" / "sam"
TOOLS = LOCAL / "venv" / "bin"

HOST = "127.0.0.1"
PORT = int(os.environ.get("MADANG_PORT", "4566"))
ENDPOINT = f"http://{HOST}:{PORT}"
# Spans are received by UDP and shown by HTTP.
TRACE_PORT = PORT + 1
TRACE_URL = f"http://{HOST}:{TRACE_PORT}"
REGION = "us-east-1"
BUCKET = "madang-artifacts"
# By the tag `ms-custom-id` in infra/platform.yaml.
API_ID = "5c0ffee5"

# The emulator's root account.
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Trouble(Exception):
    """Something a person can act on; its text is one clear sentence."""


def environment() -> dict[str, str]:
    """This process's environment without any AWS account of its owner, pointed at the local cloud."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | AWS_ENVIRONMENT


def client(service: str):
    return boto3.client(service)


# boto3 here, and every program started from here, sees the local cloud only.
os.environ.update(environment())
for name in [name for name in os.environ if name.startswith("AWS_") and name not in AWS_ENVIRONMENT]:
    del os.environ[name]
