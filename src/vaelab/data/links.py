"""Links in a folder of data: those that lead out of the folder are refused, unless the user says that they are to be followed."""

from __future__ import annotations

import os
from typing import NamedTuple

from vaelab.errors import DataError


class Links(NamedTuple):
    """The real path of the folder that links must not leave, and whether they may."""

    root: str
    follow: bool = False

    def expect_inside(self, link: str) -> None:
        """Raise `DataError` if a link leads out of the folder."""
        target = os.path.realpath(link)
        if not self.follow and target != self.root and not target.startswith(os.path.join(self.root, "")):  # noqa: PTH118
            raise DataError(
                f"{link}: got a link to {target}, outside of {self.root}; expected links within it; if you trust the folder, "
                "pass `follow_links=True`"
            )
