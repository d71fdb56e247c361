"""Paths, ports and credentials: where files are kept and how the local cloud is reached."""

import os
from pathlib import Path
from typing import Any

import boto3


class CommandError(Exception):
    """A failure that the user can fix. The message says what is wrong and what to do; `main` prints it without a
    traceback."""


def port(text: str) -> int:
    """Parses `MADANG_PORT`. The port must need no privileges, and the next port must exist for the traces."""
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1024 <= int(text) <= 65534:
        return int(text)
    raise CommandError(f"MADANG_PORT is “{text}”. Use a port from 1024 to 65534, for example MADANG_PORT=4566.")


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
except CommandError as trouble:
    # This runs during import, before `main` can catch the error and print it.
    raise SystemExit(str(trouble)) from None
# Suggested in the message that PORT is taken.
ANOTHER_PORT = PORT + 100 if PORT < 65000 else PORT - 100
ENDPOINT = f"http://{HOST}:{PORT}"
# Spans are received by UDP and shown by HTTP.
TRACE_PORT = PORT + 1
TRACE_URL = f"http://{HOST}:{TRACE_PORT}"
REGION = "us-east-1"
BUCKET = "madang-artifacts"
# Set by the tag `ms-custom-id` in infra/platform.yaml.
API_ID = "5c0ffee5"

# Credentials of the emulator's root account.
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
    """This process's environment without the user's own AWS settings, pointed at the local cloud."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | AWS_ENVIRONMENT


def client(service: str) -> Any:
    """A boto3 client for the local cloud. It is untyped because botocore creates its methods at run time."""
    return boto3.client(service)


# What a command and its child processes write is for the owner only: pool keys, passwords and mails are among it.
os.umask(0o077)
# So that boto3 in this process, and every program that it starts, reaches only the local cloud.
os.environ.update(environment())
for name in [name for name in os.environ if name.startswith("AWS_") and name not in AWS_ENVIRONMENT]:
    del os.environ[name]
