"""Where things are and how the local cloud is reached."""

import os
from pathlib import Path
from typing import Any

import boto3


class Trouble(Exception):
    """Something a person can act on; its text is one clear sentence."""


def port(text: str) -> int:
    """The port that `MADANG_PORT` names: one that needs no privileges, with another one after it for the traces."""
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1024 <= int(text) <= 65534:
        return int(text)
    raise Trouble(f"MADANG_PORT is “{text}”, which is not a port from 1024 to 65534: MADANG_PORT=4566, for example.")


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
try:
    PORT = port(os.environ.get("MADANG_PORT") or "4566")
except Trouble as trouble:
    # While modules are still being imported: nobody else is there to word it.
    raise SystemExit(str(trouble)) from None
# For those who find it taken.
ANOTHER_PORT = PORT + 100 if PORT < 65000 else PORT - 100
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


def environment() -> dict[str, str]:
    """This process's environment without any AWS account of its owner, pointed at the local cloud."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | AWS_ENVIRONMENT


def client(service: str) -> Any:
    """A client of the local cloud. What it answers is not typed: botocore makes its methods while it runs."""
    return boto3.client(service)


# boto3 here, and every program started from here, sees the local cloud only.
os.environ.update(environment())
for name in [name for name in os.environ if name.startswith("AWS_") and name not in AWS_ENVIRONMENT]:
    del os.environ[name]
