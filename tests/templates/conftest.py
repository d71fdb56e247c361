import sys

from stacks import ROOT

# For infra.local, whose view of the stacks is compared with the root template's.
sys.path.insert(0, str(ROOT))
