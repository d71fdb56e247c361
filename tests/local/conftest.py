import sys
from pathlib import Path

# So that infra.local can be imported, whatever directory the tests are started from.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
