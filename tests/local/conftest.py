import sys
from pathlib import Path

# For infra.local, whatever directory the tests are started from.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
