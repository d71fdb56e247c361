import sys
from pathlib import Path

# So that infra.local can be imported, which has the address of the local cloud.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
