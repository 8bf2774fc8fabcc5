"""The Extinction Protocol Agent: a kill switch that heals."""

__version__ = "0.1.0"


class EpadError(Exception):
    """Something that did not work: what it is, where, and what to do about it, in words for a person.

    The root of every room's errors; it stands here since everything imports this anyway. `where` and `fix` may be
    empty. As text it is all three.
    """

    def __init__(self, what: str = "", fix: str = "", *, where: str = "") -> None:
        self.what = f"{where}: {what}" if where else what
        self.fix = fix
        super().__init__(f"{self.what}; {fix}" if fix else self.what)
