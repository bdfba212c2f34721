from dsbranch._core.table import Table

class Base(Table):
    def __init__(self, path: bytes, *, dialect: str = "trusted") -> None: ...
