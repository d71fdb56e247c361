import sys
from pathlib import Path

# For infra.local, which knows how the local cloud is reached.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
