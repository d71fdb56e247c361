"""Generates requests: valid ones with one to three defects."""

import random
from dataclasses import dataclass

from infra.local.develop.raw.defects import DEFECTS, STAGES, Defect
from infra.local.develop.raw.description import Description
from infra.local.develop.raw.draft import Draft, World, valid
from infra.local.develop.raw.wire import Message

# One request of so many has a defect that usually keeps it from reaching a function.
BLOCKED = 9
MOST_DEFECTS = 3
STRIDE = 7


@dataclass(frozen=True)
class Request:
    """A generated request."""

    number: int
    draft: Draft
    defects: tuple[Defect, ...]
    message: Message

    @property
    def title(self) -> str:
        return f"{self.draft.operation.title}, {', '.join(defect.name for defect in self.defects)}"


def request(description: Description, world: World, seed: int, number: int) -> Request:
    """The request with this number. It depends only on the seed, the number and the arguments.

    Operations take turns, and at each operation so do the defects that its requests can have. The other defects of a
    request are random."""
    choice = random.Random(f"{seed}:{number}")
    rounds, operation = divmod(number, len(description.operations))
    draft = valid(description.operations[operation], world, choice)
    blocked = (rounds + operation) % BLOCKED == 0
    possible = [defect for defect in DEFECTS if defect.blocking == blocked and defect.applies(draft)]
    # Operations begin at different defects, so that few rounds are enough for all.
    turn = operation * STRIDE + (rounds // BLOCKED if blocked else rounds)
    defects = [possible[turn % len(possible)]]
    for _ in range(choice.randrange(MOST_DEFECTS)):
        used = {defect.stage for defect in defects}
        others = [defect for defect in DEFECTS if not defect.blocking and defect.stage not in used]
        defects.append(choice.choice([defect for defect in others if defect.applies(draft)]))
    defects.sort(key=lambda defect: STAGES.index(defect.stage))
    for defect in defects:
        defect.change(draft, choice)
    return Request(number, draft, tuple(defects), draft.write())
