import sys
from pathlib import Path

# So that infra.local can be imported, which knows how the local cloud is reached.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
