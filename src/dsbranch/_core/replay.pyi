from dsbranch._core.merge import Merge
from dsbranch._core.squash import Step

def replay(merge: Merge, *, dialect: str = "trusted") -> tuple[list[Step], dict[str, int]]: ...
